"""Reading a stranger's capture: every value is checked before it is used, every refusal is one line.

A capture's JSON is wrapped in :class:`Field`, which remembers the file and the path inside it, so that an
error can say ``transforms_train.json: frames[3].time: ...`` without any reader repeating itself.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SceneError

MAX_JSON_BYTES = 256 << 20
MAX_FRAMES = 1_000_000
MAX_COORDINATE = 1e9  # a pose further out than this is damage, and would overflow in single precision


def one_line(text: object, limit: int = 160) -> str:
    """A stranger's text made fit for a message of one line."""
    printable = "".join(c if c.isprintable() else "?" for c in str(text))
    return printable if len(printable) <= limit else printable[: limit - 3] + "..."


def scene_error(code: str, file: Path | str, field: str, problem: str, remedy: str) -> SceneError:
    """The one shape of every refusal: file, field, what is wrong with it, what to do about it."""
    where = one_line(file) + (f": {one_line(field)}" if field else "")
    return SceneError(code, f"{where}: {one_line(problem, 400)}; {one_line(remedy, 240)}")


class Field:
    """A JSON value that knows where it stands."""

    def __init__(self, value: object, file: Path, name: str = "") -> None:
        self.value = value
        self.file = file
        self.name = name

    def error(self, code: str, problem: str, remedy: str) -> SceneError:
        """A refusal of this very value."""
        return scene_error(code, self.file, self.name, problem, remedy)

    def _mistyped(self, wanted: str) -> SceneError:
        return self.error("wrong-type", f"{wanted} expected, found {_kind(self.value)}", f"write {wanted} here")

    def __getitem__(self, key: str) -> Field:
        """The member ``key``; SceneError missing-field when there is none."""
        found = self.get(key)
        if found is None:
            raise scene_error(
                "missing-field", self.file, self._path(key), "the field is not there", "add it to the file"
            )
        return found

    def get(self, key: str) -> Field | None:
        """The member ``key``, None when it is absent or null."""
        if not isinstance(self.value, dict):
            raise self._mistyped("an object")
        value = self.value.get(key)
        return None if value is None else Field(value, self.file, self._path(key))

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def elements(self, least: int = 0, most: int = MAX_FRAMES) -> list[Field]:
        """The elements of a list whose length lies in [least, most]."""
        if not isinstance(self.value, list):
            raise self._mistyped("a list")
        if len(self.value) > most:
            raise self.error(
                "too-many-entries", f"{len(self.value)} entries, at most {most} are read", "shorten the list"
            )
        if len(self.value) < least:
            raise self.error(
                "too-few-entries",
                f"{len(self.value)} entries, at least {least} are needed",
                "complete the list",
            )
        return [Field(v, self.file, f"{self.name}[{i}]") for i, v in enumerate(self.value)]

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in [low, high]."""
        number = self._finite()
        if not low <= number <= high:
            raise self.error("out-of-range", f"{number:g} is outside [{low:g}, {high:g}]", "correct the value")
        return number

    def positive(self) -> float:
        """A finite number above zero (a focal length, a size)."""
        number = self._finite()
        if not 0 < number <= MAX_COORDINATE:
            raise self.error("out-of-range", f"{number:g} is not a usable positive number", "correct the value")
        return number

    def _finite(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self._mistyped("a number")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error("not-finite", "the number is NaN or infinite", "correct the value or drop the frame")
        return number

    def time(self) -> float:
        """An instant of the clip, a number in [0, 1]."""
        number = self._finite()
        if not 0 <= number <= 1:
            raise self.error(
                "time-out-of-range",
                f"time {number:g} is outside the clip",
                "scale the times of the capture to [0, 1]",
            )
        return number

    def integer(self, low: int = 0, high: int = 1 << 31) -> int:
        """A whole number in [low, high]; 3.0 counts as one."""
        number = self.number(low, high)
        if number != int(number):
            raise self._mistyped("a whole number")
        return int(number)

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self._mistyped("a string")
        return self.value

    def identifier(self) -> str:
        """A string or whole number that names something (a frame's id)."""
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return str(self.value)
        return self.text()

    def array(self, *shape: int) -> NDArray[np.float64]:
        """A nested list of finite numbers of exactly this shape, each at most MAX_COORDINATE in magnitude."""
        flat: list[float] = []
        self._collect(shape, flat)
        return np.array(flat, np.float64).reshape(shape)

    def _collect(self, shape: tuple[int, ...], flat: list[float]) -> None:
        if not shape:
            number = self._finite()
            if abs(number) > MAX_COORDINATE:
                raise self.error("out-of-range", f"{number:g} is beyond any usable coordinate", "correct the value")
            flat.append(number)
            return
        if not isinstance(self.value, list) or len(self.value) != shape[0]:
            raise self.error(
                "wrong-shape",
                f"a list of {shape[0]} expected, found {_kind(self.value)}",
                "correct the value",
            )
        for element in self.elements():
            element._collect(shape[1:], flat)


def _kind(value: object) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    names = {dict: "an object", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def read_json(path: Path) -> Field:
    """Parse a JSON file into a :class:`Field`.

    Raises:
        SceneError: missing-file, too-large or bad-json.
    """
    name = Path(path.name)
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise scene_error("too-large", name, "", f"{size} bytes of JSON", f"at most {MAX_JSON_BYTES} are read")
        value: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise scene_error("missing-file", path, "", "the file is not there", "restore it") from None
    except OSError as error:
        raise scene_error("missing-file", path, "", f"cannot be read ({error.strerror})", "check it") from None
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else f"is not JSON ({error})"
        raise scene_error("bad-json", name, "", problem, "restore the file from its source") from None
    return Field(value, name)


def contained_path(root: Path, field: Field) -> Path:
    """A path that the capture names, as a path under ``root``; it may not lead out of the capture.

    Links inside the capture are followed (large captures are often linked together), names are not trusted.
    """
    text = field.text()
    outside = text.startswith(("/", "\\")) or PureWindowsPath(text).drive != ""
    parts = PurePosixPath(text).parts
    if outside or ".." in parts or not text.isprintable() or not parts:
        raise field.error(
            "path-outside-capture",
            f"{text!r} leads out of the capture",
            "use a path relative to the capture's folder",
        )
    if len(text) > 1024:
        raise field.error("path-outside-capture", "the path is too long", "use a shorter path")
    return root / Path(*parts)


def safe_name(text: str) -> str:
    """A frame's name from a stranger's text: letters, digits, ``._-`` and ``/`` only, no empty parts."""
    cleaned = re.sub(r"[^A-Za-z0-9._/-]", "_", text)
    parts = [part for part in cleaned.split("/") if part.strip(".")]
    return "/".join(parts)[-120:].strip("/") or "frame"


def rotation_from(matrix: NDArray[np.float64], field: Field) -> NDArray[np.float64]:
    """The rotation in a pose's (3, 3) part, whose columns may have one common length.

    Raises:
        SceneError: singular-pose when it has no inverse, not-a-rotation when it mirrors, shears or stretches.
    """
    determinant = float(np.linalg.det(matrix))
    size = float(np.abs(matrix).max())
    if size == 0 or abs(determinant) < 1e-9 * size**3:
        raise field.error("singular-pose", "the pose's matrix has no inverse", "correct it or drop the frame")
    left, stretch, right = np.linalg.svd(matrix)
    if determinant < 0 or stretch[0] - stretch[2] > 1e-2 * stretch[1]:
        raise field.error(
            "not-a-rotation", "the pose mirrors, shears or stretches space", "write a rotation and a position"
        )
    return left @ right


def world_to_camera_from(rotation: NDArray[np.float64], center: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) from a world-to-camera rotation and the camera's centre."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ center
    return matrix


def check_last_row(matrix: NDArray[np.float64], field: Field) -> None:
    """Refuse a (4, 4) pose that is projective."""
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise field.error("not-a-rotation", "the last row is not 0 0 0 1", "write a rigid pose")


def world_to_camera_from_opengl(field: Field) -> NDArray[np.float64]:
    """(4, 4) OpenCV world-to-camera from a camera-to-world matrix with OpenGL axes (x right, y up, z back)."""
    value = field.value
    if isinstance(value, list) and len(value) == 3:
        matrix = np.vstack([field.array(3, 4), [0, 0, 0, 1]])
    else:
        matrix = field.array(4, 4)
    camera_to_world = rotation_from(matrix[:3, :3], field) * [1, -1, -1]
    check_last_row(matrix, field)
    return world_to_camera_from(camera_to_world.T, matrix[:3, 3])
