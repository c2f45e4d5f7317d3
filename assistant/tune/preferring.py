"""TRL's trainer for judged answers: a version goes on, towards what was found good and away from what was not.

KTO (Ethayarajh et al. 2024, arXiv 2402.01306) needs no pairs: feedback is one answer and what somebody thought of it.
What it compares with is the version it goes on from, not the base that the adapter is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from trl import KTOConfig, KTOTrainer

from assistant.tune.base import Base
from assistant.tune.examples import Encoded
from assistant.tune.job import Tell
from assistant.tune.recipe import Recipe
from assistant.tune.trainer import Finite, Watch, arguments, last_checkpoint, run


class PreferenceTrainer(Finite, KTOTrainer):
    """KTO of examples that are numbers already, as serving writes them."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def fit(
    base: Base,
    start: Path,
    train: Sequence[Encoded],
    dev: Sequence[Encoded],
    recipe: Recipe,
    folder: Path,
    tell: Tell,
) -> dict[str, Any]:
    """Go on from the adapter in `start`; else as `trainer.fit`, a development loss being KTO's."""
    checkpoint = last_checkpoint(folder)
    good = sum(row.good for row in train)
    trainer = PreferenceTrainer(
        model=PeftModel.from_pretrained(base.model(), start, is_trainable=True),
        args=KTOConfig(
            **arguments(recipe, folder, resumed=checkpoint is not None),
            beta=recipe.beta,
            # Both kinds weigh the same however many there are, and one example 1 on average.
            desirable_weight=len(train) / (2 * good),
            undesirable_weight=len(train) / (2 * (len(train) - good)),
            precompute_ref_log_probs=True,
        ),
        train_dataset=Dataset.from_dict(columns(train, recipe.batch)),
        eval_dataset=Dataset.from_dict(columns(dev, recipe.batch)),
        processing_class=base.tokenizer(),
        callbacks=[Watch(folder, recipe, tell)],
    )
    # TRL's copy of the start has told what it thinks of all answers: checkpoints need not have it.
    trainer.model.delete_adapter("ref")
    return run(trainer, checkpoint)


def columns(rows: Sequence[Encoded], batch: int) -> dict[str, list[Any]]:
    """As `KTOTrainer` reads them; a batch's answers to each other's questions tell how far it is from its start."""
    written = [row.input_ids[row.read :] for row in rows]
    batches = [written[first : first + batch] for first in range(0, len(rows), batch)]
    return {
        "prompt_ids": [row.input_ids[: row.read] for row in rows],
        "completion_ids": written,
        "KL_completion_ids": [one for together in batches for one in (together[-1], *together[:-1])],
        "label": [row.good for row in rows],
    }
