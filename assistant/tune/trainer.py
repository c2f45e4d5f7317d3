"""TRL's trainer, as a desk needs it: it computes the loss where there is one, and can be killed at any moment.

Beside `preferring` the only module that imports torch, transformers, peft and trl (extra `[tune]`).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState
from trl import SFTConfig, SFTTrainer

from assistant import servers
from assistant.generate import adapter
from assistant.tune.base import Base, bf16
from assistant.tune.examples import IGNORED, Encoded, columns
from assistant.tune.job import Stopped, Tell
from assistant.tune.recipe import Recipe

CHECKPOINT_SECONDS = 120.0
"""a death costs at most this much work, and the step it comes in"""
WHOLE = "whole"
"""file in a checkpoint that has all its others"""
TELL_SECONDS = 1.0


class NotFinite(Exception):
    """The loss is no number any more."""


class ByLength(Sampler[int]):
    """Every epoch in another order, examples of like length together: what is padded is computed for nothing.

    The order follows from seed and epoch alone, so that a resumed epoch is the one that was begun.
    """

    POOL = 32
    """batches that are drawn together and then sorted"""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed, self._epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        chance = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order = torch.randperm(len(self._lengths), generator=chance).tolist()
        if self._batch == 1:
            return iter(order)
        pool = self._batch * self.POOL
        order = [
            index
            for start in range(0, len(order), pool)
            for index in sorted(order[start : start + pool], key=self._lengths.__getitem__)
        ]
        # The short batch at the end stays there: a batch in the middle of it would be two halves.
        whole = len(order) // self._batch
        batches = [order[n * self._batch : (n + 1) * self._batch] for n in range(whole)]
        mixed = [batches[n] for n in torch.randperm(whole, generator=chance).tolist()]
        return iter([*(index for batch in mixed for index in batch), *order[whole * self._batch :]])


class Finite(Trainer):
    """Ends where its loss is no number any more."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise NotFinite(
                f"step {self.state.global_step + 1}, learning rate {self._get_learning_rate():.1e}"
            )
        return loss


