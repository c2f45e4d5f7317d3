"""Where a quote stands in a text that has Markdown in it."""

from __future__ import annotations

import pytest

from assistant.surfaces.api.shapes import _spans, sure


@pytest.mark.parametrize(
    ("text", "quote", "found"),
    [
        ("Version 4 used port **7400**. More.", "Version 4 used port 7400.", "Version 4 used port **7400"),
        ("The `sync_host`\nis set so.", "The sync_host is set so.", "The `sync_host`\nis set so"),
        ("| Port | 7400 |", "Port: 7400", ""),
        ("Ä ö 4.2, then.", "4.2, then", "4.2, then"),
        ("Nothing of it.", "…", ""),
        ("(a+b)* is c", "(a+b)* is c", "a+b)* is c"),
    ],
)
def test_a_quote_is_found_between_the_marks_of_markdown(text: str, quote: str, found: str) -> None:
    spans = _spans(text, [quote])
    assert [text[s["start"] : s["end"]] for s in spans] == ([found] if found else [])


def test_quotes_do_not_overlap_and_stand_in_order() -> None:
    spans = _spans("One two. Three four. Two.", ["Three four.", "One two.", "two. Three"])
    assert spans == [{"start": 0, "end": 7}, {"start": 9, "end": 19}]


def test_a_long_text_without_the_quote_is_looked_through_fast() -> None:
    assert _spans("* " * 50_000, ["* " * 300 + "x"]) == []


@pytest.mark.parametrize(
    ("confidence", "word"),
    [(None, "unsure"), (0.1, "unsure"), (0.5, "likely"), (0.7, "sure"), (0.95, "very sure")],
)
def test_how_sure_it_is_in_words(confidence: float | None, word: str) -> None:
    assert sure(confidence) == word
