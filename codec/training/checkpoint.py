"""A training run on disk: one safetensors file, its header's metadata a JSON of everything that is not a tensor.

Written to a temporary file and renamed, so that a checkpoint is whole or is the previous one. No pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import TrainingError

# 6 did not know its capture's pictures, nor how far scales may stray, 5 did not say whether ways were taught, 4 had no
# rounded networks, 3 and 2 counted searches otherwise or not, 1 had no blur
FORMAT = 7


def save_checkpoint(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write ``tensors`` and ``meta`` to ``path``, atomically.

    Raises:
        TrainingError: ``cannot-save``, with the system's reason; an older checkpoint stays.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    flat = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    try:
        words = json.dumps({"format": FORMAT, **meta})
        save_file(flat, str(temporary), metadata={"adcgs": words, "digest": _digest(words, flat)})
        os.replace(temporary, path)
    except (SafetensorError, OSError) as error:
        problem = f"{path}: cannot be written ({error}); free space or write elsewhere"
        raise TrainingError("cannot-save", problem) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a checkpoint.

    Raises:
        TrainingError: ``bad-checkpoint`` where it is missing, cut or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise TrainingError("bad-checkpoint", f"{path}: no such checkpoint; start without --resume or --checkpoint")
    try:
        with safe_open(str(path), framework="pt") as handle:
            header = handle.metadata() or {}
            meta = json.loads(header["adcgs"])
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, ValueError, OSError, RecursionError) as error:
        raise TrainingError("bad-checkpoint", f"{path}: not an adcgs checkpoint, or damaged ({error})") from error
    found = meta.get("format") if isinstance(meta, dict) else None
    if found != FORMAT:
        problem = f"{path}: checkpoint format {found!r}, this version reads {FORMAT}; start without it"
        raise TrainingError("bad-checkpoint", problem)
    if header.get("digest") != _digest(header["adcgs"], tensors):
        problem = f"{path}: damaged, it does not hold what was written; start without it"
        raise TrainingError("bad-checkpoint", problem)
    return tensors, meta


def _digest(words: str, tensors: Mapping[str, Tensor]) -> str:
    """Of metadata and values, in the order of their names: damaged numbers may look like any other training state."""
    found = hashlib.sha256(words.encode())
    for name in sorted(tensors):
        found.update(f"{name} ".encode())
        found.update(tensors[name].cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def checked(
    tensors: Mapping[str, Tensor], name: str, shape: Sequence[int], dtype: torch.dtype, within: str = ""
) -> Tensor:
    """The tensor ``name``, of this shape and type: what is computed with later may be reached by address.

    Args:
        within: the section that the tensors are of, for the message.

    Raises:
        ValueError: naming the tensor, where it is missing or another.
    """
    full = f"{within}.{name}" if within else name
    if name not in tensors:
        raise ValueError(f"tensor '{full}' is missing")
    found = tensors[name]
    if found.dtype != dtype or found.shape != tuple(shape):
        raise ValueError(f"tensor '{full}' is {_kind(found.dtype, found.shape)}, not {_kind(dtype, shape)}")
    return found


def _kind(dtype: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(dtype).removeprefix('torch.')} of {' x '.join(map(str, shape)) or 'no dimensions'}"


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix.``, without it."""
    head = prefix + "."
    return {name[len(head) :]: value for name, value in tensors.items() if name.startswith(head)}
