"""All files of ``bitstream_spec/conformance``, and the list that says what a decoder must get from them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from adcgs import Camera
from numpy.typing import NDArray

from bitstream_spec import reference_decoder as reference

from . import invalid, valid
from .recipes import Recipe, recipes

FOLDER = Path(__file__).parents[2] / "bitstream_spec" / "conformance"
LIST = "conformance.json"


def files() -> dict[str, bytes]:
    """Path in the folder to bytes, of everything that is generated."""
    found: dict[str, bytes] = {}
    entries: dict[str, list[dict[str, Any]]] = {"valid": [], "invalid": []}
    for recipe in recipes():
        data = valid.make(recipe)
        scene = reference.decode(data)
        entry = describe(recipe, data, scene)
        found[entry["file"]] = data
        found[entry["frame"]["file"]] = reference.png(draw(scene, entry["frame"]))
        entries["valid"].append(entry)
    counted: Counter[str] = Counter()
    for code, fault, data in invalid.cases():
        counted[code] += 1
        path = f"invalid/{code}_{counted[code]}.adc"
        found[path] = data
        entries["invalid"].append({"file": path, "code": code, "fault": fault})
    found[LIST] = listed(entries)
    return found


def listed(entries: Mapping[str, list[dict[str, Any]]]) -> bytes:
    """The list as JSON: a line for each field of a valid file, for each view, and for each invalid file."""

    def compact(value: object) -> str:
        return json.dumps(value, ensure_ascii=False)

    blocks = []
    for entry in entries["valid"]:
        fields = [f'   "{key}": {compact(value)}' for key, value in entry.items() if key != "views"]
        views = ",\n".join(f"    {compact(view)}" for view in entry["views"])
        fields.append('   "views": [\n' + views + "\n   ]" if views else '   "views": []')
        blocks.append("  {\n" + ",\n".join(fields) + "\n  }")
    rows = [f"  {compact(entry)}" for entry in entries["invalid"]]
    text = '{\n "valid": [\n' + ",\n".join(blocks) + '\n ],\n "invalid": [\n' + ",\n".join(rows) + "\n ]\n}\n"
    return text.encode("utf-8")


def describe(recipe: Recipe, data: bytes, scene: reference.Scene) -> dict[str, Any]:
    """A valid file's entry in the list."""
    view, time = recipe.frame
    where = {"camera": camera_fields(view)} if isinstance(view, Camera) else {"view": view}
    return {
        "file": f"valid/{recipe.name}.adc",
        "covers": recipe.covers,
        "bytes": len(data),
        "digest": scene.digest(),
        "integers": {"positions": sha256(scene.points, "<u4")}
        | {name: sha256(values, "<i4") for name, values in scene.values.items()},
        "floats": {name: sha256(scene.floats[name], "<f4") for name in ("positions", "f_v", "sigma", "color", "f_g")},
        "weights": {name: sha256(array, "<f4") for name, array in groups(scene.weights).items()},
        "frame": {"file": f"valid/{recipe.name}.png", **where, "time": time},
        "cuts": [cut(data, name) for name in recipe.cuts],
        "views": [
            {
                "name": view.name,
                "split": view.split,
                "camera_id": view.camera_id,
                "time": view.time,
                "intrinsics": [getattr(view.camera, name) for name in ("width", "height", "fx", "fy", "cx", "cy")],
            }
            for view in scene.views
        ],
    }


def cut(data: bytes, section: str) -> dict[str, Any]:
    """What the file decodes to when it ends in the middle of a section."""
    whole = reference.read_container(data, partial=False)
    start = data.index(whole.sections[section], len(data) - sum(map(len, whole.sections.values())))
    size = start + len(whole.sections[section]) // 2
    scene = reference.decode(data[:size], partial=True)
    return {"bytes": size, "missing": scene.missing, "digest": scene.digest()}


def groups(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Network to all its weights, one array after the other."""
    names = dict.fromkeys(name.split(".")[0] for name in weights)
    return {
        group: np.concatenate([array.ravel() for name, array in weights.items() if name.startswith(group + ".")])
        for group in names
    }


def sha256(array: NDArray[Any], form: str) -> str:
    """Of the numbers, row by row, in a given form."""
    return hashlib.sha256(array.astype(form).tobytes()).hexdigest()


def camera_fields(camera: Camera) -> dict[str, Any]:
    """A camera as the list has it."""
    intrinsics = [camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy]
    return {"intrinsics": intrinsics, "world_to_camera": camera.world_to_camera.tolist()}


def draw(scene: reference.Scene, frame: Mapping[str, Any]) -> NDArray[np.float64]:
    """The frame of a list's entry, by the reference decoder."""
    if "view" in frame:
        camera = reference.find_view(scene.views, frame["view"]).camera
    else:
        matrix = np.array(frame["camera"]["world_to_camera"])
        camera = reference.Camera(*frame["camera"]["intrinsics"], matrix[:3, :3], matrix[:3, 3])
    return reference.render(scene, camera, frame["time"])
