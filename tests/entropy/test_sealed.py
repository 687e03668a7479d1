"""The sealed model: compress / decompress, partial files, refusals, parameters as bytes."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from adcgs.entropy import Features, MultiDimensionEntropyModel, SealedEntropyModel
from adcgs.entropy.sealed import FREE_VALUES, VALUES_PER_BYTE
from adcgs.errors import AdcError, BitstreamError, OptionError

from .samples import SMALL, anchors, outcome, trained
from .test_coder import CODERS


def sealed_model(weight_bits: int | None = 8) -> tuple[SealedEntropyModel, Features]:
    model, features = trained()
    return model.seal(features, weight_bits), features


def refused(code: str, call: Callable[[], object]) -> None:
    with pytest.raises(AdcError) as refusal:
        call()
    assert refusal.value.code == code
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("coder", CODERS)
def test_decoder_gets_what_the_encoder_announced(coder: str):
    sealed, features = sealed_model()
    sealed = SealedEntropyModel(replace(SMALL, coder=coder), sealed.parameters, sealed.analysis)
    coded = sealed.compress(features)
    reader = SealedEntropyModel.from_bytes(sealed.to_bytes(), sealed.config)
    decoded = reader.decompress(coded.streams, len(features))
    assert decoded.digest() == coded.decoded.digest() == sealed.digest(decoded)
    assert decoded.missing == ()
    for name in ("f_v", "f_g", "sigma", "color"):
        assert torch.equal(getattr(decoded.features, name), getattr(coded.decoded.features, name))
    for name in SMALL.components:
        np.testing.assert_array_equal(decoded.symbols[name], coded.decoded.symbols[name])
        assert coded.counts[name] == len(features) * SMALL.width(name)


def test_both_coders_decode_the_same_integers():
    pytest.importorskip("torchac")
    sealed, features = sealed_model()
    digests = set()
    for coder in ("constriction", "torchac"):
        one = SealedEntropyModel(replace(SMALL, coder=coder), sealed.parameters, sealed.analysis)
        digests.add(one.decompress(one.compress(features).streams, len(features)).digest())
    assert len(digests) == 1


def test_values_are_one_float_product_of_the_integers():
    sealed, features = sealed_model()
    decoded = sealed.compress(features).decoded
    q = sealed.parameters.steps["f_v"]
    exact = decoded.values["f_v"].astype(np.float64) * (q.astype(np.float64) / 4096)
    np.testing.assert_array_equal(decoded.arrays["f_v"], exact.astype(np.float32))
    width = SMALL.f_g // SMALL.chunks
    unit = sealed.parameters.steps["f_g"].astype(np.float64) / 4096
    for m in range(SMALL.chunks):
        part = decoded.values[f"f_g_{m}"].reshape(-1, SMALL.primitives, width) * unit[m * width : (m + 1) * width]
        np.testing.assert_array_equal(decoded.arrays["f_g"][:, :, m * width : (m + 1) * width], part.astype(np.float32))


def test_bytes_are_within_one_percent_of_the_estimate():
    sealed, features = sealed_model()
    coded = sealed.compress(features)
    estimate = sealed.estimate_bits(features)
    assert coded.size * 8 == pytest.approx(sum(estimate.values()), rel=0.01)
    for name, stream in coded.streams.items():
        assert len(stream) * 8 == pytest.approx(estimate[name], rel=0.01, abs=72)


def test_missing_chunks_take_their_predicted_means():
    sealed, features = sealed_model()
    coded = sealed.compress(features)
    full = coded.decoded.features
    errors = []
    for kept in range(SMALL.chunks + 1):
        names = SMALL.components[: 4 + kept]
        streams = {name: coded.streams[name] for name in names}
        decoded = sealed.decompress(streams, len(features), partial=True)
        assert decoded.missing == SMALL.components[4 + kept :]
        width = SMALL.f_g // SMALL.chunks
        assert torch.equal(decoded.features.f_g[:, :, : kept * width], full.f_g[:, :, : kept * width])
        assert torch.equal(decoded.features.sigma, full.sigma)
        errors.append(float((decoded.features.f_g - features.f_g).square().mean()))
    assert errors == sorted(errors, reverse=True)  # better with every chunk
    variance = float((features.f_g - features.f_g.mean(0)).square().mean())
    assert errors[0] < 0.9 * variance  # the prediction from f_v alone knows something


def test_gaps_and_strangers_are_refused():
    sealed, features = sealed_model()
    streams, count = sealed.compress(features).streams, len(features)

    def without(*names: str) -> dict[str, bytes]:
        return {name: data for name, data in streams.items() if name not in names}

    refused("missing-component", lambda: sealed.decompress(without("f_g_3"), count))
    refused("missing-component", lambda: sealed.decompress(without("f_g_1"), count, partial=True))
    refused("missing-component", lambda: sealed.decompress(without("color", "f_g_3"), count, partial=True))
    refused("missing-component", lambda: sealed.decompress({}, count, partial=True))
    refused("unknown-component", lambda: sealed.decompress({**streams, "f_g_4": b""}, count))
    for wrong in (0, -1, 1 << 40):
        refused("bad-count", lambda wrong=wrong: sealed.decompress(streams, wrong))


def test_a_model_from_a_file_cannot_compress():
    sealed, features = sealed_model()
    reader = SealedEntropyModel.from_bytes(sealed.to_bytes(), SMALL)
    refused("cannot-compress", lambda: reader.compress(features))


def test_features_that_cannot_be_coded_are_refused():
    sealed, _ = sealed_model()
    broken = anchors(5)
    broken.sigma[2, 1] = float("nan")
    refused("not-finite", lambda: sealed.compress(broken))
    refused("no-anchors", lambda: sealed.compress(anchors(0)))
    wide = anchors(5)
    wide.f_v = torch.zeros(5, SMALL.f_v + 1)
    refused("bad-features", lambda: sealed.compress(wide))


def test_extreme_features_are_clamped_not_corrupted():
    sealed, _ = sealed_model()
    features = anchors(20)
    features.f_v[3] = 3e38
    features.f_g[4] = -3e38
    features.sigma[5] = 1e6
    coded = sealed.compress(features)
    assert sealed.decompress(coded.streams, 20).digest() == coded.decoded.digest()
    assert torch.isfinite(coded.decoded.features.f_v).all()


def test_more_anchors_than_bytes_are_refused_before_anything_is_allocated():
    sealed, features = sealed_model()
    streams = sealed.compress(features).streams
    tracemalloc.start()
    refused("count-exceeds-data", lambda: sealed.decompress(streams, 1 << 22))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def still_model(count: int) -> tuple[SealedEntropyModel, Features]:
    """Anchors with 2081 values each that cost almost nothing: all are zeros, and the model knows."""
    wide = replace(SMALL, primitives=64, f_g=32, chunks=1)
    features = Features(
        f_v=torch.zeros(count, wide.f_v),
        f_g=torch.zeros(count, wide.primitives, wide.f_g),
        sigma=torch.zeros(count, wide.sigma),
        color=torch.zeros(count, wide.color),
    )
    model = MultiDimensionEntropyModel(wide)
    model.restart_statistics(features)
    return model.seal(features, 8), features


def test_values_that_cost_nothing_are_padded_to_the_bound():
    sealed, features = still_model(400)
    coded = sealed.compress(features)
    values = sum(coded.counts.values())
    sizes = {name: len(data) for name, data in coded.streams.items()}
    least = sum(sizes[name] for name in ("hyper", "f_v", "sigma", "color"))
    assert FREE_VALUES + VALUES_PER_BYTE * (least - 4) < values <= FREE_VALUES + VALUES_PER_BYTE * least
    assert sizes["hyper"] > 2000
    assert sum(sizes.values()) - sizes["hyper"] < 200
    assert sealed.decompress(coded.streams, 400).digest() == coded.decoded.digest()


def test_the_bound_counts_values_of_all_components_and_bytes_of_those_that_no_cut_takes():
    sealed, features = still_model(400)
    streams = sealed.compress(features).streams
    short = streams["hyper"][:-4]
    refused("count-exceeds-data", lambda: sealed.decompress({**streams, "hyper": short}, 400))
    refused("count-exceeds-data", lambda: sealed.decompress({**streams, "hyper": short, "f_g_0": bytes(4000)}, 400))
    sealed.decompress({**streams, "hyper": short, "color": streams["color"] + bytes(4)}, 400)
    cut = {name: data for name, data in streams.items() if name != "f_g_0"}
    sealed.decompress(cut, 400, partial=True)
    refused("count-exceeds-data", lambda: sealed.decompress({**cut, "hyper": short}, 400, partial=True))


def test_anchors_of_up_to_256_values_need_no_more_than_a_byte_each():
    """The bound that files were written under before it counted values: theirs stay good."""
    sealed, _ = sealed_model()
    assert sum(map(SMALL.width, SMALL.components)) <= VALUES_PER_BYTE
    count = 1024 + 5000
    sealed.decompress({name: bytes(5000) if name == "f_v" else b"" for name in SMALL.components}, count)


def test_one_anchor():
    sealed, _ = sealed_model()
    coded = sealed.compress(anchors(1))
    assert sealed.decompress(coded.streams, 1).digest() == coded.decoded.digest()


def test_damaged_streams_decode_or_are_refused():
    sealed, features = sealed_model()
    streams = sealed.compress(features).streams
    rng = np.random.default_rng(0)
    for trial in range(120):
        name = SMALL.components[trial % len(SMALL.components)]
        data = bytearray(streams[name])
        kind = trial % 4
        if kind == 0:
            data = data[: int(rng.integers(len(data) + 1))]
        elif kind == 1:
            data += rng.bytes(int(rng.integers(1, 9)))
        elif kind == 2:
            data = bytearray(rng.bytes(len(data)))
        else:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        damaged = {**streams, name: bytes(data)}
        decoded, code = outcome(lambda damaged=damaged: sealed.decompress(damaged, len(features)))
        assert code in (None, "corrupt-stream")
        if code is None:
            assert all(np.isfinite(array).all() for array in decoded.arrays.values())


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize("weight_bits", [None, 4, 8, 16])
def test_parameters_survive_their_bytes(weight_bits: int | None):
    sealed, _ = sealed_model(weight_bits)
    data = sealed.to_bytes()
    again = SealedEntropyModel.from_bytes(data, SMALL)
    assert again.to_bytes() == data
    for name, network in sealed.parameters.networks.items():
        for ours, theirs in zip(network.layers, again.parameters.networks[name].layers, strict=True):
            np.testing.assert_array_equal(ours.weight, theirs.weight)
            np.testing.assert_array_equal(ours.shift, theirs.shift)
            np.testing.assert_array_equal(ours.bias, theirs.bias)


def test_fewer_weight_bits_cost_little_rate_and_save_bytes():
    model, features = trained()
    fine, coarse = model.seal(features, 16), model.seal(features, 6)
    assert len(coarse.to_bytes()) < 0.5 * len(fine.to_bytes())
    bits = [sum(one.estimate_bits(features).values()) for one in (fine, coarse)]
    assert bits[1] < 1.01 * bits[0]


def test_sealing_chooses_the_smallest_sum_that_training_did_not_misjudge():
    model, features = trained()

    def sizes(sealed: SealedEntropyModel) -> tuple[float, float]:
        """Bytes in all, and of the features."""
        coded = sum(sealed.estimate_bits(features).values()) / 8
        return len(sealed.to_bytes()) + coded, coded

    tried = [sizes(model.seal(features, bits)) for bits in (4, 5, 6, 7, 8)]
    finest = tried[-1][1]
    total, coded = sizes(model.seal(features))
    assert total == min(whole for whole, part in tried if part <= 1.015 * finest)
    assert coded <= 1.015 * finest


def test_weight_bits_and_broken_models_are_refused():
    model, features = trained()
    for bits in (3, 17):
        refused("bad-weight-bits", lambda bits=bits: model.seal(features, bits))
    name, parameter = next(iter(model.named_parameters()))
    kept = parameter.detach().clone()
    with torch.no_grad():
        parameter.view(-1)[0] = float("nan")
    try:
        with pytest.raises(OptionError, match=name.replace(".", r"\.")) as refusal:
            model.seal(features)
        assert refusal.value.code == "not-finite"
    finally:
        with torch.no_grad():
            parameter.copy_(kept)


def test_truncated_parameters_are_refused_at_every_byte():
    data = sealed_model()[0].to_bytes()
    for size in [*range(0, len(data), 7), *range(len(data) - 30, len(data))]:
        with pytest.raises(BitstreamError) as refusal:
            SealedEntropyModel.from_bytes(data[:size], SMALL)
        assert refusal.value.code in ("bad-entropy-parameters", "corrupt-stream")
    refused("bad-entropy-parameters", lambda: SealedEntropyModel.from_bytes(data + b"\0", SMALL))


def test_mutated_parameters_never_escape():
    """Any model that is accepted keeps to integer arithmetic, so it decodes to something; nothing else may happen."""
    sealed, features = sealed_model()
    data, streams = sealed.to_bytes(), sealed.compress(features).streams
    rng = np.random.default_rng(2)
    accepted = 0
    for trial in range(250):
        mutant = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(data) if trial % 2 else 400))
            mutant[at] = int(rng.choice([0, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
        other, code = outcome(lambda mutant=mutant: SealedEntropyModel.from_bytes(bytes(mutant), SMALL))
        assert code in (None, "bad-entropy-parameters", "corrupt-stream")
        accepted += code is None
        if code is None and trial % 5 == 0:
            assert outcome(lambda other=other: other.decompress(streams, len(features)))[1] in (None, "corrupt-stream")
    assert accepted > 10


def test_huge_networks_in_little_data_are_refused_before_anything_is_allocated():
    huge = replace(SMALL, f_v=128, primitives=64, f_g=32, chunks=16, hidden=256, hyper=2)
    steps = np.ones(128 + 6 + 3 + 32, "<f4").tobytes()
    priors = 2 * (b"\x00\x02" + b"\x80\x80\x02")  # two symbols of frequency 32768
    heads = b"\x00\x00\x00" * 5000
    tracemalloc.start()
    refused("bad-entropy-parameters", lambda: SealedEntropyModel.from_bytes(steps + priors + heads, huge))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
