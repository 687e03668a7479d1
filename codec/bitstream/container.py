"""The container: sections with a checked table of contents in front. Knows nothing of what the sections hold.

Layout (``u`` little-endian, ``varint`` as in :mod:`.cursor`)::

    8 bytes    magic  89 41 44 43 0D 0A 1A 0A
    u8         major version: a reader refuses one that it does not know
    u8         minor version: a higher one only appends or adds optional sections
    u8         flags, all zero in version 2
    u8         number of sections, 1 to 255
    per section: u8 kind, varint length, u32 CRC-32 of the section's bytes
    u32        CRC-32 of everything above
    the sections' bytes, in the order of the table, without gaps

Offsets are sums of lengths and are not stored, so sections cannot overlap or leave holes. The magic is PNG's
idea: a byte that is not ASCII, the name, both line endings and an end-of-file catch transfers in text mode.
"""

from __future__ import annotations

import errno
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ..errors import BitstreamError
from .cursor import Cursor, varint
from .sections import kind_of, name_of

MAGIC = b"\x89ADC\r\n\x1a\n"
MAJOR, MINOR = 2, 1
_SINCE = {"view_colors": 1}  # the minor version that a section came with; others are as old as the major one
MAX_SECTION_BYTES = (1 << 31) - 1

_FIXED = len(MAGIC) + 4
_MAX_ENTRY = 1 + 10 + 4


@dataclass(frozen=True)
class Entry:
    """One line of the table of contents: ``length`` bytes at ``offset`` with CRC-32 ``crc``."""

    name: str
    kind: int
    offset: int
    length: int
    crc: int

    @property
    def end(self) -> int:
        """The offset of the first byte behind it."""
        return self.offset + self.length


class _Bytes:
    """Random access to bytes in memory, with the interface of :class:`_File`."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self.size = len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])

    def close(self) -> None:
        self._data.release()


class _File:
    """Random access to an open file; reads what is asked for and nothing else."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file: BinaryIO = open(path, "rb", buffering=0)  # noqa: SIM115 (closed with the container)
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        parts = []
        while length > 0 and (part := self._file.read(min(length, 1 << 24))):
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._file.close()


class Container:
    """A lazy reader: opening reads the table of contents, :meth:`read` one section.

    Use as a context manager, or :meth:`close` it.

    Attributes:
        source: the file's path, or ``"<bytes>"``; messages begin with it.
        version: (major, minor) of the file.
        size: bytes of the file as it is.
        overhead: bytes before the first section (magic, versions, table of contents).
    """

    def __init__(self, store: _Bytes | _File, source: str, allow_partial: bool) -> None:
        self._store = store
        self.source = source
        self.size = store.size
        self.version, self._entries, self.overhead = _read_contents(store, source)
        self.end = self.overhead + sum(entry.length for entry in self._entries.values())
        if self.size > self.end:
            problem = f"{self.size - self.end} bytes follow the last section; get a new copy of the file"
            raise BitstreamError("trailing-garbage", f"{source}: {problem}")
        if self.size < self.end and not allow_partial:
            problem = f"cut at {self.size} of {self.end} bytes, sections {', '.join(self.missing)} are not complete"
            optional = all(name.startswith("f_g_") for name in self.missing)
            remedy = "get the rest, or show it with adcgs-decode --partial" if optional else "get the whole file again"
            raise BitstreamError("truncated", f"{source}: {problem}; {remedy}")

    @staticmethod
    def open(path: str | os.PathLike[str], *, allow_partial: bool = False) -> Container:
        """Open a file.

        Args:
            allow_partial: accept a file that was cut after its table of contents; its complete sections can be
                read, :attr:`missing` lists the others.

        Raises:
            BitstreamError: the file is refused, see :mod:`.codes`.
            OSError: the file cannot be read.
        """
        store = _File(path)
        try:
            return Container(store, os.fspath(path), allow_partial)
        except BaseException:
            store.close()
            raise

    @staticmethod
    def from_bytes(
        data: bytes | bytearray | memoryview, *, allow_partial: bool = False, source: str = "<bytes>"
    ) -> Container:
        """The same over bytes in memory."""
        return Container(_Bytes(data), source, allow_partial)

    @property
    def names(self) -> list[str]:
        """Names of all sections in the table of contents, in file order, complete or not."""
        return list(self._entries)

    @property
    def missing(self) -> list[str]:
        """Names of the sections that are cut off, wholly or in part."""
        return [entry.name for entry in self if entry.end > self.size]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, name: str) -> bool:
        """Whether the section is there to be read."""
        entry = self._entries.get(name)
        return entry is not None and entry.end <= self.size

    def entry(self, name: str) -> Entry:
        """The section's line in the table of contents.

        Raises:
            BitstreamError: ``missing-section``.
        """
        if name not in self._entries:
            raise BitstreamError(
                "missing-section", f"{self.source}: section '{name}' is not in the file; encode it again"
            )
        return self._entries[name]

    def read(self, name: str) -> bytes:
        """The section's bytes, checked.

        Raises:
            BitstreamError: ``missing-section``, ``truncated`` or ``crc-mismatch``.
        """
        entry = self.entry(name)
        data = self._store.read(entry.offset, entry.length) if entry.end <= self.size else None
        if data is None or len(data) != entry.length:
            raise BitstreamError("truncated", f"{self.source}: section '{name}' is cut off; get the rest of the file")
        if zlib.crc32(data) != entry.crc:
            problem = f"section '{name}' is damaged, its checksum does not match"
            raise BitstreamError("crc-mismatch", f"{self.source}: {problem}; get a new copy of the file")
        return data

    def damaged(self) -> list[str]:
        """Names of the complete sections whose checksum is wrong; reads them all, one at a time."""
        found = []
        for entry in self:
            if entry.name in self and zlib.crc32(self._store.read(entry.offset, entry.length)) != entry.crc:
                found.append(entry.name)
        return found

    def peek(self, name: str, length: int) -> bytes:
        """The section's first bytes, at most ``length``, fewer where it is shorter or cut off. Not checked."""
        entry = self.entry(name)
        return self._store.read(entry.offset, min(length, entry.length))

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_contents(store: _Bytes | _File, source: str) -> tuple[tuple[int, int], dict[str, Entry], int]:
    """((major, minor), entries by name, bytes up to the first section)."""
    head = store.read(0, _FIXED)
    cursor = Cursor(head, source)
    # A cut inside the magic is a cut, not another format; an empty file as well.
    if head[: len(MAGIC)] != MAGIC[: len(head)]:
        raise BitstreamError("bad-magic", f"{source}: not an .adc file (its first bytes are another format's)")
    cursor.take(len(MAGIC), "magic")
    major, minor = cursor.u8("major version"), cursor.u8("minor version")
    if major != MAJOR:
        remedy = "update adcgs" if major > MAJOR else "encode the capture again"
        problem = f"format version {major}.{minor}, this reader knows version {MAJOR}; {remedy}"
        raise BitstreamError("unsupported-version", f"{source}: {problem}")
    if flags := cursor.u8("flags"):
        raise BitstreamError("unsupported-version", f"{source}: unknown flags {flags:#04x}; update adcgs")
    sections = cursor.u8("number of sections")
    if sections == 0:
        raise BitstreamError("missing-section", f"{source}: the file has no sections; encode it again")
    table = head + store.read(_FIXED, sections * _MAX_ENTRY + 4)
    cursor = Cursor(table, source)
    cursor.take(_FIXED, "head")
    rows = [
        (cursor.u8("section kind"), cursor.varint("section length"), cursor.u32("section CRC")) for _ in range(sections)
    ]
    end_of_rows = cursor.position
    if cursor.u32("table of contents' CRC") != zlib.crc32(table[:end_of_rows]):
        problem = "the table of contents is damaged, its checksum does not match"
        raise BitstreamError("crc-mismatch", f"{source}: {problem}; get a new copy of the file")
    return (major, minor), _entries(rows, cursor.position, source), cursor.position


