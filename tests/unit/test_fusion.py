"""Fusion and what follows it: properties that hold for any scores."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.model import Kind, Passage
from assistant.retrieve import fusion
from assistant.retrieve.hybrid import distinct
from assistant.store.search import Candidate


def candidate(chunk: int, document: int, cosine: float, bm25: float = 0.0, **more: object) -> Candidate:
    values = {"title_cosine": 0.0, "alone": False, **more}
    return Candidate(chunk_id=chunk, document_id=document, cosine=cosine, bm25=bm25, **values)


candidates = st.lists(
    st.builds(
        candidate,
        st.integers(1, 500),
        st.integers(1, 20),
        st.floats(-1, 1),
        st.floats(0, 50),
    ),
    max_size=40,
    unique_by=lambda c: c.chunk_id,
)


@settings(max_examples=50, deadline=None)
@given(candidates, st.floats(0, 60))
def test_every_document_comes_once_and_in_order(found: list[Candidate], mass: float) -> None:
    ranked = fusion.fuse(found, idf_mass=mass, k1=0.9)
    assert {r.document_id for r in ranked} == {c.document_id for c in found}
    assert len(ranked) == len({c.document_id for c in found})
    assert [r.score for r in ranked] == sorted((r.score for r in ranked), reverse=True)
    assert sum(len(r.candidates) for r in ranked) == len(found)


@settings(max_examples=50, deadline=None)
@given(candidates, st.randoms())
def test_the_order_of_candidates_does_not_matter(found: list[Candidate], chance: object) -> None:
    shuffled = list(found)
    chance.shuffle(shuffled)
    one, two = (fusion.fuse(c, idf_mass=10, k1=0.9) for c in (found, shuffled))
    assert [r.document_id for r in one] == [r.document_id for r in two]


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1000), st.floats(0, 100))
def test_coverage_is_a_share(bm25: float, mass: float) -> None:
    assert 0 <= fusion.coverage(bm25, idf_mass=mass, k1=0.9) <= 1


def test_words_decide_where_meaning_is_undecided_and_not_where_it_is() -> None:
    flat, steep = [0.5, 0.5, 0.5, 0.5], [0.9, 0.6, 0.3, 0.1]
    assert fusion.lexical_weight(flat) == fusion.MOST
    assert fusion.lexical_weight(steep) < 0.1


def passage(chunk: int, text: str) -> Passage:
    return Passage(chunk, chunk, text, "Title", "", Kind.DOCUMENT, 1.0 / chunk)


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["the port is 7420 since 5.0", "the port is 7420 since 5.0"], [1]),
        (["The  port is 7420 SINCE 5.0", "the port is 7420 since 5.0"], [1]),
        (["the port is 7420", "the port was 7400 before version five"], [1, 2]),
        ([], []),
    ],
)
def test_near_duplicates_are_shown_once(texts: list[str], kept: list[int]) -> None:
    found = [passage(number, text) for number, text in enumerate(texts, 1)]
    assert [p.chunk_id for p in distinct(found)] == kept


def test_tickets_trade_places_among_themselves_and_documents_keep_theirs() -> None:
    ranked = [fusion.Ranked(number, 1.0 - number / 100, ()) for number in range(6)]
    tickets = {1: (False, 900.0), 3: (True, 900.0), 4: (True, 1.0)}
    found = fusion.traded(ranked, tickets)
    assert [one.document_id for one in found] == [0, 4, 2, 3, 1, 5]
    assert [one.score for one in found] == [one.score for one in ranked], "scores belong to places"


def test_a_much_likelier_ticket_stays_before_a_solved_one() -> None:
    ranked = [fusion.Ranked(1, 0.9, ()), fusion.Ranked(2, 0.6, ())]
    assert [one.document_id for one in fusion.traded(ranked, {1: (False, 900.0), 2: (True, 0.0)})] == [1, 2]
