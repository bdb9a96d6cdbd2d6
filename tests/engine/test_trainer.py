"""One step: who learns what, and what is refused."""

from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from small_systems import SYSTEMS, Drawn, SameNoise, make, records, rows

from seislatent.engine.balancer import Balancer
from seislatent.engine.recipe import Recipe
from seislatent.engine.trainer import Engine, owned_once
from seislatent.errors import SeislatentError
from seislatent.systems.base import Turn


def instead(system, *terms_of):
    """Gives a system other turns: functions from a batch to a turn."""
    system.turns = lambda batch: (turn(batch) for turn in terms_of)


def test_misspelt_names_are_refused_with_the_nearest(fabric):
    system, recipe = make("autoencoder", weights={"wavefrom": 1.0})
    with pytest.raises(SeislatentError, match=r"unknown loss term 'waveform': did you mean 'wavefrom'"):
        Engine(system, recipe, fabric).step(records())
    system, recipe = make("autoencoder", weights={"waveform": 1.0, "waveforms": 1.0})
    with pytest.raises(SeislatentError, match=r"unknown weight 'waveforms': did you mean 'waveform'.*idle at a step is None"):
        Engine(system, recipe, fabric).step(records())
    with pytest.raises(SeislatentError, match=r"unknown player 'haed': did you mean 'head'"):
        Engine(*make("head", rates={"haed": 1.0}), fabric)
    with pytest.raises(SeislatentError, match=r"unknown player 'codek': did you mean 'codec'"):
        Engine(*make("codec", clip={"codek": 1.0}), fabric)
    system, recipe = make("autoencoder")
    instead(system, lambda batch: Turn("modle", waveform=system.decoder(system.encoder(batch.x))))
    with pytest.raises(SeislatentError, match=r"unknown player 'modle': did you mean 'model'"):
        Engine(system, recipe, fabric).step(records())


def test_parameters_have_one_owner():
    for name in SYSTEMS:
        system, _ = make(name)
        owned = [p for parameters in owned_once(system).values() for p in parameters]
        held = [p for m in system.frozen() for p in m.parameters()]
        assert len(owned) == len(set(owned)) and {*owned, *held} == {*system.parameters()}


def test_two_owners_or_none_are_refused():
    system, _ = make("codec")
    players = system.players()
    system.players = lambda: players | {"other": [system.decoder]}
    with pytest.raises(SeislatentError, match=r"'decoder.0.weight' belongs to 'codec' and to 'other'"):
        owned_once(system)
    system.players = lambda: {"codec": players["codec"]}
    with pytest.raises(SeislatentError, match=r"'discriminator.0.weight' belongs to nobody"):
        owned_once(system)


def test_term_that_misses_its_player_is_refused(fabric):
    system, recipe = make("head")
    instead(system, lambda batch: Turn("head", label=system.nested.embed(batch.x).requires_grad_()))
    with pytest.raises(SeislatentError, match=r"none of the terms label reaches player 'head'"):
        Engine(system, recipe, fabric).step(records())


def test_term_around_the_balanced_tensor_is_refused(fabric):
    system, recipe = make("codec", weights={"waveform": 1.0})

    def around(batch):
        z = system.encoder(batch.x)
        y = system.decoder(z)
        return Turn("codec", at=y, waveform=((y - batch.x) ** 2).mean() + z.square().mean())

    instead(system, around)
    with pytest.raises(SeislatentError, match=r"term 'waveform' reaches its players both through `at` and around it"):
        Engine(system, recipe, fabric).step(records())


def gradients_of_decoder(fabric, scale):
    system, recipe = make("codec", torch.float64, clip=0.0)
    turns = system.turns

    def scaled(batch):
        for turn in turns(batch):
            if "waveform" in turn.terms:
                turn.terms["waveform"] = turn.terms["waveform"] * scale
            yield turn

    system.turns = scaled
    Engine(system, recipe, fabric).step(records(dtype=torch.float64))
    return torch.cat([p.grad.flatten() for p in system.decoder.parameters()])


