"""What fits into a prompt, and follow-ups made searchable."""

from __future__ import annotations

import pytest

from assistant.answer import prompt, rewrite
from assistant.generate.echo import EchoChat
from assistant.model import Kind, Passage, Turn

COUNT = EchoChat().get_num_tokens


def passages(*sizes: int) -> list[Passage]:
    return [
        Passage(n, n, f"passage{n} " + "word " * size, f"Title {n}", "", Kind.DOCUMENT, 1.0)
        for n, size in enumerate(sizes, 1)
    ]


def total(messages):
    return sum(COUNT(message.content) for message in messages)


@pytest.mark.parametrize("limit", [400, 700, 1_500, 6_000])
def test_passages_are_dropped_from_the_last_and_the_limit_holds(limit):
    messages, kept = prompt.answering("How so?", passages(*[200] * 10), count=COUNT, limit=limit)
    assert total(messages) <= limit
    said = messages[-1].content
    assert all((f"passage{n} " in said) == (n <= kept) for n in range(1, 11))
    assert said.endswith("Question: How so?")
    if limit < 6_000:
        assert kept < 10


def test_one_passage_that_is_too_long_is_cut_not_dropped():
    messages, kept = prompt.answering("How so?", passages(5_000), count=COUNT, limit=600)
    assert kept == 1
    assert 300 < total(messages) <= 600
    assert messages[-1].content.count("</source>") == 1


def test_a_very_long_question_leaves_room_for_the_sources():
    messages, kept = prompt.answering("why " * 6_000, passages(100, 100), count=COUNT, limit=1_000)
    assert kept == 2
    assert total(messages) <= 1_000


def test_prompts_of_a_follow_up_begin_alike():
    one, _ = prompt.answering("How?", passages(50, 50), count=COUNT, limit=1_000)
    two, _ = prompt.answering("And why is that?", passages(50, 50), count=COUNT, limit=1_000)
    shared = one[-1].content.partition("Question:")[0]
    assert one[0].content == two[0].content
    assert two[-1].content.startswith(shared)


HISTORY = [
    Turn("user", "How do I compact the Inbox folder in Thunderbird?"),
    Turn("assistant", "Right-click the folder and choose Compact. [1]"),
]


@pytest.mark.parametrize(
    "question", ["And on Linux?", "Does it delete anything?", "why?", "What about IMAP accounts?"]
)
def test_an_elliptical_follow_up_carries_the_topic_over(question):
    found = rewrite.carry_over(question, HISTORY)
    assert found.startswith(question)
    assert "compact" in found
    assert "Inbox" in found


@pytest.mark.parametrize(
    "question",
    [
        "How do I add a holiday calendar to my account?",
        "Which ports does the outgoing mail server use for encryption?",
    ],
)
def test_a_question_of_its_own_is_left_alone(question):
    assert rewrite.carry_over(question, HISTORY) == question


def test_words_already_in_the_question_are_not_repeated():
    found = rewrite.carry_over("Does it compact folders?", HISTORY)
    assert found.lower().count("compact") == 1
    assert found.lower().count("folder") == 1


def test_without_a_conversation_nothing_is_added():
    assert rewrite.carry_over("why?", []) == "why?"
