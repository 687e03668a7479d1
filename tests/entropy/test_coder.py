"""Both coders: the same symbols back, near the entropy, and no harm from damaged bytes."""

import builtins
import importlib.util

import numpy as np
import pytest
from adcgs.entropy import coder as coders
from adcgs.entropy import tables
from adcgs.entropy.coder import open_decoder, open_encoder
from adcgs.errors import BitstreamError, OptionError

from .samples import outcome
from .twins import BitDecoder, RangeDecoder

needs_torchac = pytest.mark.skipif(importlib.util.find_spec("torchac") is None, reason="torchac is an optional extra")
CODERS = ["constriction", pytest.param("torchac", marks=needs_torchac)]


def draw(counts: dict[int, int], seed: int = 0) -> tuple[list, np.ndarray, float]:
    """Runs over some levels' tables, symbols drawn from them, and the bits they should take."""
    rng = np.random.default_rng(seed)
    runs, parts, bits = [], [], 0.0
    for level, count in counts.items():
        table = tables.gaussian_tables()[level]
        p = table.frequencies / 65536
        part = rng.choice(len(table), size=count, p=p)
        bits -= np.log2(p[part]).sum()
        runs.append((table, count))
        parts.append(part)
    return runs, np.concatenate(parts).astype(np.int32), bits


@pytest.mark.parametrize("coder", CODERS)
def test_round_trip_near_the_entropy(coder: str):
    runs, symbols, bits = draw({0: 1000, 3: 5000, 20: 20000, 40: 700, 63: 3000, 21: 0, 22: 1})
    encoder = open_encoder(coder)
    encoder.push(runs, symbols)
    data = encoder.finish()
    assert len(data) * 8 <= bits * 1.001 + 8 * 8 * 7  # one block of torchac's per table length
    np.testing.assert_array_equal(open_decoder(coder, data).pull(runs), symbols)


@pytest.mark.parametrize("coder", CODERS)
def test_several_pushes_make_one_stream(coder: str):
    first, a, _ = draw({10: 100})
    second, b, _ = draw({30: 50, 50: 50}, seed=1)
    encoder = open_encoder(coder)
    encoder.push(first, a)
    encoder.push(second, b)
    decoder = open_decoder(coder, encoder.finish())
    np.testing.assert_array_equal(decoder.pull(first), a)
    np.testing.assert_array_equal(decoder.pull(second), b)


@needs_torchac
def test_torchac_splits_long_runs_into_blocks():
    runs, symbols, _ = draw({0: 40000, 1: 30000, 25: 20000})
    encoder = open_encoder("torchac")
    encoder.push(runs, symbols)
    np.testing.assert_array_equal(open_decoder("torchac", encoder.finish()).pull(runs), symbols)


def test_rarest_symbols_survive():
    for level in (0, 20, 63):
        table = tables.gaussian_tables()[level]
        symbols = np.arange(len(table), dtype=np.int32)
        encoder = open_encoder("constriction")
        encoder.push([(table, len(table))], symbols)
        np.testing.assert_array_equal(
            open_decoder("constriction", encoder.finish()).pull([(table, len(table))]), symbols
        )


def test_constriction_codes_exactly_our_frequencies():
    """A stream of n symbols of frequency f takes n log2(65536 / f) bits; any other table would be off by more."""
    table = tables.gaussian_tables()[30]
    for symbol in (table.reach, table.reach + 2, table.reach + 9):
        count = 40000
        encoder = open_encoder("constriction")
        encoder.push([(table, count)], np.full(count, symbol, np.int32))
        exact = count * np.log2(65536 / table.frequencies[symbol])
        assert abs(len(encoder.finish()) * 8 - exact) <= 64


@pytest.mark.parametrize("coder", CODERS)
def test_nothing_coded_is_nothing_decoded(coder: str):
    data = open_encoder(coder).finish()
    assert data == b""
    assert open_decoder(coder, data).pull([]).size == 0


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("symbol", [-1, 10, 32767, -32768])
def test_symbol_outside_its_table_is_a_bug_not_a_stream(coder: str, symbol: int):
    with pytest.raises(ValueError, match="outside"):
        open_encoder(coder).push([(tables.gaussian_tables()[0], 1)], np.array([symbol], np.int32))


