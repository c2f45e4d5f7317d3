"""How a generator is trained: every number that the result depends on, beside the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from assistant.errors import ConfigError


class Recipe(BaseModel):
    """A recipe's defaults are for SmolLM2-135M on two cores, some hundreds to some thousands of examples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["sft", "kto"] = "sft"
    """learn what is to be said, from the base on; or of judged answers what is liked, from a version on"""
    start: str = ""
    """the version that kto goes on from, such as generator-3"""
    beta: float = Field(default=0.1, gt=0)
    """of kto: how dear it is to differ from that version"""
    rank: int = Field(default=16, ge=1, le=256)
    """of the two matrices that LoRA adds to every linear layer but the last"""
    alpha: float = Field(default=32, gt=0)
    """LoRA adds (alpha/rank)·B·A"""
    targets: Literal["all-linear"] = "all-linear"
    dora: bool = False
    """scale each row to a learnt length as well: slower, sometimes better at low rank"""
    rslora: bool = False
    """divide alpha by √rank instead of rank, for high ranks"""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """of LoRA's input"""
    learning_rate: float = Field(default=5e-4, gt=0)
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """share of the steps in which the learning rate rises"""
    weight_decay: float = Field(default=0.0, ge=0)
    epochs: float = Field(default=3.0, gt=0)
    steps: int = Field(default=0, ge=0)
    """as many and no more, whatever `epochs` says; 0: by epochs"""
    batch: int = Field(default=1, ge=1)
    """examples read at once; on a CPU more only cost padding"""
    accumulation: int = Field(default=16, ge=1)
    """batches to a step"""
    max_tokens: int = Field(default=1_800, ge=64)
    """longer examples are left out, never cut: an answer without its end teaches not to end"""
    replay: float = Field(default=0.1, ge=0, lt=1)
    """share of general texts among what is trained on, against forgetting"""
    evaluate_every: int = Field(default=25, ge=1)
    """steps between two looks at the development part"""
    dev_examples: int = Field(default=120, ge=1)
    """of the development part that are looked at"""
    patience: int = Field(default=4, ge=1)
    """looks without a better loss after which it stops"""
    strength: float = Field(default=1.0, gt=0, le=1)
    """of what was learnt, how much the finished adapter applies: less forgets less"""
    seed: int = 7
    writes: bool = True
    """whether the version's own sentences are shown, once it is live, or the sources' are quoted"""

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if self.dora and self.strength != 1:
            raise ValueError("DoRA can't be weakened: leave strength at 1")
        if (self.method == "kto") != bool(self.start):
            raise ValueError("kto goes on from a version (--from), and sft begins with the base")
        if self.method == "kto" and self.batch < 2:
            raise ValueError("kto compares the answers of a batch: make batch 2 or more")
        if self.method == "kto" and self.strength != 1:
            raise ValueError("kto can't be weakened without the version it goes on from: leave strength at 1")
        return self


GENTLE: dict[str, Any] = {"method": "kto", "learning_rate": 5e-5, "batch": 4, "accumulation": 4}
"""what is otherwise by default where a version is to stay what it is but for what was disliked"""


def continued(start: str, began: Mapping[str, Any], **values: Any) -> Recipe:
    """A recipe that goes on from the version `start`, whose own recipe is `began`, with the adapter that it has.

    Raises `ConfigError` naming what is wrong, as a value that would need another adapter.
    """
    first = recipe(**began)
    # Its strength is in its adapter's alpha already.
    own = {"alpha": first.alpha * first.strength} | {
        name: getattr(first, name) for name in ("rank", "targets", "dora", "rslora")
    }
    made = recipe(**{**GENTLE, "writes": first.writes, **own, **values, "start": start})
    if other := [name for name, value in own.items() if getattr(made, name) != value]:
        raise ConfigError(
            f"{start} has an adapter of its own, and its {' and '.join(other)} can't be changed by going on from it. "
            "Nothing was started; leave that out."
        )
    return made


def recipe(**values: Any) -> Recipe:
    """A recipe with these values in place of defaults. Raises `ConfigError` naming what is wrong."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, problem['loc'])) or 'together'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError(
            f"This recipe can't be followed: {'; '.join(wrong)}. Nothing was started."
        ) from None
