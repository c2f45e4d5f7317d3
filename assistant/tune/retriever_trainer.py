"""The embedder's training: sentence-transformers' trainer with a loss that knows which documents answer what.

The only module of the retriever's part that needs torch (extra `[tune]`); it is loaded in a process of its own.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from torch.nn import functional
from transformers import AutoModel, PrinterCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.utils import logging

from assistant import servers
from assistant.ingest.embed import OnnxEmbedder
from assistant.tune import onnx_file
from assistant.tune.negatives import Example
from assistant.tune.ranking import Pool, ndcg
from assistant.tune.retriever import NotFinite, Recipe, Tell

CHECKPOINT_SECONDS = 120.0
"""a death costs at most this much work, and the step it comes in"""
WHOLE = "whole"
"""file in a checkpoint that has all its others"""
LOOKS, MODEL = "looks.json", "model.onnx"
SCALE = 20.0
"""of the cosines, as the base model was trained"""


class Links(torch.nn.Module):
    """InfoNCE (van den Oord et al. 2018) over the batch's passages and the mined ones, both ways.

    A passage of a document that answers a question is no negative for it, wherever in the batch it stands.
    """

    def __init__(self, model: Any, examples: Sequence[Example]) -> None:
        super().__init__()
        self.model = model
        self._examples = examples

    def forward(self, features: Sequence[dict[str, Any]], labels: Any) -> Any:
        """`labels`: numbers of the examples; `features`: of questions, positives, and one batch a negative."""
        question, *passages = [self.model(dict(one))["sentence_embedding"].float() for one in features]
        batch = [self._examples[number] for number in labels.tolist()]
        documents = [one.document for one in batch]
        documents += [
            one.others[n] if n < len(one.others) else -1 for n in range(len(passages) - 1) for one in batch
        ]
        scores = SCALE * question @ torch.cat(list(passages)).T
        answers = torch.tensor([[d in one.relevant or d == -1 for d in documents] for one in batch])
        answers[:, : len(batch)] &= ~torch.eye(len(batch), dtype=torch.bool)
        scores = scores.masked_fill(answers.to(scores.device), -math.inf)
        wanted = torch.arange(len(batch), device=scores.device)
        return (
            functional.cross_entropy(scores, wanted)
            + functional.cross_entropy(scores[:, : len(batch)].T.contiguous(), wanted)
        ) / 2


class Look(TrainerCallback):
    """Now and then looks how well what is learnt so far ranks, keeps the best of it, and ends what gets no better."""

    def __init__(
        self, base: Path, model: Any, pools: Sequence[Pool], recipe: Recipe, folder: Path, tell: Tell
    ) -> None:
        self._base, self._model, self._pools, self._recipe = base, model, pools, recipe
        self._folder, self._tell = folder, tell
        self._saved = time.monotonic()
        self.looks: list[dict[str, Any]] = read_looks(folder)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.looks = [look for look in self.looks if look["step"] <= state.global_step]
        if not self.looks:
            self._look(0)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        every = max(1, round(state.max_steps / (self._recipe.epochs * self._recipe.looks)))
        if state.global_step % every == 0 or state.global_step == state.max_steps:
            self._look(state.global_step)
            best = best_look(self.looks)
            if sum(look["step"] > best["step"] for look in self.looks) >= self._recipe.patience:
                control.should_training_stop = True
            control.should_save = True
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            control.should_save = True

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._saved = time.monotonic()
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        for file in checkpoint.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
        (checkpoint / WHOLE).touch()

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: Mapping[str, float], **_: Any
    ) -> None:
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise NotFinite(f"step {state.global_step}")
        self._tell({"step": state.global_step, "steps": state.max_steps, "loss": round(logs["loss"], 4)})

    def _look(self, step: int) -> None:
        place = self._folder / f"look-{step}"
        export(self._base, self._model, place, strength=self._recipe.strength if step else 0.0)
        embedder = OnnxEmbedder(place, threads=torch.get_num_threads())
        found = [score for pool in self._pools for score in ndcg(embedder, pool)]
        mean = sum(found) / len(found)
        best = best_look(self.looks)
        self.looks.append({"step": step, "ndcg": round(mean, 4)})
        servers.write_small(self._folder / LOOKS, json.dumps(self.looks))
        if step and mean > best["ndcg"]:
            for older in self._folder.glob("best-*"):
                shutil.rmtree(older)
            place.rename(self._folder / f"best-{step}")
        else:
            shutil.rmtree(place)
        self._tell({"ndcg": round(mean, 4), "best_ndcg": best_look(self.looks)["ndcg"]})


def fit(
    base: Path, examples: Sequence[Example], pools: Sequence[Pool], recipe: Recipe, folder: Path, tell: Tell
) -> list[dict[str, Any]]:
    """Train, or go on with what `folder` holds; the best model is then in its `best-<step>`, if any was better
    than the untrained one.

    Returns the looks: {step, ndcg}, the first of them at the untrained model. Raises `NotFinite`.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(recipe.seed)
    model = sentence_model(base, recipe)
    count = max((len(example.negatives) for example in examples), default=0)
    columns = {
        "question": [one.question for one in examples],
        "positive": [one.positive for one in examples],
        # Where there are too few, any text does: it is masked.
        **{
            f"negative_{n}": [
                one.negatives[n] if n < len(one.negatives) else one.positive for one in examples
            ]
            for n in range(count)
        },
        "label": list(range(len(examples))),
    }
    look = Look(base, model, pools, recipe, folder, tell)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=_arguments(recipe, folder),
        train_dataset=Dataset.from_dict(columns),
        loss=Links(model, examples),
        callbacks=[look],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    return look.looks


