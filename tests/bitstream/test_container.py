"""The container: what is written comes back, what is damaged is refused, a cut file still gives what it has."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from adcgs import BitstreamError
from adcgs.bitstream import SECTION_KINDS, Container, pack_container, write_container
from adcgs.bitstream.container import MAGIC
from adcgs.bitstream.cursor import varint

SECTIONS = [("header", b"head"), ("networks", b"weights" * 30), ("positions", b""), ("f_g_0", bytes(1000))]


def code_of(data: bytes, **options: bool) -> str:
    with pytest.raises(BitstreamError) as caught:
        Container.from_bytes(data, **options)
    return caught.value.code


def read_all(data: bytes) -> None:
    container = Container.from_bytes(data)
    for name in container.names:
        container.read(name)


def by_hand(
    rows: list[tuple[int, int, int]], payload: bytes, count: int | None = None, version: bytes = b"\2\0"
) -> bytes:
    """A file written straight from the specification."""
    head = MAGIC + version + bytes([0, len(rows) if count is None else count])
    head += b"".join(bytes([kind]) + varint(length) + crc.to_bytes(4, "little") for kind, length, crc in rows)
    return head + zlib.crc32(head).to_bytes(4, "little") + payload


def test_sections_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "scene.adc"
    size = write_container(path, SECTIONS)
    assert size == path.stat().st_size
    with Container.open(path) as container:
        assert container.names == [name for name, _ in SECTIONS]
        assert [(name, container.read(name)) for name in container.names] == SECTIONS
        assert container.missing == []
        assert container.overhead + sum(entry.length for entry in container) == size


def test_the_layout_is_what_the_specification_says() -> None:
    expected = by_hand([(1, 4, zlib.crc32(b"head")), (4, 3, zlib.crc32(b"xyz"))], b"headxyz")
    assert pack_container([("header", b"head"), ("positions", b"xyz")]) == expected


def test_opening_reads_the_table_of_contents_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "scene.adc"
    write_container(path, [("header", b"head"), ("networks", bytes(1 << 20))])
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with Container.open(path) as container:
        assert container.read("header") == b"head"
        with pytest.raises(BitstreamError) as caught:
            container.read("networks")
    assert caught.value.code == "crc-mismatch"
    assert str(path) in str(caught.value)
    assert "'networks'" in str(caught.value)


def test_every_single_flipped_bit_is_noticed() -> None:
    data = pack_container([("header", b"head"), ("cameras", b"abc")])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            read_all(bytes(damaged))


def test_every_cut_is_refused_by_default_and_read_as_far_as_it_goes_on_request() -> None:
    data = pack_container(SECTIONS)
    first = Container.from_bytes(data).overhead
    for end in range(len(data)):
        assert code_of(data[:end]) == "truncated"
        if end < first:
            assert code_of(data[:end], allow_partial=True) == "truncated"
            continue
        container = Container.from_bytes(data[:end], allow_partial=True)
        for name, content in SECTIONS:
            if name in container:
                assert container.read(name) == content
            else:
                assert name in container.missing
                with pytest.raises(BitstreamError, match="cut off"):
                    container.read(name)


def test_bytes_after_the_last_section_are_refused() -> None:
    assert code_of(pack_container(SECTIONS) + b"\0") == "trailing-garbage"
    assert code_of(pack_container(SECTIONS) + b"\0", allow_partial=True) == "trailing-garbage"


def test_a_missing_section_is_named() -> None:
    container = Container.from_bytes(pack_container(SECTIONS))
    with pytest.raises(BitstreamError, match="'sigma'") as caught:
        container.read("sigma")
    assert caught.value.code == "missing-section"
    assert "sigma" not in container


def test_a_higher_minor_version_is_read_and_a_higher_major_one_is_not() -> None:
    row = [(1, 4, zlib.crc32(b"head"))]
    assert Container.from_bytes(by_hand(row, b"head", version=b"\2\7")).version == (2, 7)
    assert code_of(by_hand(row, b"head", version=b"\1\0")) == "unsupported-version"
    assert code_of(by_hand(row, b"head", version=b"\3\0")) == "unsupported-version"


def test_an_unknown_optional_section_is_carried_along_and_an_unknown_required_one_is_refused() -> None:
    header = (1, 4, zlib.crc32(b"head"))
    container = Container.from_bytes(by_hand([header, (0xF3, 2, zlib.crc32(b"hi"))], b"headhi"))
    assert container.names == ["header", "optional-f3"]
    assert pack_container([("header", b"head"), ("optional-f3", b"hi")])[-2:] == b"hi"
    assert code_of(by_hand([header, (0x73, 2, zlib.crc32(b"hi"))], b"headhi")) == "unknown-section"


def test_the_table_costs_under_two_hundred_bytes_for_a_whole_scene() -> None:
    sections = [(name, bytes(70_000)) for name in SECTION_KINDS if not name.startswith("f_g_")]
    sections += [(f"f_g_{index}", bytes(70_000)) for index in range(10)]
    assert Container.from_bytes(pack_container(sections)).overhead < 200


def test_registered_kinds_are_distinct_bytes() -> None:
    assert len(set(SECTION_KINDS.values())) == len(SECTION_KINDS)
    assert all(0 < kind < 256 for kind in SECTION_KINDS.values())


@pytest.mark.parametrize(
    "sections",
    [[], [("positions", b"")], [("header", b""), ("header", b"")], [("header", b""), ("no such", b"")]],
)
def test_a_writer_that_misuses_the_format_is_told(sections: list[tuple[str, bytes]]) -> None:
    with pytest.raises(ValueError, match=r"header|no section"):
        pack_container(sections)


# ---- writing is atomic


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scene.adc"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_container(path, SECTIONS)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == ["scene.adc"]


def test_a_disk_that_fills_up_at_any_call_leaves_the_old_file_or_the_whole_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call to the system between the first and the last fails in its turn."""
    path, new = tmp_path / "scene.adc", pack_container(SECTIONS)
    places = ((tempfile, "mkstemp"), (os, "fdopen"), (os, "fsync"), (os, "chmod"), (os, "replace"), (os, "open"))
    calls: list[str] = []
    fail_at = 0

    def watch(name: str, real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == fail_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            result = real(*args, **options)
            return result if name != "fdopen" else Failing(result)

        return call

    class Failing:
        """A file each of whose operations may be the one that fails."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return watch(name, getattr(self._file, name)) if name in ("write", "flush") else getattr(self._file, name)

        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *_: object) -> None:
            watch("close", self._file.close)()

    for module, name in places:
        monkeypatch.setattr(module, name, watch(name, getattr(module, name)))
    written, told = 0, []
    for fail_at in range(1, 20):
        path.write_bytes(b"old")
        calls.clear()
        try:
            write_container(path, SECTIONS)
        except OSError as error:
            told.append((error.errno, error.filename))
            assert path.read_bytes() == b"old"
        else:
            written += 1
            assert path.read_bytes() == new
        assert leftovers(tmp_path) == ["scene.adc"]
        if len(calls) < fail_at:
            break
    assert {"mkstemp", "fdopen", "write", "flush", "fsync", "close", "chmod", "replace"} <= set(calls)
    assert set(told) == {(errno.ENOSPC, str(path))}
    assert len(told) > 6
    assert written >= 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that can be filled")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes any write beyond it fail as a full disk does."""
    script = f"""
import resource, signal
from adcgs.bitstream import write_container
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_container({str(tmp_path / "scene.adc")!r}, [("header", bytes(100_000))])
except OSError as error:
    print(error.filename)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(tmp_path / "scene.adc")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("victim", ["write", "fsync", "replace"])
def test_a_kill_at_any_moment_leaves_the_old_file(tmp_path: Path, victim: str) -> None:
    path = tmp_path / "scene.adc"
    write_container(path, [("header", b"old")])
    old = path.read_bytes()
    script = f"""
import os, signal
from adcgs.bitstream import container
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
if {victim!r} == "write":
    real = os.fdopen
    def fdopen(*args):
        file = real(*args)
        class Dying:
            def __enter__(self): return self
            def __exit__(self, *_): pass
            def write(self, data): file.write(data[: len(data) // 2]); file.flush(); die()
        return Dying()
    os.fdopen = fdopen
else:
    setattr(os, {victim!r}, die)
container.write_container({str(path)!r}, [("header", b"new" * 1000)])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert result.returncode == -9
    assert path.read_bytes() == old


def test_kills_at_random_moments_leave_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """A process that does nothing but replace a file, killed again and again."""
    path = tmp_path / "scene.adc"
    versions = [pack_container([("header", bytes([k]) * 300_000)]) for k in range(2)]
    script = f"""
import itertools
from adcgs.bitstream import write_container
print("ready", flush=True)
for k in itertools.count():
    write_container({str(path)!r}, [("header", bytes([k % 2]) * 300_000)])
"""
    seen = set()
    for attempt in range(12):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.003 + 0.0051 * attempt)
        process.kill()
        assert process.wait() == -9
        process.stdout.close()
        if path.exists():
            seen.add(versions.index(path.read_bytes()))
    assert seen, "no process lived long enough to write a file"


def test_permissions_of_the_old_file_are_kept_and_a_new_one_follows_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "scene.adc"
    before = os.umask(0o027)
    try:
        write_container(path, SECTIONS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    write_container(path, SECTIONS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "target.adc", tmp_path / "link.adc"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_container(link, SECTIONS)
    assert link.is_symlink()
    assert target.read_bytes() == pack_container(SECTIONS)


def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        write_container("/dev/null", SECTIONS)
    assert not stat.S_ISREG(os.stat("/dev/null").st_mode)


def test_the_same_sections_give_the_same_bytes() -> None:
    assert pack_container(SECTIONS) == pack_container(list(SECTIONS))
