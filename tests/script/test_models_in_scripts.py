"""Several models, several optimizers, and scripts that use mixed precision by themselves."""

from __future__ import annotations

import math
from typing import Any

import pytest

from precscope.analysis.script_recipes import for_script
from precscope.monitor import compiled
from precscope.recipe import LossScaling, Recipe
from precscope.script import Script

GAN = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 4)
        def forward(self, z):
            return self.net(z)
    class Critic(Generator):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 1)
    teacher = nn.Linear(4, 4).requires_grad_(False)
    g, d = Generator(), Critic()
    og = torch.optim.Adam(g.parameters(), lr=1e-3)
    od = torch.optim.SGD(d.parameters(), lr=1e-2)
    for i in range(8):
        od.zero_grad()
        (d(g(torch.randn(5, 3)).detach()) - d(teacher(torch.randn(5, 4)))).mean().backward()
        od.step()
        og.zero_grad()
        (-d(g(torch.randn(5, 3))).mean()).backward()
        og.step()
    print(i, sum(p.sum().item() for p in g.parameters()))
"""


def test_the_models_of_a_gan_are_kept_apart(folder: Any) -> None:
    folder.write("gan.py", GAN)
    ended, _ = folder.run(Script("gan.py"), steps=4)
    assert ended.exit_code == 0, ended.complaints
    assert {event["kind"] for event in ended.of("model")} == {"Generator", "Critic"}
    recording = folder.recording
    names = {site.name for site in recording.sites}
    assert {"Generator.net", "Critic.net", "Generator.net.weight", "Critic.net.bias"} <= names
    assert not [name for name in names if not name.startswith(("Generator", "Critic"))]
    assert {"Generator.net.weight", "Critic.net.weight"} <= set(recording.updates)
    assert [step.step for step in recording.steps] == [0, 1, 2, 3]
    assert recording.document("coverage")["observer_errors"] == []


MIXED = """
    import torch
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    for i in range(5):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.ones(2, 4)).float().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        print(loss.item())
"""


def test_a_scaler_of_the_script_is_recognised_and_its_scale_taken_off(folder: Any) -> None:
    folder.write("mixed.py", MIXED)
    plain = folder.plain("mixed.py")
    ended, printed = folder.run(Script("mixed.py"), steps=5)
    assert printed == plain.stdout
    assert ended.of("mixed")[0] == {"event": "mixed", "autocast": "bfloat16", "grad_scaler": True}
    recording = folder.recording
    assert recording.document("script")["mixed"]["autocast"] == "bfloat16"
    losses = [step.loss for step in recording.steps]
    assert losses == pytest.approx([float(line) for line in plain.stdout.split()], rel=1e-6)
    bias = next(
        i
        for i, s in enumerate(recording.sites)
        if (s.name, s.kind) == ("1.bias", "weight_gradient")
    )
    assert recording.histogram(bias).amax == 1.0  # of a mean over rows, at the true scale


LOOP = """
    import torch
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    x, y = torch.randn(64, 8), torch.randint(3, (64,))
    for i in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        assert norm < 10.0 or not norm.isfinite()
        optimizer.step()
        with torch.no_grad():
            assert model(x).isfinite().all()
"""


def losses_of(folder: Any, recipe: Recipe, steps: int = 30) -> tuple[list[float], list[Any]]:
    ended, _ = folder.run(Script("loop.py"), steps=steps, recipe=for_script(recipe), seed=0)
    assert ended.exit_code == 0, ended.complaints
    told = ended.of("step")
    assert len(told) == steps
    return [float(event["loss"]) for event in told], told


def test_a_script_trains_by_a_recipe_without_an_edit(folder: Any) -> None:
    folder.write("loop.py", LOOP)
    fp32, _ = losses_of(folder, Recipe.named("fp32"))
    start = Recipe.named("fp16").loss_scaling
    fp16 = Recipe(
        "high", compute_dtype="float16", scaler="torch",
        loss_scaling=LossScaling(kind="dynamic", log2_initial=22, log2_max=24),
    )  # fmt: skip
    scaled, told = losses_of(folder, fp16)
    assert start.kind == "dynamic"
    skipped = [event for event in told if event["skipped"]]
    assert 1 <= len(skipped) <= 8
    assert {event["log2_scale"] for event in told} != {22}
    # Stale weights would leave the loss where it began; skipped steps delay it a little.
    late = len(skipped)
    assert scaled[0] == pytest.approx(fp32[0], rel=1e-2)
    assert scaled[0] != fp32[0]
    assert scaled[-1] == pytest.approx(fp32[-1 - late], rel=2e-2)
    assert fp32[-1] < 0.7 * fp32[0]
    assert all(map(math.isfinite, scaled))


def test_dtypes_under_autocast_are_told_for_every_model(folder: Any) -> None:
    folder.write("gan.py", GAN)
    recipe = Recipe.named("fp16")
    ended, _ = folder.run(Script("gan.py"), steps=2, recipe=recipe, wants_dtypes=True)
    assert ended.exit_code == 0, ended.complaints
    told = {(name, kind): dtype for name, kind, dtype in ended.of("dtypes")[0]["sites"]}
    for model in ("Generator", "Critic"):
        assert told[(f"{model}.net", "activation")] == "float16"
        assert told[(f"{model}.net", "activation_gradient")] == "float16"
        assert told[(f"{model}.net.weight", "weight_gradient")] == "float16"


CLOSURE = """
    import torch
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    compiled = torch.compile(model, backend="aot_eager")
    x = torch.randn(6, 4)
    for i in range(6):
        def closure():
            optimizer.zero_grad()
            loss = compiled(x).square().mean()
            loss.backward()
            print(loss.item())
            return loss
        before = [p.clone() for p in model.parameters()]
        optimizer.step(closure)
        moved = any((p != b).any() for p, b in zip(model.parameters(), before))
        print("moved", moved, int(model[1].num_batches_tracked), len(optimizer.state))
"""


def test_a_closure_inside_of_the_optimizer_step_is_observed_with_its_loss(folder: Any) -> None:
    folder.write("closure.py", CLOSURE)
    ended, printed = folder.run(Script("closure.py"), steps=6, keep_compile=True)
    assert ended.exit_code == 0, ended.complaints
    losses = [float(line) for line in printed.split("\n")[::2] if line]
    assert [step.loss for step in folder.recording.steps] == pytest.approx(losses, rel=1e-6)
    if compiled.WORKS:
        assert {"0", "2"} <= {site.name for site in folder.recording.sites}
        return
    assert {"0.weight", "2.weight"} <= {site.name for site in folder.recording.sites}
    not_seen = folder.recording.document("coverage")["modules_not_seen"]
    reasons = {module["reason"] for module in not_seen}
    assert reasons == {"runs compiled, which torch before 2.13 does not let be observed"}


def test_an_overflow_inside_of_a_closure_suppresses_the_update(folder: Any) -> None:
    folder.write("closure.py", CLOSURE)
    recipe = Recipe(
        "huge", compute_dtype="float16", scaler="torch",
        loss_scaling=LossScaling(kind="dynamic", log2_initial=24, log2_max=24),
    )  # fmt: skip
    ended, printed = folder.run(Script("closure.py"), steps=3, recipe=recipe, seed=0)
    assert ended.exit_code == 0, ended.complaints
    assert [event["skipped"] is not None for event in ended.of("step")] == [True] * 3
    assert [event["log2_scale"] for event in ended.of("step")] == [24, 23, 22]
    # Neither the weights moved, nor the running statistics, nor the optimizer's state.
    assert printed.split("\n")[1::2] == ["moved False 0 0"] * 3