def sentence_model(base: Path, recipe: Recipe) -> SentenceTransformer:
    """As the base model computes a text's vector; its word embeddings stay as they are."""
    words = Transformer(str(base), max_seq_length=recipe.tokens)
    pooling = Pooling(words.get_embedding_dimension(), "mean")
    model = SentenceTransformer(modules=[words, pooling, Normalize()], device="cpu" if recipe.cpu else None)
    if recipe.frozen:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = not (
                ".embeddings." in name or any(f".layer.{n}." in name for n in range(recipe.frozen - 1))
            )
    return model


def export(base: Path, model: Any, place: Path, *, strength: float) -> None:
    """The model as ONNX with eight bits, moved only so far from the base (WiSE-FT, Wortsman et al. 2022)."""
    plain = AutoModel.from_pretrained(base, attn_implementation="eager", dtype=torch.float32)
    learnt = {name.removeprefix("0.model."): value for name, value in model.state_dict().items()}
    own = plain.state_dict()
    missing = set(own) - set(learnt) - {"embeddings.position_ids"}
    if missing:
        raise ValueError(f"the trained model lacks {sorted(missing)[:3]}")
    plain.load_state_dict(
        {
            name: value + strength * (learnt[name].float().cpu() - value)
            if value.is_floating_point()
            else value
            for name, value in own.items()
        }
    )
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    onnx_file.write(plain, place / "whole.onnx")
    onnx_file.eight_bits(place / "whole.onnx", place / MODEL)
    shutil.copyfile(base / "tokenizer.json", place / "tokenizer.json")


def read_looks(folder: Path) -> list[dict[str, Any]]:
    place = folder / LOOKS
    return json.loads(place.read_text(encoding="utf-8")) if place.exists() else []


def best_look(looks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The earliest of the best."""
    return max(looks, key=lambda look: (look["ndcg"], -look["step"]), default={"step": 0, "ndcg": -1.0})


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole; others, which a death left behind, are in the way of new ones."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda place: int(place.name.rpartition("-")[2]))
    whole = [place for place in found if (place / WHOLE).exists()]
    for broken in set(found) - set(whole):
        shutil.rmtree(broken)
    return str(whole[-1]) if whole else None


def _arguments(recipe: Recipe, folder: Path) -> SentenceTransformerTrainingArguments:
    bf16 = recipe.cpu and torch.backends.mkldnn.is_available()
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup,
        seed=recipe.seed,
        use_cpu=recipe.cpu,
        bf16=bf16,
        save_strategy="no",
        save_total_limit=1,
        logging_steps=5,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
    )
