"""Confidence rises with what it should rise with, and quotes are chosen from the right place."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from assistant.answer import abstain, cite, extract
from assistant.model import Kind, Passage


def passage(text: str, cosine: float) -> Passage:
    return Passage(1, 1, text, "Title", "", Kind.DOCUMENT, cosine, cosine=cosine)


def words(texts):
    """A bag-of-words embedding: real vectors, no model."""
    rows = np.zeros((len(texts), 512), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()):
            row[sum(map(ord, word)) % 512] += 1
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def sure(question: str, cosine: float) -> float:
    passages = [passage("Compacting a folder frees disk space at once.", cosine)]
    return abstain.confidence(abstain.features(question, passages, extract.read(question, passages)))


def test_confidence_is_a_probability_that_grows_with_similarity():
    values = [sure("How do I compact a folder?", cosine) for cosine in (-0.2, 0.1, 0.3, 0.5, 0.7, 0.9)]
    assert values == sorted(values)
    assert values[0] < 0.02
    assert values[-1] > 0.95
    assert all(0 < value < 1 for value in values)


def test_a_long_ticket_is_forgiven_a_lower_similarity():
    ticket = "My folders grow and the disk fills although mails were deleted weeks ago, compacting was never run here."
    assert sure(ticket, 0.5) > sure("How do I compact a folder?", 0.5)


def test_a_passage_without_a_sentence_still_has_features():
    found = abstain.features("anything", [passage("Heading", 0.4)], [])
    assert found.sentence == pytest.approx(0.4)


TEXT = (
    "Calendars can be shared with colleagues. Ask the administrator for the address.\n\n"
    "Junk mail is moved to the junk folder by the filter. The filter learns from what you mark.\n\n"
    "Steps to train the junk filter:\n\n- Open the message.\n- Click on Junk.\n- Repeat this daily.\n\n"
    "Contact support for anything else."
)


def chosen(question: str) -> list[str]:
    candidates = extract.read(question, [passage(TEXT, 0.6)], encode=words)
    return [sentence for stretch in extract.choose(candidates) for sentence in stretch.sentences]


def test_the_sentence_that_answers_is_quoted_word_for_word():
    found = chosen("Where is junk mail moved by the filter?")
    assert found[0] == "Junk mail is moved to the junk folder by the filter."
    assert all(sentence in TEXT for sentence in found)
    assert not any("Calendars" in sentence for sentence in found)


def test_a_list_is_quoted_whole_with_the_line_before_it():
    found = chosen("How do I train the junk filter, what are the steps?")
    assert found[:4] == [
        "Steps to train the junk filter:", "- Open the message.", "- Click on Junk.", "- Repeat this daily.",
    ]  # fmt: skip


def test_headings_and_questions_are_not_quoted():
    question = "How does the junk filter learn from mail?"
    text = f"Junk filter overview\n\n{question}\n\nThe junk filter learns from what you mark."
    candidates = extract.read(question, [passage(text, 0.6)], encode=words)
    (stretch,) = extract.choose(candidates)
    assert stretch.sentences == ("The junk filter learns from what you mark.",)


def test_a_very_long_list_is_cut_around_the_best_step():
    text = "Do this:\n\n" + "\n".join(f"{n}. Press button number {n} twice." for n in range(1, 60))
    candidates = extract.read("When do I press button number 30?", [passage(text, 0.6)], encode=words)
    stretch = extract.choose(candidates)[0]
    assert len(stretch.sentences) <= extract.STEPS + 1
    assert sum(map(len, stretch.sentences)) <= extract.LENGTH


def test_what_an_agent_wrote_is_quoted_before_what_the_customer_asked():
    asked = Passage(1, 1, "The junk filter moves all my mail, please help.", "T", "", Kind.TICKET, 0.7, cosine=0.7,
                    role="customer")  # fmt: skip
    told = Passage(2, 1, "Reset the junk filter so mail stays in place.", "T", "", Kind.TICKET, 0.6, cosine=0.65,
                   role="agent")  # fmt: skip
    stretch = extract.choose(extract.read("The junk filter moves all my mail", [asked, told]))[0]
    assert stretch.marker == 2


def test_nothing_to_quote():
    assert extract.choose(extract.read("anything", [passage("Heading", 0.4)])) == []


PORTS = (
    "| Port | Protocol | Used for |\n| ---- | -------- | -------- |\n| 8443 | tcp | Web console |\n"
    "| 7420 | tcp | Sync protocol (TLS 1.3) |\n| 7421 | udp | Discovery |\n\n"
    "Version 4 used port 7400 for the sync protocol. Since 5.0 the default is 7420."
)


def test_a_row_of_a_table_is_quoted_with_its_columns_named_and_cited_as_it_stands():
    candidates = extract.read(
        "Which port is used for the sync protocol?", [passage(PORTS, 0.6)], encode=words
    )
    stretches = extract.choose(candidates)
    row = next(s for s in stretches if s.quotes[0].startswith("|"))
    assert row.sentences == ("Port: 7420; Protocol: tcp; Used for: Sync protocol (TLS 1.3)",)
    assert row.quotes == ("| 7420 | tcp | Sync protocol (TLS 1.3) |",)
    assert cite.support(row.sentences[0], cite.Source(PORTS)).holds


def test_the_sentence_that_completes_another_is_quoted_with_it():
    candidates = extract.read("Which sync protocol port since 5.0?", [passage(PORTS, 0.6)], encode=words)
    said = [sentence for stretch in extract.choose(candidates) for sentence in stretch.sentences]
    assert "Since 5.0 the default is 7420." in said


def test_the_version_that_was_asked_about_wins():
    texts = ["In 4.2 the minimum is PostgreSQL 13.", "In 5.2 the minimum is PostgreSQL 15."]
    found = extract.read("What is the minimum PostgreSQL for 5.2?", [passage(t, 0.6) for t in texts])
    assert extract.choose(found)[0].marker == 2


def test_the_command_after_a_colon_comes_along():
    text = (
        "Release the lock of a disabled user on the server:\n\nfhsctl lock release --user NAME --all\n\nDone."
    )
    stretch = extract.choose(
        extract.read("How is the lock of a disabled user released?", [passage(text, 0.6)])
    )[0]
    assert "fhsctl lock release --user NAME --all" in stretch.sentences


@pytest.mark.parametrize(
    "line", ["Hi Ginny, about the junk filter", "2026-01-15 13:58:40 junk filter: filter moved junk mail to junk.",
             "Subject: junk filter moves junk mail of the filter", "Does the junk filter move junk mail?"],
)  # fmt: skip
def test_greetings_logs_and_headers_are_not_answers(line):
    text = f"{line}\n\nThe filter moves junk."
    found = extract.read("Where does the junk filter move junk mail?", [passage(text, 0.6)])
    assert [candidate.sentence.text for candidate in found] == ["The filter moves junk."]


def test_an_answer_stays_short():
    text = "\n\n".join(f"Junk filter rule {n} moves mail {'that was marked ' * 12}to junk." for n in range(9))
    stretches = extract.choose(extract.read("Where does the junk filter move mail?", [passage(text, 0.6)]))
    assert sum(len(s.split()) for stretch in stretches for s in stretch.sentences) <= extract.WORDS


def test_how_sure_to_be_grows_with_the_word_and_is_a_share_of_per_cent():
    words = [abstain.threshold(word) for word in abstain.WORDS]
    assert words == sorted(words)
    assert words[0] == abstain.THRESHOLD
    assert abstain.threshold("90 %") == abstain.threshold("90%") == abstain.threshold("90") == 0.9


def test_evidence_moves_a_confidence_by_its_log_likelihood_ratio():
    assert abstain.moved(0.5, math.log(4)) == pytest.approx(0.8)
    assert abstain.moved(0.8, -math.log(4)) == pytest.approx(0.5)
    assert abstain.moved(0.3, 0) == pytest.approx(0.3)
    assert abstain.moved(0.99, -math.inf) == 0
