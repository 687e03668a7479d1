"""The conformance files are what their recipes say, and adcgs and the reference get from them what is listed."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adcgs import AdcError
from adcgs.bitstream import CODES
from adcgs.camera import Camera
from adcgs.decode import DecodedScene, decoded_digest, open_scene
from PIL import Image

from bitstream_spec import reference_decoder as reference
from tests.fuzz import samples
from tests.fuzz.mutators import mutate

from . import invalid
from .corpus import FOLDER, LIST, draw, files, groups, sha256

LISTED: dict[str, list[dict[str, Any]]] = json.loads((FOLDER / LIST).read_text(encoding="utf-8"))
HAS_TORCHAC = importlib.util.find_spec("torchac") is not None
TOLERANCE = 1  # of 255, SPEC.md section 7.4
FLOATS = ("positions", "f_v", "sigma", "color", "f_g")
CUTS = [(entry["file"], cut) for entry in LISTED["valid"] for cut in entry["cuts"]]
UNREACHED = {
    "bad-count",  # takes a file of 2^22 points
}

valid_files = pytest.mark.parametrize("entry", LISTED["valid"], ids=[entry["file"] for entry in LISTED["valid"]])
invalid_files = pytest.mark.parametrize("entry", LISTED["invalid"], ids=[entry["file"] for entry in LISTED["invalid"]])

Entry = dict[str, Any]


@functools.cache
def by_reference(name: str) -> reference.Scene:
    return reference.decode((FOLDER / name).read_bytes())


@functools.cache
def by_adcgs(name: str) -> DecodedScene:
    if by_reference(name).header.coder == "torchac" and not HAS_TORCHAC:
        pytest.skip("torchac is an optional extra")
    return open_scene(FOLDER / name)


def floats_of(scene: DecodedScene) -> dict[str, str]:
    """SHA-256 of what adcgs decoded, as the list has them."""
    return {name: sha256(getattr(scene.model, name).detach().numpy(), "<f4") for name in FLOATS}


def camera_of(scene: DecodedScene, frame: Entry) -> Camera:
    if "camera" in frame:
        return Camera(*frame["camera"]["intrinsics"], np.array(frame["camera"]["world_to_camera"]))
    (found,) = (view.camera for view in scene.views if view.name == frame["view"])
    return found


def picture(name: str) -> np.ndarray:
    """(H, W, 3) integers."""
    return np.asarray(Image.open(FOLDER / name).convert("RGB"), np.int64)


# ---------------------------------------------------------------- the files


def test_one_command_makes_the_same_files_again() -> None:
    made = files()
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.*") if path.is_file()}
    assert there - {".gitattributes"} == set(made)
    assert [name for name, data in made.items() if (FOLDER / name).read_bytes() != data] == []


def test_there_are_six_small_valid_files_that_cover_the_format() -> None:
    assert len(LISTED["valid"]) == 6
    assert sum(path.stat().st_size for path in (FOLDER / "valid").iterdir()) <= 300_000
    headers, containers, views = [], [], []
    for entry in LISTED["valid"]:
        scene = by_reference(entry["file"])
        headers.append(scene.header)
        containers.append(reference.read_container((FOLDER / entry["file"]).read_bytes(), partial=False))
        views += [scene.views]
    assert {header.coder for header in headers} == {"constriction", "torchac"}
    assert {container.sections["networks"][0] for container in containers} == {0, 1, 2}
    assert {1, 4} <= {header.settings["chunks"] for header in headers}
    assert len({header.settings["primitives"] for header in headers}) == 6
    assert {(header.settings["coarse"], header.settings["fine"]) for header in headers} == {
        (a, b) for a in (False, True) for b in (False, True)
    }
    assert 1 in {header.anchors for header in headers}
    assert any(container.minor > reference.MINOR for container in containers)
    assert any(not found for found in views)
    kinds = {(view.split, view.camera_id < 0) for found in views for view in found}
    assert kinds == {(split, moves) for split in reference.SPLITS for moves in (False, True)}


def test_escapes_reach_as_far_as_an_encoder_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    furthest: dict[str, int] = {}
    decode = reference.read_residuals

    def watched(coder: str, data: bytes, levels: reference.Integers) -> reference.Integers:
        residuals = decode(coder, data, levels)
        furthest[coder] = max(furthest.get(coder, 0), int(np.abs(residuals).max()))
        return residuals

    monkeypatch.setattr(reference, "read_residuals", watched)
    for name in ("valid/escapes.adc", "valid/torchac.adc"):
        scene = reference.decode((FOLDER / name).read_bytes())
        if name == "valid/escapes.adc":
            assert scene.values["sigma"].min() == -reference.VALUE_LIMIT
    assert furthest == {"constriction": 1 << 17, "torchac": 1 << 17}


# ---------------------------------------------------------------- what they decode to


@valid_files
def test_the_reference_decodes_what_is_listed(entry: Entry) -> None:
    scene = by_reference(entry["file"])
    assert scene.digest() == entry["digest"]
    assert {name: sha256(scene.floats[name], "<f4") for name in entry["floats"]} == entry["floats"]
    assert {name: sha256(array, "<f4") for name, array in groups(scene.weights).items()} == entry["weights"]


@valid_files
def test_adcgs_decodes_what_is_listed(entry: Entry) -> None:
    scene = by_adcgs(entry["file"])
    assert decoded_digest(FOLDER / entry["file"]) == entry["digest"]
    assert floats_of(scene) == entry["floats"]
    weights = {name: array.detach().numpy() for name, array in scene.model.named_network_parameters().items()}
    assert {name: sha256(array, "<f4") for name, array in groups(weights).items()} == entry["weights"]


@valid_files
def test_adcgs_and_the_reference_have_the_listed_views(entry: Entry) -> None:
    listed = [(v["name"], v["split"], v["camera_id"], v["time"], v["intrinsics"]) for v in entry["views"]]
    ours, theirs = by_adcgs(entry["file"]).views, by_reference(entry["file"]).views
    for views in (ours, theirs):
        fields = ("width", "height", "fx", "fy", "cx", "cy")
        assert listed == [
            (v.name, v.split, v.camera_id, v.time, [getattr(v.camera, name) for name in fields]) for v in views
        ]
    for our, their in zip(ours, theirs, strict=True):
        matrix = our.camera.world_to_camera
        np.testing.assert_allclose(matrix[:3, :3], their.camera.rotation, atol=1e-14)
        np.testing.assert_allclose(matrix[:3, 3], their.camera.translation, atol=1e-13)


@pytest.mark.parametrize(("name", "cut"), CUTS, ids=[f"{name} at {cut['bytes']}" for name, cut in CUTS])
def test_a_cut_file_decodes_to_what_is_listed(name: str, cut: Entry, tmp_path: Path) -> None:
    data = (FOLDER / name).read_bytes()[: cut["bytes"]]
    path = tmp_path / "cut.adc"
    path.write_bytes(data)
    theirs = reference.decode(data, partial=True)
    assert (theirs.digest(), theirs.missing) == (cut["digest"], cut["missing"])
    ours = open_scene(path, allow_partial=True)
    assert list(ours.missing) == cut["missing"]
    assert floats_of(ours) == {part: sha256(theirs.floats[part], "<f4") for part in FLOATS}
    with pytest.raises(AdcError) as refusal:
        open_scene(path)
    assert refusal.value.code == "truncated"
    with pytest.raises(reference.Refused) as refused:
        reference.decode(data)
    assert refused.value.code == "truncated"


def test_cuts_leave_out_one_chunk_after_the_other() -> None:
    assert [cut["missing"] for _, cut in CUTS] == [[f"f_g_{i}" for i in range(first, 4)] for first in range(4)]
    assert len({cut["digest"] for _, cut in CUTS}) == 4


@valid_files
def test_both_draw_the_listed_frame(entry: Entry) -> None:
    frame = entry["frame"]
    stored = picture(frame["file"])
    assert stored.shape == (36, 48, 3)
    assert stored.reshape(-1, 3).std(axis=0).max() > 5  # something is in it
    theirs = draw(by_reference(entry["file"]), frame)
    assert np.abs(np.rint(255 * theirs) - stored).max() <= TOLERANCE
    scene = by_adcgs(entry["file"])
    ours = scene.render(camera_of(scene, frame), frame["time"]).numpy().astype(np.float64)
    assert np.abs(np.rint(255 * ours) - stored).max() <= TOLERANCE
    # Without the rounding to eight bits and with no comparison that flips in these pictures.
    assert np.abs(ours - theirs).max() <= 0.1 / 255


# ---------------------------------------------------------------- what is refused


@invalid_files
def test_both_refuse_with_the_listed_code(entry: Entry) -> None:
    with pytest.raises(reference.Refused) as refused:
        by_reference(entry["file"])
    assert refused.value.code == entry["code"]
    if "torchac" in entry["fault"] and not HAS_TORCHAC:
        pytest.skip("torchac is an optional extra")
    with pytest.raises(AdcError) as refusal:
        open_scene(FOLDER / entry["file"])
    assert refusal.value.code == entry["code"], str(refusal.value)


def test_damaged_files_decode_alike_or_not_at_all(tmp_path: Path) -> None:
    """What random damage leaves, behind checksums that are right: both decoders draw the line at the same place."""
    path = tmp_path / "damaged.adc"
    alike, refused = 0, 0
    for index in range(150):
        data = mutate(1, index, samples.sections("int8" if index % 2 else "fp16"))
        path.write_bytes(data)
        try:
            theirs = reference.decode(data)
        except reference.Refused as refusal:
            if refusal.code not in UNREACHED:
                refused += 1
                with pytest.raises(AdcError):
                    open_scene(path)
            continue
        if theirs.header.coder == "constriction" or HAS_TORCHAC:
            alike += 1
            assert floats_of(open_scene(path)) == {name: sha256(theirs.floats[name], "<f4") for name in FLOATS}
    assert alike > 10
    assert refused > 80


def test_every_code_has_a_file() -> None:
    assert {entry["code"] for entry in LISTED["invalid"]} == set(CODES) - UNREACHED


def test_nothing_but_the_fault_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "whole.adc"
    for data in (invalid.whole(), invalid.one_view()):
        path.write_bytes(data)
        assert decoded_digest(path) == reference.decode(data).digest()
        assert len(open_scene(path).views) == 1


# ---------------------------------------------------------------- the reference decoder itself


def test_the_reference_imports_numpy_and_nothing_else() -> None:
    tree = ast.parse(Path(reference.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) if node.module}
    assert {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names) == {"numpy"}


def test_the_reference_is_a_program(tmp_path: Path) -> None:
    entry = next(entry for entry in LISTED["valid"] if entry["file"] == "valid/rig_fp16.adc")
    frame, drawn = entry["frame"], tmp_path / "frame.png"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", reference.__file__, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(str(FOLDER / entry["file"]), "--render", frame["view"], str(frame["time"]), "-o", str(drawn))
    assert done.stdout.splitlines()[0] == f"digest {entry['digest']}"
    assert np.abs(picture(str(drawn)) - picture(frame["file"])).max() <= TOLERANCE
    refused = run(str(FOLDER / "invalid" / "bad-magic_1.adc"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("bad-magic")