def _entries(rows: Sequence[tuple[int, int, int]], offset: int, source: str) -> dict[str, Entry]:
    """Rows of (kind, length, crc) to entries by name, in order."""
    entries: dict[str, Entry] = {}
    for kind, length, crc in rows:
        name = name_of(kind)
        if name is None:
            problem = f"section kind {kind:#04x} is required and unknown to this reader; update adcgs"
            raise BitstreamError("unknown-section", f"{source}: {problem}")
        if name in entries:
            raise BitstreamError("duplicate-section", f"{source}: section '{name}' appears twice; encode it again")
        if length > MAX_SECTION_BYTES:
            problem = f"section '{name}' claims {length} bytes, the format ends at {MAX_SECTION_BYTES}"
            raise BitstreamError("limit-exceeded", f"{source}: {problem}; get a new copy of the file")
        entries[name] = Entry(name, kind, offset, length, crc)
        offset += length
    if next(iter(entries)) != "header":
        raise BitstreamError("missing-section", f"{source}: the first section must be 'header'; encode the file again")
    return entries


def pack_container(sections: Sequence[tuple[str, bytes]]) -> bytes:
    """A whole file from (name, bytes) pairs, in the order given; the first must be ``header``.

    Raises:
        ValueError: a name outside of the registry, a duplicate, too many or too large sections, no header.
    """
    names = [name for name, _ in sections]
    if len(set(names)) != len(names) or not 1 <= len(names) <= 255 or names[0] != "header":
        raise ValueError(f"a file needs 1 to 255 different sections, 'header' first, not {names}")
    minor = max(_SINCE.get(name, 0) for name in names)  # the lowest version that has all that the file uses
    table = bytearray(MAGIC + bytes([MAJOR, minor, 0, len(sections)]))
    for name, data in sections:
        if len(data) > MAX_SECTION_BYTES:
            raise ValueError(f"section {name!r} has {len(data)} bytes, the format ends at {MAX_SECTION_BYTES}")
        table += bytes([kind_of(name)]) + varint(len(data)) + zlib.crc32(data).to_bytes(4, "little")
    table += zlib.crc32(table).to_bytes(4, "little")
    return bytes(table) + b"".join(data for _, data in sections)


def write_container(path: str | os.PathLike[str], sections: Sequence[tuple[str, bytes]]) -> int:
    """Write a file atomically and return its size in bytes.

    After a full disk, a kill or a power cut at any moment the path holds the old file, or none, or the whole
    new one: the bytes go to a temporary file in the same folder, reach the disk, and replace the old file in
    one step.

    Raises:
        ValueError: as :func:`pack_container`.
        OSError: the disk is full, the folder is missing or not writable.
    """
    data = pack_container(sections)
    write_atomically(Path(path), data)
    return len(data)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` in one step; see :func:`write_container`."""
    # Through a symbolic link, the file it points to is what the user wants replaced.
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        # Renaming over a device such as /dev/null would replace the device.
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_for(target))
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            # The user knows the path, not the temporary file's name.
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    _sync_folder(target.parent)


def _mode_for(target: Path) -> int:
    """Permissions of the file that is replaced, else what ``open`` would have given (mkstemp's are
    private).
    """
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets folders be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
