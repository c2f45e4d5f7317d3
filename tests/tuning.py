"""A dataset to train on, small enough for a test."""

from __future__ import annotations

from dataclasses import replace

from assistant.answer.prompt import DECLINED, INSTRUCTIONS
from assistant.store import datasets
from assistant.store.datasets import Example
from assistant.store.db import Database

COLOURS = ["red", "green", "blue", "grey", "black", "white", "brown"]


def prompt(number: int) -> list[dict[str, str]]:
    colour = COLOURS[number % len(COLOURS)]
    asked = f'<source number="1">\n[1] Boxes\nBox {number} is {colour}.\n</source>\n\nQuestion: what is box {number}?'
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": asked}]


def examples(answers: int = 50, declines: int = 20, replays: int = 20) -> list[Example]:
    """As `datasets.examples` gives them."""
    kinds = ["answer"] * answers + ["decline"] * declines + ["replay"] * replays
    completions = {"decline": DECLINED, "replay": "The cat sat on the mat, and the dog on the log."}
    return [
        Example(
            kind=kind,
            origin="desk",
            prompt=() if kind == "replay" else tuple(prompt(number)),
            completion=completions.get(kind, f"Box {number} is {COLOURS[number % len(COLOURS)]}. [1]"),
            documents=() if kind == "replay" else (1000 + number, 1),
        )
        for number, kind in enumerate(kinds)
    ]


def judged(good: int = 40, bad: int = 40) -> list[Example]:
    """Answers that people judged: the good ones tell the colour, the bad ones don't."""
    kinds = ["good"] * good + ["bad"] * bad
    return [
        Example(
            kind=kind,
            origin="feedback",
            prompt=tuple(prompt(number)),
            completion=f"Box {number} is {COLOURS[number % len(COLOURS)]}. [1]"
            if kind == "good"
            else f"See the manual for box {number}. [1]",
            documents=(2000 + number,),
        )
        for number, kind in enumerate(kinds)
    ]


def store(database: Database, train: list[Example], dev: list[Example], *, name: str = "c0ffee" * 10) -> str:
    """A dataset of these; returns its hash."""
    parts = [replace(e, part=part) for part, rows in (("train", train), ("dev", dev)) for e in rows]
    with database.writer() as connection:
        datasets.add(connection, parts, hash=name, settings={}, counts={})
    return name
