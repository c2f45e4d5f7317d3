"""A dataset's examples as what can be asked, shown and marked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from assistant.answer.prompt import DECLINED
from assistant.errors import ConfigError
from assistant.ingest.embed import Embedder
from assistant.model import Kind, Passage
from assistant.retrieve.nodes import to_node
from assistant.store import datasets
from assistant.store.datasets import Dataset, Example
from assistant.store.db import Conn

AT_ONCE = 8
"""cases that are asked together, which the local generator answers together"""
_SOURCE = re.compile(r'<source number="(\d+)">\n\[\1\] ([^\n]*)\n(.*?)\n</source>', re.DOTALL)
_QUESTION = re.compile(r"(?:\A|</source>)\n\nQuestion: ")

NO_GOLD = ("replay", "bad")
"""kinds of examples that ask nothing, or don't tell what is right"""


@dataclass(frozen=True, slots=True)
class Case:
    """An example of a part that was not trained on."""

    kind: str
    messages: tuple[tuple[str, str], ...]
    """(role, content), as the generator is asked"""
    question: str
    passages: tuple[Passage, ...]
    """the sources of the prompt: marker n is the n-th"""
    gold: str

    @property
    def answerable(self) -> bool:
        return self.gold.strip() != DECLINED


def load(
    connection: Conn, dataset: Dataset, *, part: str = "", limit: int | None = None
) -> tuple[str, list[Case]]:
    """The part's name and its cases; without a `part` the test part, or the development part where that is empty.

    `limit` draws as many, the same ones each time. Raises `ConfigError` when there are none.
    """
    for name in (part,) if part else ("test", "dev"):
        asked = (e for e in datasets.examples(connection, dataset.id, name) if e.kind not in NO_GOLD)
        found = [case(e) for e in asked]
        if found:
            return name, drawn(found, limit)
    raise ConfigError(
        f"The dataset {dataset.hash[:12]} has no examples in its part «{part or 'test'}». Nothing was evaluated; "
        "`deskhand tune datasets` shows what there is."
    )


def drawn(found: list[Case], limit: int | None) -> list[Case]:
    """At most `limit` of them, by a lot that their texts draw; in their order."""
    if limit is None or limit >= len(found):
        return found
    lots = sorted(hashlib.sha256(repr(one.messages).encode()).hexdigest() for one in found)[:limit]
    chosen = set(lots)
    return [one for one in found if hashlib.sha256(repr(one.messages).encode()).hexdigest() in chosen]


def case(example: Example) -> Case:
    """What an example asks, taken apart again: the reverse of `assistant.answer.prompt.answering`."""
    asked = example.prompt[-1]["content"]
    passages = [
        Passage(number, number, text, title, "", Kind.DOCUMENT, 1.0, external_id=str(number))
        for number, (_, title, text) in enumerate(_SOURCE.findall(asked), 1)
    ]
    return Case(
        example.kind,
        tuple((message["role"], message["content"]) for message in example.prompt),
        _QUESTION.split(asked)[-1],
        tuple(passages),
        example.completion,
    )


def scored(found: Case, embedder: Embedder) -> tuple[Passage, ...]:
    """Its passages with their likeness to the question, which decides whether it is answered at all."""
    texts = [f"{passage.title}\n{passage.text}" for passage in found.passages]
    if not texts:
        return ()
    cosines = np.asarray(embedder.encode(texts) @ embedder.encode_query(found.question), float)
    return tuple(
        replace(passage, cosine=float(cosine), score=float(cosine))
        for passage, cosine in zip(found.passages, cosines, strict=True)
    )


class Given(BaseRetriever):
    """Finds what it was given, whatever is asked."""

    def __init__(self, passages: Sequence[Passage], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._passages = passages

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [to_node(passage) for passage in self._passages]


def by_kind(found: Iterable[Case]) -> list[str]:
    return sorted({one.kind for one in found})
