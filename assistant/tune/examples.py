"""Examples as a model reads them: in its own chat format, exactly as serving writes it, as numbers.

Nothing is cut: an example that is too long is left out and counted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from assistant.answer.prompt import DECLINED
from assistant.errors import ConfigError
from assistant.generate.base import CONTROL
from assistant.store.datasets import Example
from assistant.tune.recipe import Recipe

LEAST, LEAST_OF_EACH, LEAST_DEV = 50, 5, 10
"""examples without which nothing is trained: in all, answers and declined ones, and of the development part"""
LEAST_JUDGED = 20
"""judged answers of either kind without which nothing is learnt from feedback"""
JUDGED = ("good", "bad")
IGNORED = -100
"""label of a token that no loss is computed for"""


class Tokenizer(Protocol):
    """What is used of a tokenizer of transformers."""

    eos_token: str

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool = False
    ) -> str: ...

    def __call__(self, text: str, *, add_special_tokens: bool) -> Mapping[str, list[int]]: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as numbers; `labels` has `IGNORED` where something is only read."""

    input_ids: list[int]
    labels: list[int]
    good: bool = True
    """of an answer that was judged: how"""

    @property
    def read(self) -> int:
        """How many of its tokens are the prompt's."""
        return self.labels.count(IGNORED)


@dataclass(slots=True)
class Prepared:
    """What a training reads."""

    train: list[Encoded] = field(default_factory=list[Encoded])
    dev: list[Encoded] = field(default_factory=list[Encoded])
    counts: Counter[str] = field(default_factory=Counter[str])
    """examples by part and kind, as in `train answer`"""
    left_out: Counter[str] = field(default_factory=Counter[str])
    """examples by the reason why they were left out"""
    documents: set[int] = field(default_factory=set[int])
    """ids of what they are made of"""
    messages: set[int] = field(default_factory=set[int])
    """ids of the judged answers that they are"""


def check(train: Iterable[Example], dev: Iterable[Example], recipe: Recipe) -> None:
    """Raises `ConfigError` where there is too little to learn from, or only one of the two things to learn."""
    train, dev = list(train), list(dev)
    if recipe.method == "kto":
        _check_judged(Counter(e.kind for e in train), Counter(e.kind for e in dev))
        return
    declined = Counter(_declines(example) for example in train if example.kind != "replay")
    looked_at = sum(example.kind != "replay" for example in dev)
    if any(example.kind in JUDGED for example in train):
        wrong = "it is of judged answers, bad ones among them, which a version goes on with (--from)"
    elif not declined[False]:
        wrong = "no example in it has an answer: the model would learn to decline everything"
    elif not declined[True]:
        wrong = "no example in it declines: the model would learn to answer whatever the sources say"
    elif declined.total() < LEAST or min(declined[False], declined[True]) < LEAST_OF_EACH:
        wrong = (
            f"it has {declined[False]} examples with an answer and {declined[True]} that decline; "
            f"at least {LEAST} are needed, {LEAST_OF_EACH} of each"
        )
    elif looked_at < LEAST_DEV:
        wrong = f"its development part has {looked_at} examples and needs {LEAST_DEV} to tell when to stop"
    else:
        return
    raise ConfigError(
        f"This dataset can't be trained on: {wrong}. Nothing was started. Make one of more tickets with "
        "`deskhand tune dataset`."
    )


def _check_judged(train: Counter[str], dev: Counter[str]) -> None:
    if min(train[kind] + dev[kind] for kind in JUDGED) < LEAST_JUDGED or not all(dev[k] for k in JUDGED):
        raise ConfigError(
            f"Too few judged answers to learn from: {train['good'] + dev['good']} good and {train['bad'] + dev['bad']} "
            f"bad ones that can be used, and {LEAST_JUDGED} of each are needed. Nothing was started. Let people judge "
            "more, then make a dataset of it with `deskhand tune dataset --feedback`."
        )


def prepare(
    tokenizer: Tokenizer, train: Sequence[Example], dev: Sequence[Example], recipe: Recipe
) -> Prepared:
    """The examples a recipe asks for, as numbers. Raises `ConfigError` when too few are left."""
    chance = random.Random(recipe.seed)  # noqa: S311 - a draw that can be repeated, nothing secret
    own = [example for example in train if example.kind != "replay"]
    general = [example for example in train if example.kind == "replay"]
    wanted = round(len(own) * recipe.replay / (1 - recipe.replay))
    general = chance.sample(general, min(wanted, len(general)))
    looked_at = [example for example in dev if example.kind != "replay"]
    looked_at = chance.sample(looked_at, min(recipe.dev_examples, len(looked_at)))
    if recipe.method == "kto":  # which reads them in this order, and compares those that are read at once
        chance.shuffle(own)
    made = Prepared()
    for part, examples, rows in (("train", [*own, *general], made.train), ("dev", looked_at, made.dev)):
        for example in examples:
            encoded = replace(
                encode(tokenizer, example.prompt, example.completion), good=example.kind != "bad"
            )
            if not example.completion.strip() or all(label == IGNORED for label in encoded.labels[1:]):
                made.left_out["without anything to say"] += 1
            elif len(encoded.input_ids) > recipe.max_tokens:
                made.left_out[f"longer than {recipe.max_tokens} tokens"] += 1
            else:
                rows.append(encoded)
                made.counts[f"{part} {example.kind}"] += 1
                made.documents.update(example.documents)
                if example.message is not None:
                    made.messages.add(example.message)
    least = LEAST_JUDGED if recipe.method == "kto" else LEAST
    one_kind = recipe.method == "kto" and len({row.good for row in made.train}) < 2
    if len(made.train) < least or one_kind or not made.dev:
        told = ", ".join(f"{count} {reason}" for reason, count in made.left_out.items())
        raise ConfigError(
            f"{len(made.train)} examples are left to train on and {len(made.dev)} to look at ({told}), which is too "
            "few. Nothing was started; raise max_tokens, or make a dataset with shorter passages."
        )
    return made


def rendered(tokenizer: Tokenizer, prompt: Sequence[Mapping[str, str]], completion: str) -> tuple[str, str]:
    """What the model is given, as `LocalChat.prompt` writes it, and what it should write, to its last token."""
    completion = CONTROL.sub("‹", completion)
    if not prompt:  # a text, no conversation
        return "", completion
    messages = [{"role": m["role"], "content": CONTROL.sub("‹", m["content"])} for m in prompt]
    given = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    answer = {"role": "assistant", "content": completion}
    whole = tokenizer.apply_chat_template([*messages, answer], tokenize=False)
    # Some formats write a finished answer otherwise than they begin one; then its end is the tokenizer's.
    wanted = whole[len(given) :].rstrip() if whole.startswith(given) else completion + tokenizer.eos_token
    return given, wanted


def encode(tokenizer: Tokenizer, prompt: Sequence[Mapping[str, str]], completion: str) -> Encoded:
    """An example as numbers. Both parts are split into tokens on their own, as they are when serving."""
    parts = rendered(tokenizer, prompt, completion)
    read, written = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts)
    return Encoded([*read, *written], [IGNORED] * len(read) + written)


def columns(rows: Sequence[Encoded]) -> dict[str, list[Any]]:
    """As a `datasets.Dataset` takes them."""
    return {
        "input_ids": [row.input_ids for row in rows],
        "labels": [row.labels for row in rows],
    }


def _declines(example: Example) -> bool:
    return example.completion.strip() == DECLINED
