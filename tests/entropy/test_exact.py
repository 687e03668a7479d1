"""One digest on every machine we can imitate: threads, instruction sets, libraries, batch sizes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .samples import SMALL, trained

DECODE = """
import sys
import numpy as np
from adcgs.entropy import EntropyConfig, SealedEntropyModel, sealed
folder, products, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
def read(name): return open(folder + "/" + name, "rb").read()
config = EntropyConfig.from_json(read("config"))
model = SealedEntropyModel.from_bytes(read("parameters"), config)
streams = {name: read(name) for name in config.components}
if batch: sealed.BATCH = batch
multiply = None
if products == "numpy":
    decoded = model.decompress(streams, 900)
    heavy = {"torch", "compressai", "numba", "open3d", "scipy"} & set(sys.modules)
    assert not heavy, heavy
else:
    from adcgs.entropy.fixedpoint import torch_products
    decoded = model.decompress(streams, 900, products=torch_products(products))
print(decoded.digest())
"""

VARIANTS = {
    "plain": ("numpy", 0, {}),
    "one thread": ("numpy", 0, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}),
    "one by one": ("numpy", 1, {}),
    "two threads": ("torch", 0, {"OMP_NUM_THREADS": "2"}),
    "old kernels": ("torch", 37, {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}),
    "sse": ("torch", 0, {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41", "TORCH_MKLDNN": "0"}),
    "plain openblas": ("numpy", 37, {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"}),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A model and its streams on disk, and the digest that the encoder announced."""
    model, features = trained()
    sealed = model.seal(features)
    coded = sealed.compress(features)
    folder = tmp_path_factory.mktemp("exact")
    (folder / "config").write_text(SMALL.to_json())
    (folder / "parameters").write_bytes(sealed.to_bytes())
    for name, data in coded.streams.items():
        (folder / name).write_bytes(data)
    return folder, coded.decoded.digest()


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_digest(file: tuple[Path, str], variant: str):
    folder, digest = file
    products, batch, settings = VARIANTS[variant]
    products = "cpu" if products == "torch" else products
    done = subprocess.run(
        [sys.executable, "-c", DECODE, str(folder), products, str(batch)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == digest
