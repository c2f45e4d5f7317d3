"""Retrieval sets in the layout of BEIR (Thakur et al. 2021): a folder with `corpus.jsonl`,
`queries.jsonl` (either may be `.gz`) and `qrels/<split>.tsv`.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.errors import ConfigError

SPLITS = ("test", "dev", "train")
"""in this order when none is named"""


class Record(BaseModel):
    """A line of `corpus.jsonl` or `queries.jsonl`."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)

    id: str = Field(alias="_id")
    title: str = ""
    text: str
    metadata: Mapping[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """Queries and what is relevant to each."""

    name: str
    split: str
    queries: tuple[Record, ...] = field(repr=False)
    relevant: Mapping[str, Mapping[str, int]] = field(repr=False)
    """query id → document id → grade; every query has at least one above 0"""


def task(folder: Path, *, split: str = "", limit: int | None = None) -> Task:
    """The queries of `split` (default: the first of test, dev, train there is) in their file's order.

    Raises `ConfigError` when the folder isn't in BEIR's layout.
    """
    names = [split] if split else list(SPLITS)
    file = next((f for name in names if (f := folder / "qrels" / f"{name}.tsv").is_file()), None)
    if file is None:
        raise ConfigError(
            f"{folder} has no qrels/{'.tsv or qrels/'.join(names)}.tsv. Nothing was evaluated; "
            "name a folder in BEIR's layout, or another --split."
        )
    relevant = _relevant(file)
    queries = [record for record in _records(folder, "queries") if record.id in relevant]
    if not queries:
        raise ConfigError(f"None of the queries of {file} is in queries.jsonl. Nothing was evaluated.")
    chosen = tuple(queries[:limit])
    return Task(folder.resolve().name, file.stem, chosen, {q.id: relevant[q.id] for q in chosen})


def corpus(folder: Path) -> Iterator[Record]:
    """Every document. Raises `ConfigError` when there is no corpus, or a line isn't one."""
    return _records(folder, "corpus")


def fingerprint(folder: Path) -> str:
    """Of the corpus' content, however it is compressed."""
    with _opened(folder, "corpus") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def moment(value: Any) -> dt.datetime | None:
    """A date as sets write them, such as `2025-07-01 13:27:12 +0000`; UTC when it names no zone."""
    if not value:
        return None
    try:
        found = dt.datetime.fromisoformat(re.sub(r" (?=[+-]\d\d:?\d\d$)", "", str(value).strip()))
    except ValueError as error:
        raise ConfigError(f"«{value}» is not a date. Nothing was evaluated; write it as ISO 8601.") from error
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _opened(folder: Path, name: str) -> BufferedReader | gzip.GzipFile:
    plain, packed = folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"
    if plain.is_file():
        return plain.open("rb")
    if packed.is_file():
        return gzip.open(packed, "rb")
    raise ConfigError(f"{folder} has no {name}.jsonl or {name}.jsonl.gz. Nothing was evaluated.")


def _records(folder: Path, name: str) -> Iterator[Record]:
    with _opened(folder, name) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                yield Record.model_validate_json(line)
            except ValidationError as error:
                problem = error.errors(include_input=False, include_url=False)[0]
                place = ".".join(str(part) for part in problem["loc"]) or "the line"
                raise ConfigError(
                    f"{folder / name}.jsonl, line {number}: {place}: {problem['msg']}. Nothing was evaluated."
                ) from error


def _relevant(file: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    with file.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.reader(stream, delimiter="\t"), 1):
            if number == 1 and row[-1:] == ["score"]:
                continue
            try:
                query, document, grade = row
                found.setdefault(query, {})[document] = int(grade)
            except ValueError as error:
                raise ConfigError(
                    f"{file}, line {number}: expected query-id, corpus-id and a whole number, separated by "
                    "tabs. Nothing was evaluated."
                ) from error
    return {query: grades for query, grades in found.items() if max(grades.values()) > 0}
