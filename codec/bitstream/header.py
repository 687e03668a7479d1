"""The header section: what a decoder must know before it reads anything else.

Layout (little-endian, ``varint`` as in :mod:`.cursor`)::

    varint     number of anchors N, 1 to 2^22
    varint     frames of the clip, 1 to 2^20
    f64        frame rate, frames per second, 10^-12 to 10^6
    f64 x 4    similarity to the capture's world: scale > 0, centre (normalised = scale * (world - centre))
    f32 x 3    background, display-referred, in [0, 1]
    f32 x 3    origin of the position grid in the normalised space
    f32        its voxel size, 10^-12 to 10^6
    f32        near plane in the normalised space, 10^-12 to 10^6: what is nearer to a camera is not drawn
    f32        blur of the splats in pixels^2, 2^-10 to 2^10
    u8         entropy coder: 0 range coder, 1 torchac
    string     the encoder, such as "adcgs 0.1.0", at most 64 bytes
    settings   the model's configuration, see :mod:`.settings`
    ...        what a higher minor version appends; skipped
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..camera import Similarity
from .container import MINOR
from .cursor import Cursor, text, varint
from .settings import Setting, pack_settings, read_settings

MAX_ANCHORS = 1 << 22
MAX_FRAMES = 1 << 20
MAX_FRAME_RATE = 1e6
MAX_COORDINATE = 1e12
MAX_ENCODER_NAME = 64
BLUR_LIMITS = (2.0**-10, 2.0**10)
CODERS = ("constriction", "torchac")

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Header:
    """Contents of the header section.

    Attributes:
        anchors: N.
        frame_count, frame_rate: of the clip; time k / (frame_count - 1) is frame k.
        scale, center: the similarity from the capture's world to the normalised one.
        background: RGB in [0, 1] that the capture was trained over.
        grid_origin, voxel: normalised position = grid_origin + voxel * integer position.
        near: primitives whose centre is nearer to a camera than this, in the normalised space, are not drawn.
        blur: px^2 that the rasterizer adds to the variances of projected splats; the model was trained with it.
        coder: which entropy coder wrote the streams, one of :data:`CODERS`.
        encoder: name and version of the program that wrote the file.
        config: the model's configuration, a flat dictionary.
    """

    anchors: int
    frame_count: int
    frame_rate: float
    scale: float
    center: Triple
    background: Triple
    grid_origin: Triple
    voxel: float
    near: float
    blur: float
    coder: str = "constriction"
    encoder: str = "adcgs"
    config: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def similarity(self) -> Similarity:
        """The similarity as the rest of adcgs uses it."""
        import numpy as np

        return Similarity(self.scale, np.array(self.center, dtype=np.float64))

    def to_bytes(self) -> bytes:
        """The section's bytes; equal headers give equal bytes.

        Raises:
            ValueError: a field that :meth:`from_bytes` would refuse.
        """
        data = b"".join(
            (
                varint(self.anchors),
                varint(self.frame_count),
                struct.pack("<d4d", self.frame_rate, self.scale, *self.center),
                struct.pack("<3f3f3f", *self.background, *self.grid_origin, self.voxel, self.near, self.blur),
                bytes([CODERS.index(self.coder)]),
                text(self.encoder),
                pack_settings(self.config),
            )
        )
        try:
            Header.from_bytes(data)
        except Exception as error:
            raise ValueError(f"the header cannot be stored: {error}") from error
        return data

    @staticmethod
    def from_bytes(data: bytes, source: str = "header", minor: int = MINOR) -> Header:
        """Read and validate the section.

        Args:
            data: the section's bytes.
            source: what to call it in messages, such as ``"scene.adc: header"``.
            minor: the file's minor version; a higher one than ours may have appended fields.

        Raises:
            BitstreamError: any field out of range, a NaN, missing or left-over bytes.
        """
        cursor = Cursor(data, source)
        header = Header(
            anchors=cursor.varint("number of anchors", 1, MAX_ANCHORS),
            frame_count=cursor.varint("number of frames", 1, MAX_FRAMES),
            frame_rate=_positive(cursor, "frame rate", cursor.f64("frame rate"), MAX_FRAME_RATE),
            scale=_positive(cursor, "scale", cursor.f64("scale"), MAX_COORDINATE),
            center=_triple(cursor, "centre", [cursor.f64("centre") for _ in range(3)], -MAX_COORDINATE, MAX_COORDINATE),
            background=_triple(cursor, "background", [cursor.f32("background") for _ in range(3)], 0.0, 1.0),
            grid_origin=_triple(cursor, "grid origin", [cursor.f32("grid origin") for _ in range(3)], -1e6, 1e6),
            voxel=_positive(cursor, "voxel", cursor.f32("voxel"), 1e6),
            near=_positive(cursor, "near plane", cursor.f32("near plane"), 1e6),
            blur=_blur(cursor),
            coder=_coder(cursor),
            encoder=cursor.text("encoder", MAX_ENCODER_NAME),
            config=read_settings(cursor),
        )
        if minor <= MINOR:
            cursor.finish()
        return header


def _positive(cursor: Cursor, name: str, value: float, high: float) -> float:
    if not 1e-12 <= value <= high:
        raise cursor.fail("bad-header", name, f"is {value}, not in 1e-12..{high:g}")
    return value


def _blur(cursor: Cursor) -> float:
    value = cursor.f32("blur")
    low, high = BLUR_LIMITS
    if not low <= value <= high:
        raise cursor.fail("bad-header", "blur", f"is {value}, not in {low:g}..{high:g} px^2")
    return value


def _triple(cursor: Cursor, name: str, values: list[float], low: float, high: float) -> Triple:
    if not all(low <= value <= high for value in values):
        raise cursor.fail("bad-header", name, f"is {values}, not in {low:g}..{high:g}")
    return values[0], values[1], values[2]


def _coder(cursor: Cursor) -> str:
    index = cursor.u8("coder")
    if index >= len(CODERS):
        raise cursor.fail("bad-header", "coder", f"has the unknown number {index}; update adcgs")
    return CODERS[index]
