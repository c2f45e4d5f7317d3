"""Datasets that models are trained on: made once, known by the hash of what is in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assistant.errors import ConfigError
from assistant.store.db import Conn
from assistant.store.sql import SQL

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A row of `dataset`."""

    id: int
    hash: str
    settings: Mapping[str, Any]
    counts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """What is asked and what should be said."""

    id: int
    kind: str
    """`answer`, `decline`, `turns`, `draft` or `replay`"""
    origin: str
    prompt: list[dict[str, str]]
    """chat messages as the generator gets them; none for a text of `replay`"""
    completion: str
    documents: list[int]


def get(connection: Conn, name: str) -> Dataset:
    """The dataset whose hash begins so, or the latest. Raises `ConfigError` for none or several."""
    rows = connection.execute(SQL["dataset_get"], {"hash": name}).fetchall()
    if not rows:
        what = "There is no dataset yet" if name == LATEST else f"There is no dataset {name}"
        raise ConfigError(f"{what}. Nothing was changed; make one with `deskhand tune dataset`.")
    if name != LATEST and len(rows) > 1:
        raise ConfigError(f"Several datasets begin with {name}. Nothing was changed; write more of the hash.")
    return Dataset(**rows[0])


def examples(connection: Conn, dataset_id: int, part: str) -> Iterator[Example]:
    """Those of `train`, `dev` or `test`, in the order they were made."""
    for row in connection.execute(SQL["dataset_examples"], {"dataset": dataset_id, "part": part}):
        yield Example(**row)


def documents(connection: Conn, dataset_id: int) -> list[int]:
    """Ids of all documents that the examples are made of."""
    return [row["document"] for row in connection.execute(SQL["dataset_documents"], {"dataset": dataset_id})]
