"""A document that says other numbers than the ticket an answer quotes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from assistant.answer.disagree import otherwise, values
from assistant.answer.engine import OTHERWISE, DeskQueryEngine
from assistant.generate.echo import EchoChat
from assistant.model import Evidence, Kind, Passage
from assistant.retrieve.nodes import to_node
from assistant.text.sentences import stems

TICKET = "The client waits only 2 seconds after the last write."
DOCUMENT = "The client waits 10 seconds after the last write to a file larger than 1 GB before it uploads it."


def encode(texts: Sequence[str]) -> np.ndarray:
    """Bags of words: sentences of the same words are alike."""
    words = sorted({word for text in texts for word in stems(text)} | {"-"})
    rows = np.array([[float(word in stems(text)) for word in words] for text in texts], np.float32) + 1e-6
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def passage(number: int, text: str, kind: Kind) -> Passage:
    return Passage(
        number, number, text, f"Title {number}", "", kind, 1.0 - number / 10,
        cosine=0.9, role="agent" if kind is Kind.TICKET else "",
        evidence=Evidence.TICKET if kind is Kind.TICKET else Evidence.DOCUMENT,
    )  # fmt: skip


def test_values_are_numbers_with_units_and_settings() -> None:
    assert values("It waits 2 seconds, or 1,500 ms.") == {"second": {"2"}, "m": {"1500"}}
    assert values("Set `chunk_size = 4` in server.ini.") == {"chunk_size": {"4"}}
    assert values("Back since 15:50 UTC, on 2026-05-01, for 3 of them.") == {}


@pytest.mark.parametrize(
    ("said", "document", "disagrees"),
    [
        (TICKET, DOCUMENT, True),
        (TICKET, DOCUMENT.replace("10 seconds", "2 seconds"), False),
        (TICKET, "Uploads of a file larger than 1 GB resume 10 seconds after a lost connection.", False),
        (
            "Set keep_daily = 7 for the nightly backup.",
            "For the nightly backup keep_daily = 14 is set.",
            True,
        ),
        ("Set keep_daily = 7 for the nightly backup.", "For the nightly backup set keep_weekly = 4.", False),
        ("It takes 5 minutes.", "It takes 9 minutes.", False),
    ],
)
def test_only_other_values_of_the_same_thing_disagree(said: str, document: str, disagrees: bool) -> None:
    passages = [passage(1, said, Kind.TICKET), passage(2, document, Kind.DOCUMENT)]
    assert otherwise([(1, said)], passages, encode=encode) == ([(2, document)] if disagrees else [])


def test_two_documents_and_two_tickets_are_not_compared() -> None:
    for kind in Kind:
        passages = [passage(1, TICKET, kind), passage(2, DOCUMENT, kind)]
        assert otherwise([(1, TICKET)], passages, encode=encode) == []


def test_the_answer_says_so_and_cites_the_document() -> None:
    class Found(BaseRetriever):
        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return [to_node(passage(1, TICKET, Kind.TICKET)), to_node(passage(2, DOCUMENT, Kind.DOCUMENT))]

    engine = DeskQueryEngine(Found(), EchoChat(), encode=encode, threshold=0.0)
    answer = engine.answer("How long does the client wait only after the last write?")
    assert answer.text == f"{TICKET} [1]\n{OTHERWISE} {DOCUMENT} [2]"
    assert [(c.marker, c.quote) for c in answer.citations] == [(1, TICKET), (2, DOCUMENT)]
