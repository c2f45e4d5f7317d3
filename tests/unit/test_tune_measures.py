"""What is measured of a tuned generator: each mark on texts whose mark is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assistant.answer import prompt
from assistant.evaluate.statistics import Estimate, balanced
from assistant.generate.local import LocalChat
from assistant.model import Answer, Kind, Passage
from assistant.store.datasets import Example
from assistant.tune import evaluate, perplexity, promote, tone
from assistant.tune.cases import Case, case, drawn
from assistant.tune.evaluate import Reply, marked, well_formed
from tests import tiny

COMPACT = "Right-click the folder and choose Compact. It never touches messages you kept."
CALENDAR = "Open the calendar and choose Share.\n\nEnter an address."


def passage(number: int, text: str, title: str) -> Passage:
    return Passage(number, number, text, title, "", Kind.DOCUMENT, 1.0)


PASSAGES = (passage(1, COMPACT, "Compacting <b>folders</b>"), passage(2, CALENDAR, "Sharing [3] a calendar"))


def made(gold: str, question: str = "How do I compact a folder?\n\nQuestion: really?") -> Case:
    messages, _ = prompt.answering(question, PASSAGES, count=lambda text: len(text.split()), limit=2_000)
    said = tuple({"role": m.role.value, "content": m.content or ""} for m in messages)
    return case(Example("answer", "desk", said, gold))


def shown(text: str, refusal: str = "") -> Answer:
    return Answer(text, (), 1.0, refusal=refusal)


GOLD = made("Right-click the folder and choose Compact. [1]")
NONE = made(prompt.DECLINED)


def test_a_prompt_is_taken_apart_into_what_it_was_made_of() -> None:
    assert GOLD.question == "How do I compact a folder?\n\nQuestion: really?"
    assert [p.text for p in GOLD.passages] == [COMPACT, CALENDAR]
    assert [p.title for p in GOLD.passages] == ["Compacting folders", "Sharing (3) a calendar"]
    assert [role for role, _ in GOLD.messages] == ["system", "user"]
    assert GOLD.answerable
    assert not NONE.answerable
    assert not made(prompt.DECLINED, "?").passages[2:]


def test_a_prompt_without_sources_has_its_question() -> None:
    messages, _ = prompt.answering("Why?", (), count=len, limit=2_000)
    found = case(
        Example("decline", "", tuple({"role": "user", "content": m.content or ""} for m in messages), "")
    )
    assert (found.question, found.passages) == ("Why?", ())


def test_drawing_is_repeatable_and_keeps_the_order() -> None:
    cases = [made("", f"Question number {number}?") for number in range(30)]
    first = drawn(cases, 7)
    assert len(first) == 7
    assert first == drawn(list(reversed(cases)), 7)[::-1]
    assert [cases.index(one) for one in first] == sorted(cases.index(one) for one in first)
    assert drawn(cases, 99) is cases


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("Choose Compact. [1]", True),
        ("Choose Compact. [1]\nOpen the calendar. [2]", True),
        ("Choose Compact. [1][2]", True),
        (prompt.DECLINED, True),
        (f" {prompt.DECLINED}\n", True),
        (f"{prompt.DECLINED}.", False),
        (f"Choose Compact. [1] {prompt.DECLINED}", False),
        ("Choose Compact.", False),
        ("Choose Compact. [1] And so on.", False),
        ("Choose Compact. [3]", False),
        ("Choose Compact. [0]", False),
        ("[1]", False),
        ("", False),
    ],
)
def test_the_format(text: str, good: bool) -> None:
    assert well_formed(text, 2) is good


def test_a_right_answer() -> None:
    text = "Right-click the folder and choose Compact. [1]"
    assert marked(GOLD, text, shown(text)) == {
        "format": 1,
        "grounded": 1,
        "declined_answerable": 0,
        "shown_declined_answerable": 0,
        "exact_match": 1,
        "f1": 1,
        "rouge_l": 1,
        "shown_f1": 1,
        "citation_precision": 1,
        "citation_recall": 1,
        "length_ratio": 1,
    }


def test_a_right_answer_with_a_wrong_source() -> None:
    found = marked(GOLD, "Right-click the folder and choose Compact. [2]", shown("", refusal="nothing held"))
    assert (found["f1"], found["citation_precision"], found["grounded"]) == (1, 0, 0)
    assert (found["shown_f1"], found["shown_declined_answerable"], found["declined_answerable"]) == (0, 1, 0)


def test_what_is_declined() -> None:
    assert marked(NONE, prompt.DECLINED, shown("", refusal="not there")) == {
        "format": 1,
        "declined_unanswerable": 1,
        "shown_declined_unanswerable": 1,
    }
    falsely = marked(GOLD, prompt.DECLINED, shown("", refusal="not there"))
    assert (falsely["f1"], falsely["declined_answerable"]) == (0, 1)
    assert "citation_precision" not in falsely
    made_up = marked(NONE, "The moon does it. [1]", shown("", refusal="nothing held"))
    assert (made_up["declined_unanswerable"], made_up["shown_declined_unanswerable"]) == (0, 1)
    assert made_up["grounded"] == 0


# ── the score, and what beats what ───────────────────────────────────────────


def reply(found: Case, score: float) -> Reply:
    mark = "shown_f1" if found.answerable else "shown_declined_unanswerable"
    return Reply(found, "", shown(""), 0.1, 0.2, {mark: score})


def test_each_class_counts_one_half_of_the_score_however_many_there_are() -> None:
    replies = [reply(GOLD, 0.5)] * 30 + [reply(NONE, 1.0)] * 3
    assert evaluate.summary(replies)["score"].value == pytest.approx(0.75)
    assert "score" not in evaluate.summary([reply(GOLD, 0.5)] * 3)


def test_a_paired_gain_is_surer_than_the_scores_are() -> None:
    chance = np.random.default_rng(3)
    hard = chance.random(60)
    now = [reply(GOLD, float(s)) for s in hard] + [reply(NONE, 1.0)] * 30
    better = [reply(GOLD, float(s) + 0.05) for s in hard] + [reply(NONE, 1.0)] * 30
    gain = promote.compare(better, now)
    assert gain is not None
    assert gain.value == pytest.approx(0.025)
    assert 0 < gain.low <= gain.high
    score = balanced(evaluate.score_parts(now))
    assert score is not None
    assert score.high - score.low > 5 * (gain.high - gain.low)
    even = promote.compare(now, now)
    assert even is not None
    assert (even.low, even.high) == (0, 0)
    assert promote.compare([reply(GOLD, 1.0)], [reply(GOLD, 0.0)]) is None


def estimates(**values: float) -> dict[str, Estimate]:
    return {name: Estimate(value, value, value, 50) for name, value in values.items()}


GAIN = Estimate(0.05, 0.02, 0.08, 90)
AS_GOOD = estimates(
    shown_declined_answerable=0.05, format=0.99, grounded=0.97, citation_precision=0.8, seconds_total_p50=2.0
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"shown_declined_answerable": 0.10}, ""),
        (
            {"shown_declined_answerable": 0.12},
            "declines what the sources answer: 0.120, what answers now 0.050",
        ),
        ({"format": 0.98}, ""),
        ({"format": 0.96}, "keeps the format"),
        ({"grounded": 0.9}, "borne out"),
        ({"citation_precision": 0.7}, "right source"),
        ({"seconds_total_p50": 2.9}, ""),
        ({"seconds_total_p50": 3.1}, "seconds"),
        ({"perplexity": 20.9}, ""),
        ({"perplexity": 21.1}, "perplexity on general text: 21.100, the untrained model 20.000"),
    ],
)
def test_a_candidate_that_is_worse_in_one_thing_is_rejected_for_it(
    change: dict[str, float], reason: str
) -> None:
    found = promote.judge(GAIN, AS_GOOD | estimates(**change), AS_GOOD, estimates(perplexity=20.0))
    assert len(found) == bool(reason)
    assert reason in "".join(found)


def test_what_takes_half_a_second_is_fast_enough_whatever_it_is_compared_with() -> None:
    now = AS_GOOD | estimates(seconds_total_p50=0.1)
    assert not promote.judge(GAIN, now | estimates(seconds_total_p50=0.5), now, {})
    assert promote.judge(GAIN, now | estimates(seconds_total_p50=0.6), now, {})


def test_a_gain_that_may_be_none_is_not_enough() -> None:
    unsure = replace(GAIN, low=-0.01)
    assert "not surely better" in promote.judge(unsure, AS_GOOD, AS_GOOD, {})[0]


# ── tone ─────────────────────────────────────────────────────────────────────


def test_the_same_texts_have_the_same_tone_and_others_another() -> None:
    agents = [
        "Please restart it, and you should be able to log in.",
        "I hope this helps you. We will look into it.",
    ]
    manual = [
        "The server is to be restarted by the administrator.",
        "It was configured in the file of the user.",
    ]
    assert tone.distance(tone.counts(agents), tone.counts(agents)) == 0
    assert tone.distance(tone.counts(agents), tone.counts(manual)) > 0.5
    assert tone.distance(tone.counts(agents), tone.counts(["xyz"])) == 1
    found = tone.compare(agents * 20, agents * 20)
    assert found["tone_distance"].value == 0
    other = tone.compare(manual * 20, agents * 20)["tone_distance"]
    assert other.low <= other.value <= other.high
    assert tone.compare(agents[:1], agents[:1]) == {}


# ── forgetting ───────────────────────────────────────────────────────────────


def test_perplexity_is_what_torch_says_it_is(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra [tune] is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra [tune] is not installed")
    gguf = tiny.write_gguf(tmp_path / "tiny.gguf")
    text = "The tone of the other one in there is on it. " * 60
    found = perplexity.perplexity(LocalChat(gguf=gguf), text, lambda *_: None)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=gguf.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=gguf.name).eval()
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids[0]
    losses = []
    with torch.inference_mode():
        for start in range(0, len(ids) - perplexity.WINDOW, perplexity.WINDOW):
            window = ids[start : start + perplexity.WINDOW + 1][None]
            logits = model(window[:, :-1]).logits
            losses.append(torch.nn.functional.cross_entropy(logits[0], window[0, 1:]).item())
    assert found.count == len(losses)
    assert found.value == pytest.approx(float(np.exp(np.mean(losses))), rel=0.02)
    assert found.low <= found.value <= found.high
