"""Questions and the documents that answer them, as the desk's own agents said it: by links in their replies.

A link to a document says that it answers the ticket; one to an earlier ticket that both are about
the same, and so does a relation that the ticket system knows. Personal data stay in: texts are used
in memory alone, and what is kept is weights that turn a text into 384 numbers. These tell how alike texts
are, not what they say; who wants to be sure trains after an erasure, not before.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from assistant.errors import ConfigError
from assistant.evaluate import beir
from assistant.store import pairs
from assistant.store.db import Conn

FEWEST = 60
"""with fewer questions nothing is learnt that could be told from chance"""
HELD_OUT, STOPPING = 0.10, 0.05
"""shares of the questions, the latest: to decide about a promotion by, and, before these, to stop training by"""
WORDS = 120
"""of a question: long tickets lose little when they are cut here, and cost little"""

_LINK = re.compile(r"https?://[^\s<>()\[\]\"'`|]+")
_LOCALE = re.compile(r"(?:en|de|fr|es|it|pt|nl|pl|ru|ja|ko|zh|sv|da|fi|cs|hu|tr|uk)(?:[-_][a-z]{2,4})?")
_NUMBERED = re.compile(r"(\d{4,})-.*")


@dataclass(frozen=True, slots=True)
class Question:
    """A text that somebody asked, and the ids of the documents that answer it."""

    text: str
    relevant: frozenset[int]
    at: dt.datetime | None = None
    customer: int | None = None
    document: int = 0
    """id of the ticket that it is of, if it is of one that is stored"""


@dataclass(frozen=True, slots=True)
class Parts:
    """Questions by what they are for. No customer and no moment is in two of them."""

    train: tuple[Question, ...]
    stopping: tuple[Question, ...]
    held_out: tuple[Question, ...]


def of_desk(connection: Conn) -> list[Question]:
    """The desk's tickets whose agents linked to something that the store has, the oldest first."""
    known: defaultdict[str, list[int]] = defaultdict(list)
    tickets: dict[int, dt.datetime | None] = {}
    for row in pairs.addressed(connection):
        known[address(row["url"])].append(row["id"])
        if row["kind"] == "ticket":
            tickets[row["id"]] = row["created_at"]
    relevant: defaultdict[int, set[int]] = defaultdict(set)
    for row in pairs.linking(connection):
        for link in _LINK.findall(row["text"]):
            relevant[row["document_id"]].update(known.get(address(link), ()))
    for row in pairs.related(connection):
        relevant[row["id"]].add(row["other"])
    found: list[Question] = []
    for row in pairs.asked(connection, [ticket for ticket, documents in relevant.items() if documents]):
        earlier = {
            d for d in relevant[row["id"]] if d not in tickets or _before(tickets[d], row["created_at"])
        }
        if earlier - {row["id"]}:
            text = cut(f"{row['title']}\n{row['text'] or ''}")
            found.append(
                Question(
                    text, frozenset(earlier - {row["id"]}), row["created_at"], row["customer_id"], row["id"]
                )
            )
    return found


def of_folder(connection: Conn, folder: Path, *, split: str = "train") -> list[Question]:
    """The questions of a set in BEIR's layout whose corpus is all that the store has."""
    task = beir.task(folder, split=split)
    names = {name for grades in task.relevant.values() for name in grades} | task.relevant.keys()
    ids = pairs.ids(connection, sorted(names))
    found: list[Question] = []
    for query in task.queries:
        relevant = {ids[name] for name, grade in task.relevant[query.id].items() if grade > 0 and name in ids}
        own = ids.get(query.id, 0)
        if relevant - {own}:
            moment = beir.moment(query.metadata.get("created"))
            found.append(Question(cut(query.text), frozenset(relevant - {own}), moment, None, own))
    return found


def parts(questions: Iterable[Question]) -> Parts:
    """The latest for measuring, and whoever asked these out of the others. Raises `ConfigError` for too few."""
    ordered = sorted(questions, key=lambda q: (q.at or dt.datetime.min.replace(tzinfo=dt.UTC), q.text))
    if len(ordered) < FEWEST:
        raise ConfigError(
            f"Only {len(ordered)} questions are linked to a document or an earlier ticket that is stored here, and "
            f"training needs {FEWEST} at least. Nothing was changed. Sync more tickets, and the documents that "
            "agents link to from where the links lead; or give a folder with --pairs."
        )
    first, last = round((1 - HELD_OUT - STOPPING) * len(ordered)), round((1 - HELD_OUT) * len(ordered))
    held_out = tuple(ordered[last:])
    stopping = _without(ordered[first:last], held_out)
    return Parts(_without(ordered[:first], (*stopping, *held_out)), stopping, held_out)


def address(url: str) -> str:
    """An address in a form that is equal for links to one page: no scheme, language, title, query or fragment."""
    split = urlsplit(url.rstrip(".,;:!?*_"))
    segments = [part for part in split.path.split("/") if part and not _LOCALE.fullmatch(part.lower())]
    return "/".join([split.netloc.lower().removeprefix("www."), *(_NUMBERED.sub(r"\1", s) for s in segments)])


def cut(text: str) -> str:
    """The first WORDS words; line breaks stay, which part a subject from its text."""
    found = list(re.finditer(r"\S+", text))
    return text.strip() if len(found) <= WORDS else text[: found[WORDS - 1].end()].strip()


def _before(one: dt.datetime | None, other: dt.datetime | None) -> bool:
    return one is not None and other is not None and one < other


def _without(questions: Sequence[Question], others: Sequence[Question]) -> tuple[Question, ...]:
    customers = {q.customer for q in others} - {None}
    texts = {q.text for q in others}
    return tuple(q for q in questions if q.customer not in customers and q.text not in texts)