def test_balancer_ignores_the_scale_of_a_term(fabric):
    torch.testing.assert_close(gradients_of_decoder(fabric, 1e4), gradients_of_decoder(fabric, 1.0), rtol=1e-9, atol=1e-12)


def test_balanced_gradient_has_the_size_of_its_weight(fabric):
    """At the first step the running mean is the norm itself: norms at `at`, summed over records, are the weight."""
    system, recipe = make("codec", torch.float64, weights={"waveform": 0.7})
    seen = []

    def turn(batch):
        y = system.decoder(system.encoder(batch.x))
        y.register_hook(lambda g: seen.append(g.flatten(1).norm(dim=1).sum().item()))
        return Turn("codec", at=y, waveform=(y - batch.x) ** 2)

    instead(system, turn)
    Engine(system, recipe, fabric).step(records(dtype=torch.float64))
    assert seen[-1] == pytest.approx(0.7, rel=1e-12)


def test_balancer_follows_a_running_mean():
    """Norms 1, then 3 at decay 0.5: the second step divides by (0.5 * 1 + 3) / 1.5."""
    balancer = Balancer(0.5)
    for norm in (1.0, 3.0):
        (mixed,) = balancer({"a": [torch.tensor([[norm]])]}, {"a": 2.0}, lambda x: x)
    assert mixed.item() == pytest.approx(2 * 3 / (3.5 / 1.5))


def test_idle_branch_stays_where_it_is(fabric):
    """A parameter that no term reaches gets no gradient at all: neither momentum nor decay moves it."""
    system, recipe = make("autoencoder", decay=0.1)
    system.idle = torch.nn.Linear(2, 2)
    before = system.idle.weight.clone()
    engine = Engine(system, recipe, fabric)
    instead(system, lambda batch: Turn("model", waveform=(system.decoder(system.encoder(batch.x)) + system.idle.weight.sum()) ** 2))
    engine.step(records())
    moved = system.idle.weight.clone()
    assert not torch.equal(moved, before)
    instead(system, lambda batch: Turn("model", waveform=system.decoder(system.encoder(batch.x)) ** 2))
    engine.step(records())
    assert torch.equal(moved, system.idle.weight)


def test_idle_term_and_idle_turn(fabric):
    """The penalty is idle at odd steps; a turn all of whose terms are idle moves nobody."""
    engine = Engine(*make("critic"), fabric)
    assert "penalty" in engine.step(records()) and "penalty" not in engine.step(records())
    system, recipe = make("autoencoder", decay=0.1)
    before = {k: v.clone() for k, v in system.state_dict().items()}
    instead(system, lambda batch: Turn("model", waveform=None))
    assert Engine(system, recipe, fabric).step(records()) == {}
    assert all(torch.equal(v, before[k]) for k, v in system.state_dict().items())


def test_stages_of_a_head(fabric):
    """Stage 1 leaves the encoder where it was, stage 2 moves it; what is frozen never moves, running moments included."""
    system, recipe = make("head")
    start = {k: v.clone() for k, v in system.state_dict().items()}

    def moved():
        return {k for k, v in system.state_dict().items() if not torch.equal(v, start[k])}

    first = Engine(system, recipe, fabric)
    for _ in range(3):
        first.step(records())
    assert moved() == {"head.weight", "head.bias"}
    assert not system.nested.encoder.training and system.head.training
    second = Engine(system, replace(recipe, rates={"head": 1e-2, "encoder": 3e-3}), fabric)
    for _ in range(3):
        second.step(records())
    assert moved() == {"head.weight", "head.bias"} | {k for k in start if k.startswith("nested.encoder.")}


def test_resting_player_takes_its_turn_without_stepping(fabric):
    engine = Engine(*make("codec", rates={"codec": 1e-3}), fabric)
    before = engine.system.discriminator[0].weight.clone()
    log = engine.step(records())
    assert log["real"] > 0 and "gradient/discriminator" not in log and torch.equal(before, engine.system.discriminator[0].weight)


