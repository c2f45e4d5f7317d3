"""Slack's markup, read and written: what a source says stays text, within Slack's limits."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.model import Answer, Citation, Kind, Passage
from assistant.store.slack import Channel
from assistant.surfaces.slack import blocks, text
from assistant.surfaces.slack.blocks import CHANNEL, PERSON, Of
from tests.servers.slack_api import check_blocks

HOSTILE = "<!channel> <@U1> <https://evil.example|our bank> @here *bold* ```\ncode\n``` [a](https://evil.example) & <"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("<@U0BOT> which port?", "which port?"),
        ("see <https://desk.example/t/1>", "see https://desk.example/t/1"),
        ("see <https://desk.example/t/1|desk.example/t/1>", "see https://desk.example/t/1"),
        ("<https://desk.example/t/1|this one>", "this one https://desk.example/t/1"),
        ("<mailto:ana@x.example|ana@x.example> in <#C1|general>", "ana@x.example in #general"),
        ("<!here> a &lt;b&gt; &amp; c <@U2|lee>", "a <b> & c @lee"),
    ],
)
def test_what_somebody_wrote(written: str, read: str) -> None:
    assert text.plain(written, bot="U0BOT") == read


def test_hostile_text_is_shown_and_does_nothing() -> None:
    for said in (text.mrkdwn(HOSTILE), text.markdown(HOSTILE), text.escape(HOSTILE)):
        assert "<!" not in said
        assert "<@" not in said
        assert "@here" not in said
    assert "](https" not in text.markdown(HOSTILE), "no words that lead elsewhere"
    assert "<https://evil.example|" not in text.mrkdwn(HOSTILE)


def test_addresses_are_links_and_dashes_bullets() -> None:
    said = text.mrkdwn("- see https://a.example/b?c=1&d=2, or javascript:alert(1)\n- b")
    assert said == "• see <https://a.example/b?c=1&amp;d=2>, or javascript:alert(1)\n• b"
    assert text.link("A | B > C", "https://a.example") == "<https://a.example|A ¦ B &gt; C>"
    assert text.link("A", "javascript:alert(1)") == "A"


@given(st.text(max_size=9_000))
def test_pieces_fit_and_lose_no_word(said: str) -> None:
    pieces = text.split(said)
    assert all(0 < len(text.mrkdwn(piece)) <= text.SECTION for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(said.split())


def test_long_code_is_a_snippet_and_grows_whole() -> None:
    said = "Set this:\n```\n" + "x = 1\n" * 500 + "```\nand restart."
    shown, code = text.snippets(said)
    assert shown == "Set this:\n(code: snippet 1)\nand restart."
    assert code[0].count("x = 1") == 500
    grown = [text.growing(said[:end]) for end in range(0, len(said), 50)]
    for before, after in pairwise(grown):
        assert after.startswith(before), "what was once shown stays"


def passage(number: int) -> Passage:
    return Passage(
        number, number, "text", f"Title {number} <!channel>", "https://a.example/1", Kind.DOCUMENT, 1.0,
        created_at=dt.datetime(2026, 5, 1, tzinfo=dt.UTC), page=3,
    )  # fmt: skip


def answer(sources: int = 1, said: str = "Yes. [1]") -> Answer:
    cited = tuple(Citation(n, passage(n), "Yes.", (0, 8)) for n in range(1, sources + 1))
    return Answer(said, cited, 0.75)


def test_a_source_is_a_row_with_kind_title_date_and_link() -> None:
    (row, sure, buttons) = blocks.tail(answer(), Of(PERSON, 7))
    assert row["elements"][0]["text"] == (
        "*[1]* document · <https://a.example/1|Title 1 &lt;!channel&gt;> · page 3 · 2026-05-01"
    )
    assert sure["elements"][0]["text"] == "How sure: sure"
    assert {one["value"] for one in buttons["elements"]} == {"p:7"}


@pytest.mark.parametrize("length", [0, 10, 2_900, 3_100, 9_999, 40_000])
@pytest.mark.parametrize("sources", [0, 1, 30])
def test_an_answer_of_any_size_fits(length: int, sources: int) -> None:
    said = ("word & <tag> " * (length // 13 + 1))[:length]
    pages = blocks.pages(said, blocks.tail(answer(sources), Of(CHANNEL, 1), ticket="t" * 5_000))
    for notification, made in pages:
        check_blocks(made, 50)
        assert len(notification) <= 4_000
    assert sum(block["type"] == "actions" for _, made in pages for block in made) == 1
    assert pages[-1][1][-1]["type"] == "actions"


def test_a_retry_carries_the_question_or_is_not_there() -> None:
    (row,) = blocks.retry("Which «port»?", private=True)
    assert "Which «port»?" in row["elements"][0]["value"]
    assert blocks.retry("x" * 2_000, private=False) == []


@pytest.mark.parametrize(
    ("begins", "ends", "at", "quiet"),
    [
        (None, None, "12:00", False),
        ("09:00", "17:00", "12:00", True),
        ("09:00", "17:00", "17:00", False),
        ("22:00", "07:00", "23:30", True),
        ("22:00", "07:00", "06:59", True),
        ("22:00", "07:00", "12:00", False),
    ],
)
def test_quiet_hours(begins: str | None, ends: str | None, at: str, quiet: bool) -> None:
    made = Channel(
        "T", "C",
        quiet_from=dt.time.fromisoformat(begins) if begins else None,
        quiet_to=dt.time.fromisoformat(ends) if ends else None,
    )  # fmt: skip
    now = dt.datetime.fromisoformat(f"2026-05-01T{at}+00:00")
    assert made.quiet(now) is quiet


def test_quiet_hours_are_those_of_the_zone() -> None:
    made = Channel("T", "C", quiet_from=dt.time(22), quiet_to=dt.time(7), zone="Asia/Tokyo")
    assert made.quiet(dt.datetime(2026, 5, 1, 14, tzinfo=dt.UTC)) is True