class DeskTrainer(Finite, SFTTrainer):
    """SFT whose output layer is computed for completions alone."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Summed over the tokens of the completions, divided by their number in the whole step.

        TRL leaves prompts out of the output layer on GPUs alone, and a vocabulary of
        49,000 costs a small model a third of its time.
        """
        if self.args.device.type != "cpu" or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"][:, 1:]
        places = (labels != IGNORED).any(0).nonzero().flatten()
        read = {name: value for name, value in inputs.items() if name != "labels"}
        if len(read["input_ids"]) == 1:
            del read["attention_mask"]  # nothing is padded, and attention without a mask is faster
        logits = model(**read, use_cache=False, logits_to_keep=places).logits
        wanted = labels[:, places]
        loss = functional.cross_entropy(
            logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        if num_items_in_batch is None:
            return loss / (wanted != IGNORED).sum()
        # Gradients are averaged over the processes, tokens were counted over all of them.
        return loss / num_items_in_batch * self.accelerator.num_processes

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        rows = self.train_dataset if train_dataset is None else train_dataset
        lengths = [len(ids) for ids in rows["input_ids"]]
        return ByLength(lengths, self.args.per_device_train_batch_size, self.args.seed)


class Watch(TrainerCallback):
    """Tells how far it is, keeps the best adapter and whole checkpoints, and ends what gets no better."""

    def __init__(self, folder: Path, recipe: Recipe, tell: Tell) -> None:
        self._folder, self._recipe, self._tell = folder, recipe, tell
        self._saved = self._told = time.monotonic()
        self._began: tuple[float, int] | None = None
        self._loss: dict[str, Any] = {}

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._began = self._began or (time.monotonic(), state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            control.should_save = True
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Mapping[str, float], **_: Any
    ) -> None:
        for key, name in (("loss", "loss"), ("eval_loss", "dev_loss")):
            if not math.isfinite(logs.get(key, 0.0)):
                raise NotFinite(f"step {state.global_step}")
            if key in logs:
                self._loss[name] = round(logs[key], 4)
        now, last = time.monotonic(), state.global_step >= state.max_steps
        if state.is_world_process_zero and (now - self._told > TELL_SECONDS or last):
            self._told = now
            left: dict[str, Any] = {}
            if self._began and state.global_step > self._began[1]:
                a_step = (now - self._began[0]) / (state.global_step - self._began[1])
                left = {"seconds_left": round(a_step * (state.max_steps - state.global_step))}
            if not self._tell({"step": state.global_step, "steps": state.max_steps, **self._loss, **left}):
                raise Stopped

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        looks = looks_at(state.log_history)
        best = best_look(looks)
        if best is looks[-1] and state.is_world_process_zero:
            keep = self._folder / f"best-{state.global_step}"
            shutil.rmtree(keep, ignore_errors=True)
            model.save_pretrained(keep, save_embedding_layers=False)
        since = sum(look["step"] > best["step"] for look in looks)
        if since >= self._recipe.patience and state.global_step < state.max_steps:
            control.should_training_stop = True
        # So that what is said to be the best and what is kept as such never differ.
        control.should_save = True

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._saved = time.monotonic()
        if not state.is_world_process_zero:
            return
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        for file in checkpoint.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        (checkpoint / WHOLE).touch()
        best = best_look(looks_at(state.log_history))["step"]
        for older in self._folder.glob("best-*"):
            if older.name != f"best-{best}":
                shutil.rmtree(older)


def looks_at(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The development part's losses, from the untrained model's on."""
    return [entry for entry in history if "eval_loss" in entry] or [{"step": 0, "eval_loss": math.inf}]


def best_look(looks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return min(looks, key=lambda look: (look["eval_loss"], look["step"]))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; others, which a death left behind, are in the way of new ones."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda place: int(place.name.rpartition("-")[2]))
    whole = [place for place in found if (place / WHOLE).exists()]
    if not int(os.environ.get("RANK", "0")):
        for broken in set(found) - set(whole):
            shutil.rmtree(broken)
    return whole[-1] if whole else None


def fit(
    base: Base, train: Sequence[Encoded], dev: Sequence[Encoded], recipe: Recipe, folder: Path, tell: Tell
) -> dict[str, Any]:
    """Train, or go on with what `folder` holds; the best adapter is then in its `best-<step>`.

    Returns {history, step, steps, epoch}, where the history is what was logged: {step, loss, learning_rate …}
    and {step, eval_loss …}. Raises `NotFinite`, `Stopped`, and whatever a full disk makes of a write.
    """
    checkpoint = last_checkpoint(folder)
    model = base.model()
    trainer = DeskTrainer(
        model=model,
        args=SFTConfig(**arguments(recipe, folder, resumed=checkpoint is not None), packing=False),
        train_dataset=Dataset.from_dict(columns(train)),
        eval_dataset=Dataset.from_dict(columns(dev)),
        processing_class=base.tokenizer(),
        peft_config=LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,  # pyright: ignore[reportArgumentType] - a float does as well
            lora_dropout=recipe.dropout,
            target_modules=recipe.targets,
            use_dora=recipe.dora,
            use_rslora=recipe.rslora,
            task_type="CAUSAL_LM",
        ),
        callbacks=[Watch(folder, recipe, tell)],
    )
    return run(trainer, checkpoint)


def run(trainer: Any, checkpoint: Path | None) -> dict[str, Any]:
    """Train, from the checkpoint on where there is one; returns what `fit` does."""
    trainer.remove_callback(PrinterCallback)
    # PEFT would make every layer's input float32, only for autocast to make it bfloat16 again.
    with disable_input_dtype_casting(trainer.model, active=bf16()):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state = trainer.state
    return {
        "history": state.log_history,
        "step": state.global_step,
        "steps": state.max_steps,
        "epoch": state.epoch,
    }


def publish(best: Path, folder: Path, base: Base, recipe: Recipe) -> None:
    """An adapter as PEFT and vLLM load it, in bfloat16, with the recipe's strength in its alpha."""
    tensors = {name: value.to(torch.bfloat16) for name, value in load_file(best / adapter.WEIGHTS).items()}
    config = json.loads((best / adapter.CONFIG).read_text(encoding="utf-8"))
    config |= {"lora_alpha": recipe.alpha * recipe.strength, "base_model_name_or_path": base.name}
    # PEFT lists every single module, in an order of chance.
    config["target_modules"] = sorted({name.rpartition(".")[-1] for name in config["target_modules"]})
    scratch = folder / f".{adapter.WEIGHTS}"
    save_file(tensors, scratch, metadata={"format": "pt"})
    scratch.replace(folder / adapter.WEIGHTS)
    servers.write_small(folder / adapter.CONFIG, json.dumps(config, indent=2, sort_keys=True), mode=0o644)


def arguments(recipe: Recipe, folder: Path, *, resumed: bool) -> dict[str, Any]:
    """What every trainer of TRL is told."""
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": recipe.batch,
        "per_device_eval_batch_size": recipe.batch,
        "gradient_accumulation_steps": recipe.accumulation,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup,  # below 1 it is a share
        "weight_decay": recipe.weight_decay,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.steps or -1,
        "max_length": None,  # nothing is cut: what is too long was left out
        "bf16": bf16(),
        "gradient_checkpointing": False,
        "eval_strategy": "steps",
        "eval_steps": recipe.evaluate_every,
        "eval_on_start": not resumed,
        "save_strategy": "no",  # `Watch` says when
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "use_cpu": not on_gpu,
        "seed": recipe.seed,
    }
