from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from precscope.training import MixedPrecision, Recipe, train
from precscope.training.weight_updates import KahanUpdates, stochastically_rounded
from tests.training.fakes import FakeWorkload, make_workload
from tests.training.small_net import loss_of, net, sgd, static


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_values_that_fp16_has_are_kept() -> None:
    codes = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    values = codes.view(torch.float16).float()
    rounded = stochastically_rounded(values, generator())
    assert torch.equal(rounded.nan_to_num(7.0), values.half().nan_to_num(7.0))
    zeros = stochastically_rounded(torch.tensor([0.0, -0.0]), generator())
    assert torch.signbit(zeros).tolist() == [False, True]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("low", [0.0, 2.0**-24, 2.0**-15, 2.0**-14, 0.75, 1.0, 1.9990234375, 60000])
@pytest.mark.parametrize("chance", [2.0**-10, 0.25, 0.5, 0.9])
def test_the_two_neighbours_come_with_the_right_frequency(
    low: float, chance: float, sign: float
) -> None:
    draws = 20_000
    ulp = max(2.0 ** (math.floor(math.log2(low or 1e-9)) - 10), 2.0**-24)
    value = torch.full((draws,), sign * (low + chance * ulp))
    exact = (float(value[0].double().abs()) - low) / ulp
    rounded = stochastically_rounded(value, generator(3)).double().abs()
    up = rounded == low + ulp
    assert (up | (rounded == low)).all()
    assert abs(int(up.sum()) - draws * exact) <= 3 * math.sqrt(draws * exact * (1 - exact)) + 1


def test_values_beyond_the_range_are_rounded_to_nearest() -> None:
    values = torch.tensor([65504.0, 65519.0, 65520.0, 1e9, math.inf, -math.inf, -65519.0])
    rounded = stochastically_rounded(values, generator())
    assert torch.equal(rounded, values.half())
    assert stochastically_rounded(torch.tensor([math.nan]), generator()).isnan().all()


def test_rounding_needs_no_more_than_its_own_generator() -> None:
    values = torch.randn(1000)
    before = torch.get_rng_state()
    first = stochastically_rounded(values, generator(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, stochastically_rounded(values, generator(1)))
    assert not torch.equal(first, stochastically_rounded(values, generator(2)))


def weights_after(name: str, steps: int, rate: float, seed: int = 0) -> torch.Tensor:
    """400 weights of 1, each moved by ``-rate`` in every step."""
    model = nn.Linear(400, 1, bias=False)
    model.weight.data.fill_(1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with MixedPrecision(model, optimizer, static(0, Recipe.named(name)), seed=seed) as trainer:
        for _ in range(steps):
            with trainer.autocast():
                loss = model(torch.ones(1, 400)).float().sum()
            assert trainer.step(loss)
        return model.weight.detach().float().flatten().clone()


def test_updates_of_a_sixteenth_ulp_are_lost_rounded_at_random_or_kept() -> None:
    # Below 1 the ulp is 2^-11, so that a step of 2^-15 is a sixteenth of it.
    steps, rate = 64, 2.0**-15
    right = 1.0 - steps * rate
    assert torch.equal(weights_after("paper-no-master", steps, rate), torch.ones(400))
    assert torch.equal(weights_after("paper-kahan", steps, rate), torch.full((400,), right))
    found = weights_after("paper-stochastic-rounding", steps, rate)
    deviation = 2.0**-11 * math.sqrt(steps / 16 * 15 / 16)
    assert abs(float(found.mean()) - right) < 3 * deviation / math.sqrt(400)
    assert float(found.std()) == pytest.approx(deviation, rel=0.2)


def test_the_seed_is_that_of_the_rounding() -> None:
    same = [weights_after("paper-stochastic-rounding", 20, 2.0**-15, seed) for seed in (1, 1, 2)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])


@pytest.mark.parametrize("name", ["paper-stochastic-rounding", "paper-kahan"])
def test_the_optimizer_state_is_float32_and_the_random_stream_the_user_s(name: str) -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with MixedPrecision(model, optimizer, name) as trainer:
        before = torch.get_rng_state()
        assert trainer.step(loss_of(trainer, model))
        assert torch.equal(torch.get_rng_state(), before)
        states = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
        assert {state.dtype for state in states} == {torch.float32}
        assert model.first.weight.dtype == torch.float16


def test_kahan_counts_its_compensation_as_memory() -> None:
    held = sum(p.numel() for m in (net().first, net().head) for p in m.parameters())
    norm = sum(p.numel() for p in net().norm.parameters())
    expected = {"paper": 6, "paper-kahan": 4, "paper-stochastic-rounding": 2, "paper-no-master": 2}
    for name, size in expected.items():
        model = net()
        with MixedPrecision(model, sgd(model), name) as trainer:
            assert trainer.weight_bytes() == size * held + 4 * norm


def test_an_infinite_weight_gets_no_compensation() -> None:
    weight, master = torch.ones(2).half(), torch.tensor([1e6, 1.0 + 2.0**-12])
    updates = KahanUpdates()
    updates.start([weight], [torch.ones(2)])
    updates.publish([weight], [master])
    assert weight.tolist() == [math.inf, 1.0]
    assert master.tolist() == [math.inf, 1.0 + 2.0**-12]


def slow_learner() -> FakeWorkload:
    """Updates of about a fifth of an ulp: most are lost when they are rounded to nearest."""
    return make_workload(make_optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=2e-4))


def test_both_recover_what_fp16_weights_alone_lose() -> None:
    names = ("fp32", "paper-no-master", "paper-stochastic-rounding", "paper-kahan")
    learnt = []
    for name in names:
        run = train(slow_learner(), name, steps=600, seed=0)
        assert run.final_loss is not None
        assert run.first_loss is not None
        learnt.append(run.first_loss - run.final_loss)
    single, nearest, stochastic, kahan = learnt
    assert nearest < 0.6 * single
    assert stochastic > 0.95 * single
    assert kahan > 0.98 * single
