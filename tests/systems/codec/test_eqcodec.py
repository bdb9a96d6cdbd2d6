"""EQcodec: the poster's numbers, codes that do not depend on what they must not, and learning."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from small_codec import ALONE, CASES, FRAME, JUDGED, MARGIN, TINY, coders, made, mixtures, recipe, six_steps, state

from seislatent import catalog
from seislatent.batch import Batch
from seislatent.engine import checkpoint
from seislatent.engine.train import train
from seislatent.engine.trainer import Engine
from seislatent.errors import SeislatentError
from seislatent.signal import gain
from seislatent.systems.codec.eqcodec import EQCodec, EQCodecConfig

HERE = Path(__file__).parent
GOLDEN = {"codec/eqcodec": (3_113_025, 254_787), "codec/eqcodec_small": (761_057, 0)}
"""Numbers that encoder, decoder and what the quantiser foretells by, and the discriminators of a preset learn."""


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu", devices=1)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def latents(system, x):
    """What the encoder gives for records with their context, and what they were normalised by."""
    offset, scale = gain.measure(x[:, 0, MARGIN:-MARGIN], FRAME)
    with torch.no_grad():
        return system.encoder(gain.normalise(x[:, 0], offset, scale, FRAME, MARGIN)[:, None], MARGIN), offset, scale


def snr_db(system, x):
    """Mean over records at each level, and without quantiser."""
    inner = x[:, :, MARGIN:-MARGIN]
    power = (inner - inner.mean(2, keepdim=True)).square().sum(2)

    def mean(y):
        return float((10 * torch.log10(power / (y - inner).square().sum(2))).mean())

    tokens = system.encode(x, MARGIN)
    z, offset, scale = latents(system, x)
    with torch.no_grad():
        y = system.decoder(z, torch.full((len(x),), system.books))[:, 0]
    levels = [mean(system.decode(tokens, level)) for level in range(1, system.books + 1)]
    return levels, mean(gain.restore(y, offset, scale, FRAME)[:, None])


# -- the poster -------------------------------------------------------------------------------------------------------------------


def test_the_posters_numbers():
    config = EQCodecConfig()
    system = EQCodec(replace(config, width=2, lstm_layers=1, discriminator_width=2))
    assert (system.sampling_rate_hz, system.frame, config.latent) == (40.0, 40, 32)
    assert (system.books, config.entries, system.bits_per_index) == (8, 1024, 10)
    assert [level * system.bits_per_second for level in range(1, 9)] == [10, 20, 30, 40, 50, 60, 70, 80]
    assert system.quantizer.codebooks.shape == (8, 1024, 32)
    assert [d.points for d in system.discriminators] == [128, 64, 32]
    x = normal(2, 1, 16 * FRAME).float()
    bins = [d(x)[0].shape[2] for d in system.discriminators]  # in parallel: each judges the record itself
    assert bins == [n // 2 + 2 for n in (128, 64, 32)]


@pytest.mark.parametrize("name, sizes", GOLDEN.items())
def test_golden_sizes_of_the_presets(name, sizes):
    it = catalog.preset(name)
    system = catalog.build(it.system, it.config)
    own = catalog.players(system)
    assert (sum(own[name] for name in coders(system)), own.get("discriminator", 0)) == sizes
    assert (system.frame, system.books, system.bits_per_second, system.config.entries) == (40, 8, 10.0, 1024)


@pytest.mark.parametrize("changes", [{}, {"lapped": False}, {"strides": (2, 2, 4), "books": 2, "entries": 8}, {"lstm_layers": 2}])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_shapes(changes, frames):
    system = made(**changes)
    frame, books = system.frame, system.books
    tokens = system.encode(normal(3, 1, frames * frame))
    assert tokens.indices.shape == (3, books, frames) and tokens.scale.shape == (3, frames) and tokens.offset.shape == (3,)
    assert tokens.indices.min() >= 0 and tokens.indices.max() < system.config.entries
    for level in (*range(1, books + 1), None):
        y = system.decode(tokens, level)
        assert y.shape == (3, 1, frames * frame) and y.dtype == torch.float64 and y.isfinite().all()
    assert torch.equal(system.reconstruct(normal(3, 1, frames * frame)), y)


def test_what_it_refuses():
    system = made()
    for shape in ((2, 3, 80), (2, 1, 90), (2, 1, 0)):
        with pytest.raises(SeislatentError, match=r"segments of shape .*\[batch 1 time\] in .*frames of 40 samples"):
            system.encode(torch.zeros(shape))
    with pytest.raises(SeislatentError, match="frames of 40"):
        system.encode(torch.zeros(1, 1, 320), margin=160)
    with pytest.raises(SeislatentError, match=r"needs a multiple of 4 .*strides"):
        made(strides=(3, 3))
    with pytest.raises(SeislatentError, match=r"\['real'\] alone"):
        made(weights={"waveform": 1.0, "real": 1.0})


def test_lapped_transform_alone_reconstructs_what_lies_below_16_hz():
    """Fresh weights: 32 of 40 cosines a frame, so 0 to 16 Hz; the outer quarter frames have one neighbour only."""
    torch.manual_seed(0)
    system = EQCodec(replace(TINY, latent=32)).eval()
    spectrum = torch.fft.rfft(normal(4, 1, 24 * FRAME))
    spectrum[..., torch.fft.rfftfreq(24 * FRAME, 1 / 40.0) >= 15.5] = 0
    x = torch.fft.irfft(spectrum, 24 * FRAME).float()
    with torch.no_grad():
        y = system.decoder(system.encoder(x, MARGIN), torch.full((4,), 3))
    inner = x[:, :, MARGIN:-MARGIN]
    error = (y - inner)[:, :, FRAME // 4 : -FRAME // 4].square().mean((1, 2))
    assert (10 * torch.log10(inner.square().mean((1, 2)) / error) > 25).all()


# -- codes ------------------------------------------------------------------------------------------------------------------------


def test_what_lies_beyond_the_margin_does_not_matter():
    system, more = made(), 400
    x = normal(3, 1, 10 * FRAME + 2 * more)
    tokens = system.encode(x[:, :, more - MARGIN : MARGIN - more], MARGIN)
    for margin in (170, 200, 320, more):
        cut = more - margin
        other = system.encode(x[:, :, cut : x.shape[2] - cut], margin)
        assert torch.equal(tokens.indices, other.indices) and torch.equal(tokens.scale, other.scale), margin
    x[:, :, : more - MARGIN], x[:, :, MARGIN - more :] = 1e5, -7.0
    assert torch.equal(tokens.indices, system.encode(x, more).indices)
    x[:, :, : more - 110] = -1.0  # the convolutions see no farther than this
    assert torch.equal(tokens.indices, system.encode(x, more).indices)
    x[:, :, more - 10 : more] = 3.0
    assert not torch.equal(tokens.indices[:, :, 0], system.encode(x, more).indices[:, :, 0])
    inner = x[:, :, more:-more]
    held = torch.nn.functional.pad(inner, (MARGIN, MARGIN), mode="replicate")
    neither = torch.zeros(3, 2, dtype=torch.bool)
    assert torch.equal(system.encode(inner, ends=neither).indices, system.encode(held, MARGIN).indices)  # end values are held


def test_without_context_a_record_is_a_whole_trace():
    system, x = made(), normal(4, 1, 10 * FRAME + 2 * MARGIN)
    inner = x[:, :, MARGIN:-MARGIN]
    alone = system.encode(inner)
    assert torch.equal(alone.indices, system.encode(x, MARGIN, torch.ones(4, 2, dtype=torch.bool)).indices)
    assert not torch.equal(alone.indices, system.encode(x, MARGIN).indices)
    x[:, :, :MARGIN], x[:, :, -MARGIN:] = 1e5, -7.0  # nothing beyond an end of a trace matters, and an end is one record's own
    ends = torch.tensor([[True, False], [False, True], [True, True], [False, False]])
    found = system.encode(x, MARGIN, ends).indices
    assert torch.equal(alone.indices[2], found[2])
    for i in range(4):
        assert torch.equal(system.encode(x[i : i + 1], MARGIN, ends[i : i + 1]).indices[0], found[i])


def test_batch_size_does_not_matter():
    system, x = made(), normal(6, 1, 10 * FRAME + 2 * MARGIN)
    z, tokens = latents(system, x)[0], system.encode(x, MARGIN)
    for size in (1, 2, 5):
        torch.testing.assert_close(latents(system, x[:size])[0], z[:size], rtol=0, atol=1e-5)
        part = system.encode(x[:size], MARGIN)
        assert torch.equal(part.offset, tokens.offset[:size]) and torch.equal(part.scale, tokens.scale[:size])
        assert (part.indices == tokens.indices[:size]).float().mean() > 0.99


@pytest.mark.parametrize("power", [-60, -20, 3, 10, 60])
def test_a_power_of_two_moves_the_scale_alone(power):
    system, x = made(), mixtures(4, 10) * 1e6
    one, other = system.encode(x, MARGIN), system.encode(x * 2.0**power, MARGIN)
    assert torch.equal(one.indices, other.indices) and torch.equal(one.offset, other.offset)
    assert torch.equal(one.scale + 4 * power, other.scale)
    torch.testing.assert_close(system.decode(one) * 2.0**power, system.decode(other), rtol=1e-12, atol=0)


def test_an_offset_moves_the_offset_alone():
    system = made()
    x = (normal(4, 1, 10 * FRAME + 2 * MARGIN) * 1024).round() / 1024
    one, other = system.encode(x, MARGIN), system.encode(x + 2.0**20, MARGIN)
    assert torch.equal(one.indices, other.indices) and torch.equal(one.scale, other.scale)
    back = system.decode(other) - 2.0**20
    torch.testing.assert_close(back, system.decode(one), rtol=0, atol=1e-8)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e9, 1e-12, 3e20])
def test_silence_and_constants(value):
    system = made()
    y = system.reconstruct(torch.full((2, 1, 8 * FRAME), value, dtype=torch.float64))
    assert (y - value).abs().max() <= 1e-10 * abs(value)


@pytest.mark.parametrize("lend", [False, True])
def test_saved_and_loaded_is_the_same(lend, tmp_path):
    system, x = made(lend=lend), mixtures(3, 10)
    assert not any("lapped" in key for key in system.state_dict())
    path = catalog.save(tmp_path / "codec.safetensors", system, "codec/eqcodec")
    other = catalog.load(path).system
    assert type(other) is EQCodec and other.config == system.config
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in system.state_dict().items())
    tokens = system.encode(x, MARGIN)
    assert torch.equal(tokens.indices, other.encode(x, MARGIN).indices)
    assert torch.equal(system.decode(tokens, 2), other.decode(tokens, 2))
    slim = catalog.save(tmp_path / "slim.safetensors", system, "codec/eqcodec", without=["discriminators"])
    assert torch.equal(tokens.indices, catalog.load(slim).system.encode(x, MARGIN).indices)


# -- turns ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lend", [False, True])
@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("weights", [TINY.weights, ALONE])
def test_turns(balanced, weights, lend, fabric):
    """`spread` is idle where nothing is lent."""
    system = made(balanced=balanced, weights=weights, lend=lend)
    turns = list(system.turns(Batch(x=mixtures(4, 12))))
    assert [t.players for t in turns] == [*([("discriminator",)] if weights.keys() >= JUDGED else []), coders(system)]
    assert set().union(*(t.terms for t in turns)) == set(weights)
    assert (turns[-1].at is not None) == balanced
    engine = Engine(system, recipe(system), fabric)
    log = engine.step(Batch(x=mixtures(4, 12)))
    active = weights.keys() - ({"spread"} if not lend else set())
    assert log.keys() == active | {f"gradient/{name}" for name in system.players()}
    assert engine.balancer.sizes.keys() == (weights.keys() - {"real", "fake", "commit", "spread"} if balanced else set())


@pytest.mark.parametrize("lend", [False, True])
def test_terms_teach_whom_they_should(lend):
    system = made(lend=lend)
    system.train()
    judge, codec = system.turns(Batch(x=mixtures(4, 12)))

    def reached(term):
        named = {n: p for n, p in system.named_parameters()}
        found = torch.autograd.grad(term.sum(), list(named.values()), retain_graph=True, allow_unused=True)
        return {n.split(".")[0] for n, g in zip(named, found, strict=True) if g is not None and g.abs().sum() > 0}

    assert reached(judge.terms["real"]) == reached(judge.terms["fake"]) == {"discriminators"}
    assert reached(codec.terms["commit"]) == {"encoder"}
    for name in ("waveform", "spectrum"):
        assert reached(codec.terms[name]) == {"encoder", "decoder"}, name
    for name in ("fool", "features"):
        assert reached(codec.terms[name]) == {"encoder", "decoder", "discriminators"}, name
    if lend:  # what is foretold learns from the quantiser's input alone, and nothing else from what is foretold
        assert reached(codec.terms["spread"]) == {"quantizer"}
        assert codec.terms["spread"].shape == (4, 12)
    else:
        assert codec.terms["spread"] is None
    assert codec.terms["commit"].shape == ((4, 12, 2) if lend else (3, 4, 12))
    assert codec.terms["features"].shape == (4, 15) and codec.terms["waveform"].shape == (4,)


def test_codec_turn_does_not_move_the_discriminators(fabric):
    system = made()
    engine = Engine(system, recipe(system, rates=dict.fromkeys(coders(system), 1e-3)), fabric)
    former = {k: v.clone() for k, v in system.state_dict().items()}
    engine.step(Batch(x=mixtures(4, 12)))
    moved = {k.split(".")[0] for k, v in system.state_dict().items() if not torch.equal(v, former[k])}
    assert moved == {"encoder", "decoder", "quantizer"}


def test_features_match_where_records_are_equal():
    system, x = made(), normal(4, 1, 8 * FRAME).float()
    coded = system.quantizer(torch.zeros(4, TINY.latent, 8), torch.full((4,), 3))
    terms = system.terms(x, x.clone(), coded)
    assert (terms["features"] == 0).all() and terms["spectrum"].abs().max() < 1e-6 and (terms["waveform"] < -4.5).all()
    near, far = (system.terms(x, x + a * normal(4, 1, 8 * FRAME, seed=1).float(), coded)["features"].mean() for a in (0.1, 1))
    assert 0 < near < far


def test_commitment_counts_only_books_that_a_record_reaches():
    system = made()
    system.levels = lambda n, device: torch.tensor([1, 2, 3, 3])
    *_, turn = system.turns(Batch(x=mixtures(4, 12)))
    there = turn.terms["commit"].abs().sum(2) > 0
    assert there.tolist() == [[True] * 4, [False, True, True, True], [False, False, True, True]]


def test_levels_are_drawn():
    system = made(full_level=0.5)
    torch.manual_seed(0)
    drawn = system.levels(6000, torch.device("cpu")).bincount(minlength=4)[1:] / 6000
    torch.testing.assert_close(drawn, torch.tensor([1 / 6, 1 / 6, 4 / 6]), rtol=0, atol=0.03)
    assert (made(full_level=1.0).levels(100, torch.device("cpu")) == 3).all()


def test_ends_of_windows_are_drawn_and_counted_only_where_a_trace_ends():
    cpu = torch.device("cpu")
    torch.manual_seed(0)
    drawn = made(alone=0.25).ends(4000, cpu)
    assert drawn.shape == (4000, 2) and drawn.dtype == torch.bool
    torch.testing.assert_close(drawn.float().mean(0), torch.tensor([0.25, 0.25]), rtol=0, atol=0.03)
    assert not made(alone=0.0).ends(100, cpu).any() and made(alone=1.0).ends(100, cpu).all()
    x = mixtures(4, 12)
    offset, scale = gain.measure(x[:, 0, MARGIN:-MARGIN], FRAME)
    whole = gain.normalise(x[:, 0], offset, scale, FRAME, MARGIN)[:, MARGIN:-MARGIN]
    for alone in (0.0, 1.0):
        system, heard = made(alone=alone, weights=ALONE), []
        system.terms = lambda real, fake, coded, heard=heard: heard.extend([real, fake]) or {"waveform": fake.mean()}
        list(system.turns(Batch(x=x)))
        real, fake = (part[:, 0] for part in heard)
        edge = FRAME // 4
        assert torch.equal(real[:, edge:-edge], whole[:, edge:-edge]) and (fake[:, edge:-edge] != 0).all()
        for part in (slice(0, edge), slice(-edge, None)):
            assert torch.equal(real[:, part], alone * whole[:, part]) and ((fake[:, part] != 0) == bool(alone)).all()


# -- learning ---------------------------------------------------------------------------------------------------------------------


OVERFIT = EQCodecConfig(width=8, lstm_layers=1, books=4, entries=128, decay=0.9, discriminator_width=4, weights=ALONE)
"""Room for each of 96 frames."""


@pytest.mark.parametrize("balanced", [False, True])
def test_overfits_eight_records(balanced, fabric):
    torch.manual_seed(0)
    system = EQCodec(replace(OVERFIT, balanced=balanced))
    engine = Engine(system, recipe(system, rate=3e-3), fabric)
    for _ in range(100):
        engine.step(Batch(x=mixtures(8, 12)))
    levels, _ = snr_db(system.eval(), mixtures(8, 12))
    assert min(levels) > 12, levels


@pytest.fixture(scope="module")
def learnt(fabric):
    """A codec that has seen 96 records, too many for its entries."""
    torch.manual_seed(0)
    system = EQCodec(replace(TINY, latent=32, books=4, entries=32, decay=0.9, weights=ALONE))
    engine, x = Engine(system, recipe(system), fabric), mixtures(96, 12)
    for step in range(60):
        engine.step(Batch(x=x[torch.arange(16) + 16 * step % 96]))
    return system.eval()


def test_higher_levels_are_better_and_the_quantiser_costs(learnt):
    levels, unquantised = snr_db(learnt, mixtures(96, 12))
    assert all(b > a for a, b in pairwise(levels)), levels
    assert unquantised > levels[-1] + 1


def test_usage_of_the_codebooks_is_told(learnt):
    told = learnt.diagnostics()
    assert {f"{what}/{k}" for what in ("perplexity", "dead") for k in range(1, 5)} == told.keys()
    assert all(12 < told[f"perplexity/{k}"] <= 32 and told[f"dead/{k}"] < 0.5 for k in range(1, 5))


@pytest.mark.parametrize("lend", [False, True])
def test_bf16_mixed_trains_as_float32_does(lend):
    lines = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        system = EQCodec(replace(OVERFIT, weights=TINY.weights, lend=lend))
        engine = Engine(system, recipe(system), Fabric(accelerator="cpu", devices=1, precision=precision))
        lines[precision] = [engine.step(Batch(x=mixtures(8, 12))) for _ in range(20)]
        assert all(v.dtype == torch.float32 for v in system.state_dict().values())
    for term in TINY.weights.keys() - ({"spread"} if not lend else set()):
        exact, rough = (torch.tensor([line[term] for line in lines[p]]) for p in lines)
        assert rough.isfinite().all() and not torch.equal(rough, exact)
        size = exact.max() - exact.min() if term == "spread" else exact.abs().mean()  # a likelihood crosses zero
        assert (rough - exact).abs().mean() < 0.1 * size, term
    assert lines["bf16-mixed"][-1]["waveform"] < lines["bf16-mixed"][0]["waveform"] - 1


class Drawn:
    """Six records of ten by step."""

    def batch(self, step, rank, world):
        chosen = torch.randperm(10, generator=torch.Generator().manual_seed(step))[: 6 // world]
        return Batch(x=mixtures(10, 12)[chosen])


@pytest.mark.parametrize("lend", [False, True])
def test_stages_lead_to_the_weights_of_one_run(lend, tmp_path, monkeypatch):
    """Bit for bit, with discriminators, balancer, levels at random and entries revived on the way."""
    revived = []
    monkeypatch.setattr(EQCodec, "diagnostics", lambda self: revived.append(int((self.quantizer.share == 1).sum())) or {})
    rules = dict(steps=8, schedule="cosine", warmup_steps=2, log_every=1, seed=3)
    for folder, stages in (("straight", 1), ("stages", 8)):
        for stage in range(stages):
            torch.manual_seed(stage)  # other first weights: all that the next step depends on comes from the file
            system = EQCodec(replace(TINY, lend=lend))
            how = recipe(system, stage_minutes=1e-9 if stages > 1 else 0.0, **rules)
            train(system, how, Drawn(), tmp_path / folder)
    (a, about), (b, about_b) = (checkpoint.read(tmp_path / f / "last.safetensors") for f in ("straight", "stages"))
    assert about["steps"] == about_b["steps"] == 8 and about["balancer"] == about_b["balancer"]
    assert about["balancer"].keys() == {"waveform", "spectrum", "fool", "features"}
    assert a.keys() == b.keys() and [k for k in a if not torch.equal(a[k], b[k])] == []
    assert max(revived[4:8]) > 0  # entries revived in a step stand at exactly a mean share
    entries = [json.loads(line) for line in (tmp_path / "stages" / "log.jsonl").read_text().splitlines()]
    assert sum(entry.get("event", "").startswith("end of this stage") for entry in entries) == 7


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, *launcher, HERE / "two_codecs.py", folder]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(case, two, fabric):
    """Gradients, weights and codebooks, k-means start and revival included."""
    engine, log = six_steps(case, fabric)
    (zero, log_zero), (one, _) = (checkpoint.read(two / f"{case}.{rank}") for rank in (0, 1))
    assert all(torch.equal(zero[k], one[k]) for k in zero)
    assert (engine.system.quantizer.share == 1).any()  # revived
    for key, value in state(engine).items():
        torch.testing.assert_close(zero[key], value, rtol=0, atol=1e-10, msg=lambda text, key=key: f"{key}: {text}")
    assert log_zero == pytest.approx(log, rel=1e-9, abs=1e-12)
