"""What is wrong with a capture is said in one line with its file, its field and a stable code."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adcgs.errors import SceneError
from adcgs.scene import load_scene
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import captures

Breaker = Callable[[Path], None]


def edit(name: str, *path: str | int, value: Any = None, drop: bool = False) -> Breaker:
    """Change (or drop) one value of a JSON file."""

    def breaker(root: Path) -> None:
        document = json.loads((root / name).read_text())
        inner = document
        for key in path[:-1]:
            inner = inner[key]
        if drop:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        (root / name).write_text(json.dumps(document))

    return breaker


def write(name: str, data: bytes) -> Breaker:
    return lambda root: (root / name).write_bytes(data) and None


def remove(name: str) -> Breaker:
    return lambda root: (root / name).unlink()


def resize(name: str) -> Breaker:
    return lambda root: captures.save(root / name, np.zeros((70, 96, 4), np.uint8))


def poses(change: Callable[[np.ndarray], object]) -> Breaker:
    def breaker(root: Path) -> None:
        array = np.load(root / "poses_bounds.npy")
        change(array)
        np.save(root / "poses_bounds.npy", array)

    return breaker


def only_row(root: Path) -> None:
    np.save(root / "poses_bounds.npy", np.load(root / "poses_bounds.npy")[:1])


TRAIN = "transforms_train.json"
POSE = ("frames", 1, "transform_matrix")
CAMERA = "camera/000001.json"

CASES: list[tuple[str, Breaker, str, str]] = [
    # layout, what is broken, code, what the line must name
    ("dnerf", remove("train/r_003.png"), "missing-image", "r_003.png"),
    ("dnerf", write("train/r_003.png", b"GIF?"), "unreadable-image", "r_003.png"),
    ("dnerf", resize("train/r_003.png"), "size-mismatch", "frames[3].file_path"),
    ("dnerf", edit(TRAIN, *POSE, value=np.zeros((4, 4)).tolist()), "singular-pose", "frames[1].transform_matrix"),
    ("dnerf", edit(TRAIN, *POSE, value=np.diag([1.0, 1, 2, 1]).tolist()), "not-a-rotation", "frames[1]"),
    ("dnerf", edit(TRAIN, *POSE, value=np.diag([1.0, 1, -1, 1]).tolist()), "not-a-rotation", "frames[1]"),
    ("dnerf", edit(TRAIN, *POSE, value=np.eye(4)[[0, 1, 2, 0]].tolist()), "not-a-rotation", "last row"),
    ("dnerf", edit(TRAIN, *POSE, value=[[1, 2], [3, 4]]), "wrong-shape", "frames[1].transform_matrix"),
    ("dnerf", edit(TRAIN, *POSE, 0, 3, value=float("nan")), "not-finite", "frames[1].transform_matrix[0][3]"),
    ("dnerf", edit(TRAIN, *POSE, 0, 3, value=10**400), "not-finite", "transform_matrix[0][3]"),
    ("dnerf", edit(TRAIN, *POSE, 0, 3, value=1e30), "out-of-range", "transform_matrix[0][3]"),
    ("dnerf", edit(TRAIN, *POSE, 0, 3, value="0"), "wrong-type", "transform_matrix[0][3]"),
    ("dnerf", edit(TRAIN, "frames", 2, "time", value=1.5), "time-out-of-range", "frames[2].time"),
    ("dnerf", edit(TRAIN, "frames", 2, "time", value=-0.01), "time-out-of-range", "frames[2].time"),
    ("dnerf", edit(TRAIN, "frames", 2, "time", value=float("inf")), "not-finite", "frames[2].time"),
    ("dnerf", edit(TRAIN, "frames", 2, "time", value=True), "wrong-type", "frames[2].time"),
    ("dnerf", edit(TRAIN, "frames", 2, "time", drop=True), "missing-field", "frames[2].time"),
    ("dnerf", edit(TRAIN, "frames", value=[]), "too-few-entries", "frames"),
    ("dnerf", edit(TRAIN, "frames", value={}), "wrong-type", "frames"),
    ("dnerf", edit(TRAIN, "camera_angle_x", value=0), "out-of-range", "camera_angle_x"),
    ("dnerf", edit(TRAIN, "frames", 0, "file_path", value="../../etc/passwd"), "path-outside-capture", "file_path"),
    ("dnerf", edit(TRAIN, "frames", 0, "file_path", value="/etc/passwd"), "path-outside-capture", "file_path"),
    ("dnerf", edit(TRAIN, "frames", 0, "file_path", value="C:\\x"), "path-outside-capture", "file_path"),
    ("dnerf", edit(TRAIN, "frames", 0, "file_path", value="a\nb\0"), "path-outside-capture", "file_path"),
    ("dnerf", edit(TRAIN, "frames", 0, "file_path", value=""), "path-outside-capture", "file_path"),
    ("dnerf", write(TRAIN, b"{"), "bad-json", TRAIN),
    ("dnerf", write(TRAIN, b"[" * 100_000), "bad-json", TRAIN),
    ("dnerf", write(TRAIN, b'{"frames": ' + b"9" * 5000 + b"}"), "bad-json", TRAIN),
    ("dnerf", write(TRAIN, b"\xff\xfe\x00"), "bad-json", TRAIN),
    ("dnerf", write(TRAIN, b"null"), "wrong-type", TRAIN),
    ("nerfies", remove(CAMERA), "missing-file", "000001.json"),
    ("nerfies", remove("rgb/2x/000001.png"), "missing-image", "000001.png"),
    ("nerfies", resize("rgb/2x/000001.png"), "size-mismatch", "000001.png"),
    ("nerfies", edit(CAMERA, "orientation", value=np.ones((3, 3)).tolist()), "singular-pose", "orientation"),
    ("nerfies", edit(CAMERA, "focal_length", value=-1), "out-of-range", "focal_length"),
    ("nerfies", edit(CAMERA, "position", drop=True), "missing-field", "position"),
    ("nerfies", edit(CAMERA, "image_size", value=[1, 1 << 40]), "out-of-range", "image_size[1]"),
    ("nerfies", edit("metadata.json", "000001", drop=True), "missing-field", "000001"),
    ("nerfies", edit("metadata.json", "000001", "warp_id", value=-3), "out-of-range", "warp_id"),
    ("nerfies", edit("dataset.json", "train_ids", value=[]), "no-training-frames", "nerfies"),
    ("nerfies", edit("dataset.json", "train_ids", 0, value="../x"), "missing-field", "../x"),
    ("nerfies", edit("scene.json", "scale", value=0), "out-of-range", "scale"),
    ("neural3d", only_row, "camera-count", "poses_bounds.npy"),
    ("neural3d", remove("cam02/0001.png"), "frame-count", "cam02"),
    ("neural3d", poses(lambda a: a.__setitem__((1, 3), np.nan)), "not-finite", "row 1"),
    ("neural3d", poses(lambda a: a.__setitem__((2, slice(0, 3)), 0)), "singular-pose", "row 2"),
    ("neural3d", poses(lambda a: a.__setitem__((1, 4), 500)), "size-mismatch", "row 1"),
    ("neural3d", poses(lambda a: a.__setitem__((1, 14), 0)), "out-of-range", "row 1"),
    ("neural3d", poses(lambda a: a.__setitem__((1, 16), 0.5)), "out-of-range", "row 1"),
    ("neural3d", write("poses_bounds.npy", b"\x93NUMPY"), "bad-poses", "poses_bounds.npy"),
    ("panoptic", remove("ims/2/000001.png"), "missing-image", "000001.png"),
    ("panoptic", resize("ims/2/000001.png"), "size-mismatch", "fn[1][1]"),
    ("panoptic", edit("train_meta.json", "w2c", 0, 0, value=np.zeros((4, 4)).tolist()), "singular-pose", "w2c[0][0]"),
    ("panoptic", edit("train_meta.json", "k", 0, 0, 0, 0, value=-4), "out-of-range", "k[0][0]"),
    ("panoptic", edit("train_meta.json", "k", 0, drop=True), "too-few-entries", "k"),
    ("panoptic", edit("train_meta.json", "fn", 0, 0, value="../../x.png"), "path-outside-capture", "fn[0][0]"),
    ("panoptic", edit("test_meta.json", "fn", 0, drop=True), "frame-count", "fn"),
    ("nerfstudio", edit("transforms.json", "frames", 4, "time", drop=True), "missing-field", "frames[4]"),
    ("nerfstudio", edit("transforms.json", "frames", 4, "time", value=30), "time-out-of-range", "frames[4].time"),
    ("nerfstudio", edit("transforms.json", "w", value=97), "size-mismatch", "w"),
    ("nerfstudio", edit("transforms.json", "fl_x", drop=True), "missing-field", "fl_x"),
    (
        "nerfstudio",
        edit("transforms.json", "camera_model", value="FISHEYE"),
        "unsupported-camera",
        "camera_model",
    ),
    ("nerfstudio", edit("transforms.json", "k4", value=0.1), "unsupported-camera", "k4"),
    ("nerfstudio", edit("transforms.json", "ply_file_path", value="../a.ply"), "path-outside-capture", "ply_file_path"),
]


@pytest.mark.parametrize(("layout", "breaker", "code", "named"), CASES)
def test_refused_in_one_line(
    intact: dict[str, Path], tmp_path: Path, layout: str, breaker: Breaker, code: str, named: str
) -> None:
    root = tmp_path / "capture"
    shutil.copytree(intact[layout], root)
    breaker(root)
    with pytest.raises(SceneError) as caught:
        load_scene(root, layout=layout)
    message = str(caught.value)
    assert caught.value.code == code
    assert named in message
    assert message.isprintable()
    assert "; " in message  # a remedy follows


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"downscale": 0.5}, "bad-option"),
        ({"downscale": float("nan")}, "bad-option"),
        ({"cache_gb": -1.0}, "bad-option"),
        ({"background": (0, 0, 2)}, "bad-option"),
        ({"layout": "colmap"}, "unknown-layout"),
        ({"downscale": 20}, "too-small"),
    ],
)
def test_options_are_checked(intact: dict[str, Path], options: dict[str, Any], code: str) -> None:
    with pytest.raises(SceneError) as caught:
        load_scene(intact["panoptic"], **options)
    assert caught.value.code == code


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SceneError) as caught:
        load_scene(tmp_path / "none")
    assert caught.value.code == "no-such-capture"


def test_names_are_made_safe_and_unique(intact: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "capture"
    shutil.copytree(intact["nerfstudio"], root)
    document = json.loads((root / "transforms.json").read_text())
    for k, name in enumerate(["images/a b;c.png", "images/a_b_c.png", "images/A_b_c.png", "images_a_b_c.png"]):
        shutil.copy(root / "images" / "frame_0.png", root / name)
        document["frames"][k]["file_path"] = name
    captures.dump(root / "transforms.json", document)
    stems = [frame.name.replace("/", "_").lower() for frame in load_scene(root).frames]
    assert len(set(stems)) == len(stems)
    assert not any(set(stem) & set(" ;\\:") for stem in stems)


JSON_FILES = {
    "dnerf": [TRAIN],
    "nerfies": ["dataset.json", "metadata.json", CAMERA, "scene.json"],
    "panoptic": ["train_meta.json"],
    "nerfstudio": ["transforms.json"],
}
HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1e308, float("nan"), float("inf"), 10**300, 2**63, "", "..", "/", [], {}, [[]], [{}]]),
    st.text(max_size=8),
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """All places in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_hostile_json_is_refused_or_read_but_never_crashes(intact: dict[str, Path], data: st.DataObject) -> None:
    """Any one value of any file replaced by nonsense: a SceneError, or a capture whose cameras are finite."""
    from adcgs.scene.detect import read_capture

    layout = data.draw(st.sampled_from(sorted(JSON_FILES)))
    path = intact[layout] / data.draw(st.sampled_from(JSON_FILES[layout]))
    original = path.read_bytes()
    document = json.loads(original)
    place = data.draw(st.sampled_from(places(document)))
    changed = inner = copy.deepcopy({"root": document})
    for key in ("root", *place)[:-1]:
        inner = inner[key]  # type: ignore[assignment, index]
    inner[("root", *place)[-1]] = data.draw(HOSTILE)  # type: ignore[index]
    shots, refusal = (), ""
    try:
        path.write_text(json.dumps(changed["root"]))
        shots = tuple(read_capture(intact[layout], layout, 1.0, None, None).shots)
    except SceneError as error:
        refusal = str(error)
    finally:
        path.write_bytes(original)
    assert refusal.isprintable()
    for shot in shots:
        assert np.isfinite(shot.camera.world_to_camera).all()
        assert np.isfinite(shot.camera.intrinsics).all()
        assert 0 <= shot.time <= 1
