"""Speed of training beside a plain TRL script: tokens a second, taken in turn in the same run.

    python -m tests.bench.bench_training [--steps 6] [--rounds 3] [--base MODEL]

All read the same made-up examples of about 1,000 tokens, of which the completion is a tenth,
with the same rank, batch, accumulation and learning rate, in a process of their own: ours
(`assistant.tune.trainer`), a TRL script with the same settings and numbers (bfloat16 weights, nothing computed
twice), and a TRL script that leaves those as TRL has them (float32 weights under bfloat16
autocast, gradient checkpointing). The first step is warming up.
Losses are kept, to show that about the same is learnt; TRL's schedule is its own, which begins at the full
learning rate. Needs the extra [tune]; writes results/training.json and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from assistant.config import Settings
from assistant.tune.base import Base, base
from assistant.tune.examples import Encoded, encode
from assistant.tune.recipe import Recipe, recipe
from tests.bench.output import plotted, save
from tests.paths import MODELS

NAMES = {
    "deskhand": "Deskhand",
    "trl": "plain TRL, same settings",
    "trl-defaults": "plain TRL, its defaults",
}
WORDS = (
    "account alarm archive backup button calendar certificate client column contact dialog document draft error "
    "export filter folder font header import inbox invoice key label ledger licence mailbox menu message network"
)


def chats(count: int) -> list[tuple[list[dict[str, str]], str]]:
    """Prompts of passages and a question, and cited answers."""
    dice, words = random.Random(7), WORDS.split()

    def sentence() -> str:
        some = " ".join(dice.choices(words, k=8))
        return f"The {some} of release {dice.randint(2, 99)} opens the {dice.choice(words)}."

    made: list[tuple[list[dict[str, str]], str]] = []
    for _ in range(count):
        sources = "\n".join(sentence() for _ in range(dice.randint(40, 62)))
        asked = f"{sources}\n\nQuestion: what opens the {dice.choice(words)}?"
        answer = "\n".join(f"{sentence()} [{dice.randint(1, 4)}]" for _ in range(dice.randint(3, 6)))
        made.append(([{"role": "user", "content": asked}], answer))
    return made


class Clock:
    """When each step ended."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}
        self.losses: dict[int, float] = {}

    def tell(self, told: Any) -> bool:
        if told["step"]:
            self.at.setdefault(told["step"], time.monotonic())
            self.losses.setdefault(told["step"], told.get("loss"))
        return True

    def result(self, tokens: int, steps: int) -> dict[str, Any]:
        """`tokens`: of one step in the mean."""
        seconds = self.at[steps] - self.at[1]
        peak = next(
            line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
        )
        return {
            "tokens_per_s": round(tokens * (steps - 1) / seconds, 1),
            "loss": round(statistics.mean(self.losses.values()), 3),
            "peak_mb": int(peak.split()[1]) // 1024,
        }


def ours(model: Base, how: Recipe, rows: list[Encoded], folder: Path) -> Clock:
    from assistant.tune import trainer

    clock = Clock()
    trainer.fit(model, rows, rows[:1], how, folder, clock.tell)
    return clock


def plain(model: Base, how: Recipe, rows: list[Encoded], folder: Path, *, defaults: bool) -> Clock:
    """What one writes after reading TRL's documentation."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    clock = Clock()

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                clock.tell({"step": state.global_step, "loss": logs["loss"]})

    loaded = model.model()
    if defaults:
        loaded = loaded.to(torch.float32)
    args = SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=how.batch,
        gradient_accumulation_steps=how.accumulation,
        learning_rate=how.learning_rate,
        max_steps=how.steps,
        max_length=None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=defaults,
        seed=how.seed,
    )
    columns = {"input_ids": [r.input_ids for r in rows], "labels": [r.labels for r in rows]}
    peft = LoraConfig(r=how.rank, lora_alpha=how.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    SFTTrainer(
        model=loaded,
        args=args,
        train_dataset=Dataset.from_dict(columns),
        processing_class=model.tokenizer(),
        peft_config=peft,
        callbacks=[Watch()],
    ).train()
    return clock


def worker(kind: str, name: str, steps: int) -> dict[str, Any]:
    model = base(name, Settings(models=MODELS))
    how = recipe(steps=steps, accumulation=4, evaluate_every=steps, patience=1_000)
    tokenizer = model.tokenizer()
    # One epoch: all of the examples are read, once.
    rows = [
        encode(tokenizer, prompt, answer) for prompt, answer in chats(steps * how.accumulation * how.batch)
    ]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        clock = (
            ours(model, how, rows, place)
            if kind == "deskhand"
            else plain(model, how, rows, place, defaults=kind == "trl-defaults")
        )
    return clock.result(sum(len(row.input_ids) for row in rows) // steps, steps)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--steps", type=int, default=6)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--base", default="smollm2-135m-instruct")
    arguments.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.worker:
        print(json.dumps(worker(given.worker, given.base, given.steps)))
        return
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in NAMES}
    for _ in range(given.rounds):
        for kind, found in runs.items():
            command = [sys.executable, "-m", "tests.bench.bench_training", "--worker", kind]
            command += ["--base", given.base, "--steps", str(given.steps)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{NAMES[kind]}: {found[-1]}", flush=True)
    speeds = {kind: statistics.median(run["tokens_per_s"] for run in found) for kind, found in runs.items()}
    ratios = {
        kind: round(speeds["deskhand"] / speed, 2) for kind, speed in speeds.items() if kind != "deskhand"
    }
    save(
        "training",
        {
            "base": given.base,
            "steps": given.steps,
            "load": [round(x, 1) for x in os.getloadavg()],
            "runs": runs,
            "tokens_per_s": speeds,
            "times_faster_than": ratios,
        },
    )
    with plotted("training") as axis:
        bars = axis.barh([NAMES[kind] for kind in speeds], list(speeds.values()), color="#3b6ea5")
        axis.bar_label(bars, fmt="%.0f", padding=3)
        axis.set_xlabel("tokens a second while training (more is better)")
        axis.margins(x=0.15)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
