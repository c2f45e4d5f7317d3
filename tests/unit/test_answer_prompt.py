"""What fits into a prompt, and follow-ups made searchable."""

from __future__ import annotations

import pytest

from assistant.answer import extract, prompt, rewrite
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


@pytest.mark.parametrize(("limit", "sources"), [(400, 3), (700, 6), (1_500, 6), (6_000, 10)])
def test_the_limit_holds_and_what_does_not_fit_whole_is_shortened(limit, sources):
    messages, shown = prompt.answering("How so?", passages(*[200] * 10), count=COUNT, limit=limit)
    assert total(messages) <= limit
    said = messages[-1].content
    assert [f"passage{n} " in said for n in range(1, 11)] == [n in dict(shown) for n in range(1, 11)]
    assert said.endswith("Question: How so?")
    assert [m for m, _ in shown] == list(range(1, sources + 1))


def test_an_excerpt_stands_around_the_sentence_that_is_nearest_to_the_question():
    filler = [f"Paragraph {n} tells of rivers, boats and the weather of that year." for n in range(40)]
    told = "The quota of a mailbox is raised in the console under Limits."
    far = Passage(1, 1, "\n\n".join(filler), "Rivers", "", Kind.DOCUMENT, 0.9)
    near = Passage(2, 2, "\n\n".join([*filler[:30], told, *filler[30:]]), "Boats", "", Kind.DOCUMENT, 0.8)
    question = "Where is the quota of a mailbox raised?"
    candidates = extract.read(question, [far, near])
    messages, shown = prompt.answering(question, [far, near], candidates, count=COUNT, limit=700)
    assert shown[0][0] == 2, "the source with the nearest sentence comes first"
    said = messages[-1].content
    assert said.index('<source number="1">\n[1] Boats') < said.index(told)
    assert filler[30] in said, "with what follows it"
    assert filler[0] not in said.partition('<source number="2">')[0]
    assert total(messages) <= 700


def test_a_prompt_with_little_room_shows_what_would_be_quoted_and_nothing_else():
    filler = [f"Paragraph {n} tells of rivers, boats and the weather of that year." for n in range(9)]
    told = "The quota of a mailbox is raised in the console under Limits."
    far = Passage(1, 1, "\n\n".join(filler), "Rivers", "", Kind.DOCUMENT, 0.9)
    near = Passage(2, 2, "\n\n".join([*filler[:5], told, *filler[5:]]), "Boats", "", Kind.DOCUMENT, 0.8)
    question = "Where is the quota of a mailbox raised?"
    candidates = extract.read(question, [far, near])
    messages, shown = prompt.answering(question, [far, near], candidates, count=COUNT, limit=420)
    quoted = extract.choose(candidates, question=question)
    assert shown == [(2, told)]
    assert [(s.marker, " ".join(s.sentences)) for s in quoted] == shown
    assert total(messages) <= 420


def test_one_passage_that_is_too_long_is_cut_not_dropped():
    messages, shown = prompt.answering("How so?", passages(5_000), count=COUNT, limit=600)
    assert [m for m, _ in shown] == [1]
    assert 300 < total(messages) <= 600
    assert messages[-1].content.count("</source>") == 1


def test_a_very_long_question_leaves_room_for_the_sources():
    messages, shown = prompt.answering("why " * 6_000, passages(100, 100), count=COUNT, limit=1_000)
    assert [m for m, _ in shown] == [1, 2]
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
