"""Scripts as people write them: observed unmodified, and trained by a recipe unmodified."""

from __future__ import annotations

import math
from typing import Any

import pytest

from precscope.recipe import Recipe
from precscope.script import Script

GPT = """
    import argparse, math, os, torch
    from torch import nn
    from torch.nn import functional as F

    parser = argparse.ArgumentParser()
    parser.add_argument("--block", type=int, default=16)
    block = parser.parse_args().block
    torch.manual_seed(1337)

    class Attention(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        def forward(self, x):
            b, t, c = x.shape
            q, k, v = (
                y.view(b, t, self.heads, c // self.heads).transpose(1, 2)
                for y in self.qkv(x).split(c, dim=2)
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(b, t, c))

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.ln1, self.attention = nn.LayerNorm(width), Attention(width, 2)
            self.ln2 = nn.LayerNorm(width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        def forward(self, x):
            x = x + self.attention(self.ln1(x))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):
        def __init__(self, letters, width=16):
            super().__init__()
            self.token, self.place = nn.Embedding(letters, width), nn.Embedding(block, width)
            self.blocks = nn.ModuleList(Block(width) for _ in range(2))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, letters, bias=False)
            self.head.weight = self.token.weight
        def forward(self, x, y):
            h = self.token(x) + self.place(torch.arange(x.shape[1]))
            for layer in self.blocks:
                h = layer(h)
            logits = self.head(self.norm(h))
            return logits, F.cross_entropy(logits.flatten(0, 1), y.flatten())

    letters = torch.arange(400) % 7 + (torch.arange(400) % 3 == 0)
    def batch():
        at = torch.randint(len(letters) - block - 1, (4,))
        x = torch.stack([letters[i : i + block + 1] for i in at])
        return x[:, :-1], x[:, 1:]

    model = GPT(8)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    other = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}], lr=1e-2
    )
    compiled = torch.compile(model)
    steps, best = 12, 1e9
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * 0.5 * (1 + math.cos(math.pi * step / steps))
        if step % 4 == 0:
            model.eval()
            with torch.no_grad():
                best = min(best, sum(compiled(*batch())[1].item() for _ in range(2)))
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "ckpt.pt")
            model.train()
        for _ in range(2):
            logits, loss = compiled(*batch())
            (loss / 2).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        print(step, round(loss.item(), 3), norm.isfinite().item())
    saved = torch.load("ckpt.pt", weights_only=True)["model"]
    assert {v.dtype for v in saved.values()} == {torch.float32}
"""

ACTOR_CRITIC = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    class Actor(nn.Sequential): pass
    class Critic(nn.Sequential): pass
    actor, critic = Actor(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)), Critic(nn.Linear(5, 1))
    target = Critic(nn.Linear(5, 1)).requires_grad_(False)
    log_alpha = torch.zeros(1, requires_grad=True)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=1e-2)
    alpha_optimizer = torch.optim.SGD([log_alpha], lr=0.1)
    for i in range(8):
        state, reward = torch.randn(6, 3), torch.randn(6, 1)
        with torch.no_grad():
            aim = reward + 0.9 * target(torch.cat([state, actor(state)], 1))
        value = critic(torch.cat([state, torch.randn(6, 2)], 1))
        critic_optimizer.zero_grad()
        torch.autograd.backward([nn.functional.mse_loss(value, aim)])
        critic_optimizer.step()
        action = actor(state)
        actor_optimizer.zero_grad()
        (log_alpha.exp().detach() * action.square() - critic(torch.cat([state, action], 1))).mean().backward()
        actor_optimizer.step()
        alpha_optimizer.zero_grad()
        (log_alpha * (action.detach().abs().mean() - 0.5)).sum().backward()
        assert not log_alpha.grad.isnan().any() and log_alpha.grad.abs() < 10, log_alpha.grad
        alpha_optimizer.step()
        for old, new in zip(target.parameters(), critic.parameters()):
            old.lerp_(new.detach(), 0.1)
    print(log_alpha.isfinite().item())
"""

WORKERS = """
    import os, sys, tempfile, torch
    from torch.utils.data import DataLoader, Dataset

    class Rows(Dataset):
        def __len__(self):
            return 16
        def __getitem__(self, i):
            return torch.full((4,), float(i)), os.getpid()

    if __name__ == "__main__":
        os.chdir(tempfile.mkdtemp())
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
        workers = set()
        for epoch in range(2):
            for x, pids in DataLoader(Rows(), 4, num_workers=2, multiprocessing_context="fork"):
                workers |= set(pids.tolist())
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()
        child = os.fork()
        if child == 0:
            model(torch.ones(1, 4)).sum().backward()
            optimizer.step()
            sys.exit(9)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.getpid() in workers, len(workers))