@pytest.mark.parametrize("coder", CODERS)
def test_garbage_gives_symbols_of_the_table_or_one_error(coder: str):
    rng = np.random.default_rng(5)
    tried = tables.gaussian_tables()
    for _ in range(300):
        data = rng.bytes(int(rng.integers(0, 40)))
        if rng.random() < 0.3:
            data = b"\xff" * len(data)
        table = tried[int(rng.integers(64))]
        runs = [(table, 30), (tables.bit_table(), 8)]
        symbols, code = outcome(lambda data=data, runs=runs: open_decoder(coder, data).pull(runs))
        assert code in (None, "corrupt-stream")
        if code is None:
            assert symbols.min() >= 0
            assert symbols[:30].max() < len(table)
            assert symbols[30:].max() < 2


@needs_torchac
@pytest.mark.parametrize("data", [b"", b"\x05", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff\x00", b"\x02\x00\x00\x00\x00"])
def test_torchac_blocks_cannot_lie_about_their_length(data: bytes):
    with pytest.raises(BitstreamError) as refusal:
        open_decoder("torchac", data).pull([(tables.gaussian_tables()[3], 5)])
    assert refusal.value.code == "corrupt-stream"


def test_unknown_coder():
    with pytest.raises(OptionError) as refusal:
        open_encoder("huffman")
    assert refusal.value.code == "unknown-coder"


def test_absent_torchac_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "torchac":
            raise ImportError("No module named 'torchac'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    coders._torchac.cache_clear()
    try:
        with pytest.raises(OptionError) as refusal:
            open_encoder("torchac")
    finally:
        coders._torchac.cache_clear()
    assert refusal.value.code == "coder-not-installed"
    assert "adcgs[torchac]" in str(refusal.value)


@pytest.mark.parametrize("seed", range(6))
def test_range_coder_is_the_specified_one(seed: int):
    runs, symbols, _ = draw({0: 200 * seed, 9: 60, 33: 70 * seed, 63: 20}, seed)
    encoder = open_encoder("constriction")
    encoder.push(runs, symbols)
    twin = RangeDecoder(encoder.finish())
    assert [twin.symbol(table.frequencies.tolist()) for table, count in runs for _ in range(count)] == symbols.tolist()


def test_range_coder_reads_any_words_as_specified():
    """Garbage, and words that run out: the same symbols, or the same refusal."""
    rng = np.random.default_rng(11)
    for trial in range(400):
        data = rng.bytes(4 * int(rng.integers(0, 6)))
        if trial % 4 == 0:
            data = b"\xff" * len(data)
        runs = [(tables.gaussian_tables()[int(rng.integers(64))], 12), (tables.bit_table(), 5)]
        symbols, code = outcome(lambda data=data, runs=runs: open_decoder("constriction", data).pull(runs))
        twin = RangeDecoder(data)
        try:
            expected = [twin.symbol(table.frequencies.tolist()) for table, count in runs for _ in range(count)]
        except ValueError:
            assert code == "corrupt-stream"
        else:
            assert symbols.tolist() == expected


@needs_torchac
@pytest.mark.parametrize("seed", range(3))
def test_torchac_is_the_specified_one(seed: int):
    runs, symbols, _ = draw({0: 400, 9: 60, 33: 70, 63: 200}, seed)
    encoder = open_encoder("torchac")
    encoder.push(runs, symbols)
    data, at, decoded = encoder.finish(), 0, []
    for block in coders._blocks(runs):
        size = int.from_bytes(data[at : at + 4], "little")
        twin = BitDecoder(data[at + 4 : at + 4 + size])
        decoded += [twin.symbol(table.frequencies.tolist()) for table, count in block for _ in range(count)]
        at += 4 + size
    assert decoded == symbols.tolist()
    assert at == len(data)