def test_a_turn_teaches_only_its_players(fabric):
    """After the last turn, the generator's, neither encoder (held still) nor critic has that turn's gradient."""
    system, recipe = make("critic", rates={"critic": 0.0, "encoder": 0.0, "generator": 0.0}, decay=0.0)
    engine = Engine(system, recipe, fabric)
    kept = {}
    turns = system.turns

    def watched(batch):
        for turn in turns(batch):
            if turn.players == ("generator",):
                kept.update({n: p.grad.clone() for n, p in system.named_parameters() if not n.startswith("generator")})
            yield turn

    system.turns = watched
    engine.step(records())
    assert len(kept) == 6 and all(torch.equal(dict(system.named_parameters())[n].grad, g) for n, g in kept.items())


def test_state_moves_after_the_last_turn(fabric):
    system, recipe = make("codec")
    before = system.book.entries.clone()
    turns = system.turns(records())
    next(turns), next(turns)
    assert torch.equal(system.book.entries, before)
    Engine(system, recipe, fabric).step(records())
    assert not torch.equal(system.book.entries, before)


def test_bfloat16_computes_in_half_and_keeps_weights_whole():
    engine = Engine(*make("codec", precision="bf16-mixed"), Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    seen = []
    for module in engine.system.modules():
        if isinstance(module, torch.nn.Conv1d):
            module.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    between: list[bool] = []  # autocast is for the systems' code, not for the engine's own sums and steps
    for optimizer in engine.optimizers.values():
        optimizer.register_step_pre_hook(lambda *_: between.append(torch.is_autocast_enabled("cpu")))
    losses = [engine.step(records())["waveform"] for _ in range(25)]
    assert {*seen} == {torch.bfloat16} and {*between} == {False} and losses[-1] < losses[0]
    optimizer = [v for o in engine.optimizers.values() for state in o.state.values() for v in state.values()]
    tensors = [*engine.system.state_dict().values(), *engine.average.state_dict().values(), *optimizer]
    assert {v.dtype for v in tensors if v.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("precision", ["16-mixed", "16-true", "float16"])
def test_float16_is_refused(precision):
    with pytest.raises(SeislatentError, match=r"float16 needs a loss scaler.*'bf16-mixed'"):
        Recipe(rates={"model": 1e-3}, precision=precision)


@pytest.mark.parametrize("name", ["autoencoder", "codec", "critic"])
def test_accumulation_equals_the_whole_batch(name, fabric):
    """Parts of 6 and 4 records, in lockstep; only what systems do between turns (moving a book) sees the parts one by one."""
    engines = []
    for split in ([range(10)], [range(6), range(6, 10)]):
        system, recipe = make(name, torch.float64)
        if name == "codec":
            system.book.update = lambda *values: None
        if name == "autoencoder":
            system.config = replace(system.config, noise=0.0)
        if name == "critic":  # the noise of record i, whichever part it is in; drawn again for each part
            turns = system.turns
            system.turns = lambda batch, turns=turns: with_noise(turns, batch)
        engine = Engine(system, recipe, fabric)
        parts = [rows(records(10, torch.float64), list(index)) for index in split]
        logs = [engine.step(*parts) for _ in range(4)]
        engines.append((engine, logs[-1]))
    (whole, log), (parted, log_of_parts) = engines
    for key, value in whole.system.state_dict().items():
        torch.testing.assert_close(parted.system.state_dict()[key], value, rtol=0, atol=1e-12)
    assert log_of_parts == pytest.approx(log, rel=1e-9)


def with_noise(turns, batch):
    index = range(10) if len(batch.x) == 10 else range(6) if len(batch.x) == 6 else range(6, 10)
    noise, generator = SameNoise(int(batch.step), index), turns(batch)
    while True:
        with noise:
            turn = next(generator, None)
        if turn is None:
            return
        yield turn


def test_parts_that_take_different_turns_are_refused(fabric):
    system, recipe = make("autoencoder")
    instead(system, lambda batch: Turn("model", waveform=None if len(batch.x) < 3 else system.decoder(system.encoder(batch.x))))
    with pytest.raises(SeislatentError, match=r"parts of a batch take different turns"):
        Engine(system, recipe, fabric).step(records(4), records(2))


def test_gradients_are_clipped_per_player(fabric):
    system, recipe = make("codec", clip={"codec": 1e-3})
    log = Engine(system, recipe, fabric).step(records())

    def norm(player):
        return torch.cat([p.grad.flatten() for m in system.players()[player] for p in m.parameters()]).norm().item()

    assert log["gradient/codec"] > 1e-2 and norm("codec") == pytest.approx(1e-3, rel=1e-2)
    assert log["gradient/discriminator"] == pytest.approx(norm("discriminator"), rel=1e-5) and norm("discriminator") > 1e-2


def test_gradient_that_is_not_finite_is_told(fabric):
    engine = Engine(*make("codec"), fabric)
    engine.step(records())
    before = engine.system.encoder[0].weight.clone()
    bad = records()
    bad.x[3, 0, 5] = float("nan")
    with pytest.raises(SeislatentError, match=r"step 1: the gradient of player 'discriminator' is not finite .*fake = nan"):
        engine.step(bad)
    assert torch.equal(before, engine.system.encoder[0].weight)


def test_average_forgets_the_start_soon(fabric):
    """Of the first weights, 1/10 is left after one step however slow the average is; afterwards it is as slow as asked."""
    system, recipe = make("codec", average=0.999)
    start = {k: v.clone() for k, v in system.state_dict().items()}
    engine = Engine(system, recipe, fabric)
    engine.step(records())
    for key in ("encoder.0.weight", "book.entries"):
        torch.testing.assert_close(engine.average.state_dict()[key], 0.1 * start[key] + 0.9 * system.state_dict()[key])
    engine.steps = 100_000
    before, key = engine.average.state_dict()["encoder.0.weight"].clone(), "encoder.0.weight"
    engine.step(records())
    torch.testing.assert_close(engine.average.state_dict()[key], 0.999 * before + 0.001 * system.state_dict()[key])
    assert not engine.average.training


def test_rates_follow_the_schedule(fabric):
    recipe = Recipe(rates={"model": 2.0}, warmup_steps=4, schedule="cosine", steps=14)
    assert [recipe.rate("model", n) for n in (0, 3, 4, 9, 14)] == pytest.approx([0.5, 2.0, 2.0, 1.0, 0.0])
    assert Recipe(rates={"model": 2.0}).rate("model", 10**6) == 2.0
    engine = Engine(*make("autoencoder", warmup_steps=10), fabric)
    before = engine.system.encoder[0].weight.clone()
    engine.step(records())  # Adam's first step moves each weight by the rate
    assert (engine.system.encoder[0].weight - before).abs().max().item() == pytest.approx(3e-4, rel=1e-2)


def test_noise_depends_on_seed_and_step_only(fabric):
    def log(seed, skip):
        engine = Engine(*make("autoencoder", weights={"waveform": 1.0}, rates={"model": 1e-12}), fabric)
        engine.recipe = replace(engine.recipe, seed=seed)
        for _ in range(skip):
            torch.rand(7)
        return [engine.step(Drawn().batch(0, 0, 1))["waveform"] for _ in range(2)]

    first = log(0, 0)
    assert first == log(0, 3) and first[0] != log(1, 0)[0] and first[0] != first[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_learns_with_parts_and_in_bfloat16():
    recipe = {"accelerator": "cuda", "precision": "bf16-mixed"}
    engine = Engine(*make("codec", **recipe), Fabric(accelerator="cuda", devices=1, precision="bf16-mixed"))
    losses = [engine.step(rows(records(), [0, 1, 2, 3, 4, 5]), rows(records(), [6, 7, 8, 9]))["waveform"] for _ in range(40)]
    assert losses[-1] < losses[0]
