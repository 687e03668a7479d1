"""One digest on every machine we can imitate: threads, instruction sets, libraries, batch sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .samples import SMALL, trained

CONFORMANCE = Path(__file__).parents[2] / "bitstream_spec" / "conformance"
NARROW = "AVX2 FMA3"
DECODE = """
import os
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
    import torch
    from adcgs.entropy.fixedpoint import torch_products
    if "WITHOUT_ONEDNN" in os.environ:
        torch.backends.mkldnn.enabled = False
        assert not torch.backends.mkldnn.enabled
    if "ATEN_CPU_CAPABILITY" in os.environ:
        assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
    decoded = model.decompress(streams, 900, products=torch_products(products))
print(decoded.digest())
"""

ONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
TWO = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
# What multiplies, how many anchors at once (0: all, in blocks of 4096; 900 are coded), what the libraries are told.
VARIANTS: dict[str, tuple[str, int, dict[str, str]]] = {
    "numpy": ("numpy", 0, {}),
    "numpy on one thread": ("numpy", 0, ONE),
    "numpy on two threads": ("numpy", 0, TWO),
    "numpy one by one": ("numpy", 1, {}),
    "numpy by 37": ("numpy", 37, {}),
    "numpy all at once": ("numpy", 900, {}),
    "numpy without wide vectors": ("numpy", 37, {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": NARROW}),
    "torch": ("cpu", 0, {}),
    "torch on one thread": ("cpu", 0, ONE),
    "torch on two threads": ("cpu", 0, TWO),
    "torch one by one": ("cpu", 1, {}),
    "torch by 37": ("cpu", 37, {}),
    "torch all at once": ("cpu", 900, {}),
    "torch with plain kernels": ("cpu", 37, {"ATEN_CPU_CAPABILITY": "default"}),
    "torch with MKL for any machine": ("cpu", 0, {"MKL_CBWR": "COMPATIBLE"}),
    "torch with MKL for old machines": ("cpu", 0, {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}),
    "torch without oneDNN": ("cpu", 0, {"WITHOUT_ONEDNN": "1"}),
    "torch with all of that": (
        "cpu",
        37,
        {**ONE, "ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "WITHOUT_ONEDNN": "1"},
    ),
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
    assert decode(folder, products, batch, settings) == digest


@pytest.mark.gpu
def test_same_digest_on_cuda(file: tuple[Path, str]):
    folder, digest = file
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert [decode(folder, "cuda", batch, {}) for batch in (0, 1, 37)] == [digest] * 3


def decode(folder: Path, products: str, batch: int, settings: dict[str, str]) -> str:
    """The digest that a process of its own gets."""
    words = [sys.executable, "-c", DECODE, str(folder), products, str(batch)]
    done = subprocess.run(words, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


EVERYTHING = {name: value for _, _, settings in VARIANTS.values() for name, value in {**settings, **ONE}.items()}


@pytest.mark.parametrize("settings", [TWO, EVERYTHING], ids=["two threads", "one thread, old kernels"])
def test_the_command_prints_the_listed_digest(settings: dict[str, str]):
    """A whole file, as a user checks it."""
    listed = json.loads((CONFORMANCE / "conformance.json").read_text(encoding="utf-8"))["valid"]
    entry = next(entry for entry in listed if entry["file"] == "valid/walk_int8.adc")
    code = "from adcgs.cli.inspect import main; main()"
    words = [sys.executable, "-c", code, str(CONFORMANCE / entry["file"]), "--digest", "--json"]
    done = subprocess.run(words, env={**os.environ, **settings}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["digest"] == entry["digest"]