"""


def test_a_gpt_script_is_observed_and_trained_by_a_recipe(folder: Any) -> None:
    folder.write("gpt.py", GPT)
    script = Script("gpt.py", ("--block", "8"))
    ended, observed = folder.run(script, steps=12)
    assert (ended.exit_code, ended.complaints) == (0, "")
    recording = folder.recording
    names = {site.name for site in recording.sites}
    assert {"token", "blocks.1.mlp.0", "blocks.0.attention.qkv.weight", "head"} <= names
    assert not any("_orig_mod" in name for name in names)
    assert len(recording.steps) == 12
    told = [float(line.split()[1]) for line in observed.splitlines()]
    assert told[-1] < told[0]
    fp32, _ = folder.run(script, steps=12, recipe=Recipe.named("fp32"), seed=0)
    fp16, printed = folder.run(script, steps=12, recipe=Recipe.named("fp16"), seed=0)
    assert (fp16.exit_code, fp16.complaints) == (0, "")
    assert all(line.endswith("True") for line in printed.splitlines())
    plain, half = ([float(e["loss"]) for e in run.of("step")] for run in (fp32, fp16))
    assert half == pytest.approx(plain, rel=0.03)
    assert half != plain


def test_actor_and_critic_with_a_temperature_of_their_own(folder: Any) -> None:
    folder.write("rl.py", ACTOR_CRITIC)
    ended, printed = folder.run(Script("rl.py"), steps=8)
    assert (ended.exit_code, printed) == (0, "True\n"), ended.complaints
    assert {event["kind"] for event in ended.of("model")} == {"Actor", "Critic"}
    assert {"Actor.2", "Critic.0.weight"} <= {site.name for site in folder.recording.sites}
    assert len(folder.recording.steps) == 8
    ended, printed = folder.run(Script("rl.py"), steps=8, recipe=Recipe.named("fp16"), seed=0)
    assert (ended.exit_code, printed) == (0, "True\n"), ended.complaints
    losses = [float(event["loss"]) for event in ended.of("step")]
    assert len(losses) == 8
    assert all(map(math.isfinite, losses))
    assert ended.of("measured")[0]["gradient_bytes"] == 4 * (3 * 8 + 8 + 8 * 2 + 2 + 5 + 1)


def test_workers_and_forked_children_have_nothing_of_ours(folder: Any) -> None:
    folder.write("data.py", WORKERS)
    ended, printed = folder.run(Script("data.py"), steps=20)
    assert (ended.exit_code, printed) == (0, "9 False 4\n"), ended.complaints
    assert len(ended.of("step")) == 8
    assert [step.step for step in folder.recording.steps] == list(range(8))


LIGHTNING = """
    import logging, warnings
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    import torch, lightning
    from torch import nn

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        def training_step(self, batch, index):
            x, y = batch
            loss = nn.functional.cross_entropy(self.net(x), y)
            self.log("loss", loss)
            return loss
        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
            return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2)}

    if __name__ == "__main__":
        lightning.seed_everything(3, verbose=False)
        x = torch.randn(32, 4)
        data = torch.utils.data.TensorDataset(x, x.argmax(1).clamp(max=2))
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", devices=1, logger=False, gradient_clip_val=1.0,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )
        trainer.fit(Module(), torch.utils.data.DataLoader(data, 4, shuffle=True))
        print("loss", round(trainer.callback_metrics["loss"].item(), 2))
"""

TRANSFORMERS = """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

    class Text(torch.utils.data.Dataset):
        def __len__(self):
            return 32
        def __getitem__(self, i):
            ids = (torch.arange(8) + i) % 11
            return {"input_ids": ids, "labels": ids}

    if __name__ == "__main__":
        set_seed(0)
        config = GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2,
                            bos_token_id=0, eos_token_id=0)
        arguments = TrainingArguments(
            "out", max_steps=10, per_device_train_batch_size=2, gradient_accumulation_steps=2,
            learning_rate=1e-2, report_to=[], disable_tqdm=True, use_cpu=True, save_strategy="no",
            logging_strategy="no",
        )
        result = Trainer(GPT2LMHeadModel(config), arguments, train_dataset=Text()).train()
        print("loss", round(result.training_loss, 1))
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (LIGHTNING, {"0", "2", "0.weight"}),
        (TRANSFORMERS, {"transformer.h.0.attn.c_attn", "lm_head", "transformer.wte"}),
    ],
    ids=["lightning", "transformers"],
)
def test_a_trainer_of_a_library_is_observed_and_trained_by_a_recipe(
    folder: Any, monkeypatch: pytest.MonkeyPatch, text: str, names: set[str]
) -> None:
    pytest.importorskip("lightning" if text is LIGHTNING else "transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder.write("train.py", text)
    observed, _ = folder.run(Script("train.py"), steps=5)
    assert observed.exit_code == 0, observed.complaints
    assert len(folder.recording.steps) == 5
    found = {site.name.removeprefix("net.") for site in folder.recording.sites}
    assert names <= found
    half, _ = folder.run(Script("train.py"), steps=5, recipe=Recipe.named("fp16"), seed=0)
    assert half.exit_code == 0, half.complaints
    losses = [float(event["loss"]) for event in half.of("step")]
    seen = [step.loss for step in folder.recording.steps]
    assert losses == pytest.approx(seen, rel=0.05)
    assert losses != seen
