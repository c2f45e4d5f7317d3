from __future__ import annotations

import math

import pytest

from assistant.answer import abstain
from assistant.generate.base import Trust
from assistant.tune.trust import LARGEST, Heard, fitted


def heard(confidence: float, *, answerable: tuple[int, int], unanswerable: tuple[int, int]) -> list[Heard]:
    """Counts of (answered, declined) of each class."""
    return [
        Heard(confidence, answered, truth)
        for truth, counts in ((True, answerable), (False, unanswerable))
        for answered, count in zip((True, False), counts, strict=True)
        for _ in range(count)
    ]


def test_shifts_are_log_likelihood_ratios_where_retrieval_tells_nothing() -> None:
    found = fitted(heard(0.5, answerable=(900, 100), unanswerable=(300, 700)))
    assert found.answers == pytest.approx(math.log(0.9 / 0.3), abs=0.02)
    assert found.declines == pytest.approx(math.log(0.1 / 0.7), abs=0.02)


def test_the_mix_of_the_questions_does_not_matter() -> None:
    many = fitted(heard(0.5, answerable=(900, 100), unanswerable=(300, 700)))
    few = fitted(heard(0.5, answerable=(900, 100), unanswerable=(30, 70)))
    assert few.answers == pytest.approx(many.answers, abs=0.05)
    assert few.declines == pytest.approx(many.declines, abs=0.05)


def test_what_retrieval_knew_already_adds_nothing() -> None:
    """A generator that answers just what retrieval is sure of."""
    found = heard(0.8, answerable=(800, 0), unanswerable=(200, 0)) + heard(
        0.2, answerable=(0, 200), unanswerable=(0, 800)
    )
    trust = fitted(found)
    assert trust.answers == pytest.approx(0, abs=0.02)
    assert trust.declines == pytest.approx(0, abs=0.02)


def test_of_what_was_moved_the_share_that_is_true_is_the_confidence() -> None:
    found = heard(0.6, answerable=(60, 40), unanswerable=(20, 80)) + heard(
        0.4, answerable=(50, 50), unanswerable=(10, 90)
    )
    trust = fitted(found)
    for answered, shift in ((True, trust.answers), (False, trust.declines)):
        group = [one for one in found if one.answered is answered]
        expected = sum(abstain.moved(one.confidence, shift) for one in group) / len(group)
        assert expected == pytest.approx(sum(one.answerable for one in group) / len(group), abs=0.02)


@pytest.mark.parametrize("confidence", [0.3, 0.8])
def test_that_retrieval_is_sure_of_everything_or_of_nothing_is_not_the_generators_doing(confidence) -> None:
    trust = fitted(heard(confidence, answerable=(600, 400), unanswerable=(600, 400)))
    assert trust.answers == pytest.approx(0, abs=0.02)
    assert trust.declines == pytest.approx(0, abs=0.02)


def test_too_few_of_a_class_settle_nothing() -> None:
    assert fitted(heard(0.5, answerable=(50, 5), unanswerable=(3, 10))) == Trust()


def test_never_wrong_is_not_infinitely_sure() -> None:
    trust = fitted(heard(0.5, answerable=(40, 0), unanswerable=(0, 40)))
    assert 2 < trust.answers <= LARGEST
    assert -LARGEST <= trust.declines < -2
