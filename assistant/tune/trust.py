"""How much a version's own verdict counts, beside what retrieval tells: measured where it was not trained.

What a generator writes is evidence: of those it answers more are answerable than of those it
declines. By how much is a number a version has, so that a setting in per cent means the same
whichever version answers. Two shifts of the log-odds are fitted by maximum likelihood, one of
what it answered and one of what it declined, with as many answerable questions as unanswerable ones by weight.
A third one, of all questions, is taken from both: by how much retrieval's confidence errs on these, which are harder
than most, is no evidence of the generator's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from langchain_core.language_models import BaseChatModel

from assistant.answer import abstain, extract
from assistant.answer.engine import DeskQueryEngine, Strategy
from assistant.app import Assistant
from assistant.evaluate.scratch import Progress
from assistant.generate import base, registry
from assistant.generate.base import Trust, Tuned
from assistant.generate.echo import EchoChat
from assistant.store import datasets, versions
from assistant.store.versions import Version
from assistant.tune.cases import AT_ONCE, Case, Given, load, scored

MOST = 200
"""questions that are asked"""
FEWEST = 20
"""questions of each class, without which nothing is measured"""
LARGEST = 6.0
"""of a shift: a handful of questions never settles it alone"""


@dataclass(frozen=True, slots=True)
class Heard:
    """A question, what retrieval says of it and what the generator did."""

    confidence: float
    answered: bool
    answerable: bool


def trusted(assistant: Assistant, version: Version, tuned: Tuned, progress: Progress) -> Tuned:
    """The version with its trust, measured on its dataset's development part when that was never done, and kept.

    One that has no dataset any more is not trusted with more than its "no".
    """
    if "trust" in version.metrics or not version.dataset_hash:
        return tuned
    with assistant.database.writer() as connection:
        dataset = datasets.get(connection, versions.measured_with(connection, version) or datasets.LATEST)
        _, cases = load(connection, dataset, part="dev", limit=MOST)
    found = measured(assistant, registry.generator(assistant.settings, tuned), cases, progress)
    told = {} if found == Trust() else asdict(found)
    with assistant.database.writer() as connection:
        versions.measured(connection, version, {"trust": told})
    return replace(tuned, trust=found)


def measured(assistant: Assistant, model: BaseChatModel, cases: Sequence[Case], progress: Progress) -> Trust:
    """Ask every case, as it would be asked when live. With too few of a class only its "no" counts."""
    found: list[Heard] = []
    cases = [case for case in cases if case.passages]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for heard in pool.map(functools.partial(_heard, assistant, model), cases):
            found.append(heard)
            progress(f"{base.name(model)}, how far to trust it", len(found), len(cases))
    return fitted(found)


def fitted(found: Sequence[Heard]) -> Trust:
    """The two shifts; the default where one class has too few."""
    classes = [sum(one.answerable is value for one in found) for value in (True, False)]
    if min(classes) < FEWEST:
        return Trust()
    weights = {True: 1 / classes[0], False: 1 / classes[1]}

    def shift(these: Sequence[Heard]) -> float:
        return _shift([(one.confidence, one.answerable, weights[one.answerable]) for one in these])

    general = shift(found)
    answers, declines = (shift([one for one in found if one.answered is value]) for value in (True, False))
    return Trust(round(answers - general, 4), round(declines - general, 4))


def _shift(found: Sequence[tuple[float, bool, float]]) -> float:
    """The shift of the log-odds under which these (confidence, truth, weight) are likeliest, by bisection.

    Of two imagined questions, one of each class and of the mean weight, so that none is infinite.
    """
    if not found:
        return 0.0
    mean = sum(weight for *_, weight in found) / len(found)
    rows = [*found, (0.5, True, mean), (0.5, False, mean)]
    low, high = -LARGEST, LARGEST
    while high - low > 1e-6:
        middle = (low + high) / 2
        # Its derivative: what is true less what is expected; falls as the shift grows.
        slope = math.fsum(weight * (truth - abstain.moved(sure, middle)) for sure, truth, weight in rows)
        low, high = (middle, high) if slope > 0 else (low, middle)
    return (low + high) / 2


def _heard(assistant: Assistant, model: BaseChatModel, case: Case) -> Heard:
    passages, encode = scored(case, assistant.embedder), assistant.embedder.encode
    candidates = extract.read(case.question, passages, encode=encode)
    sure = abstain.confidence(abstain.features(case.question, passages, candidates))
    said = "".join(chunk.text for chunk in model.stream(list(case.messages)))
    engine = DeskQueryEngine(
        Given(passages), EchoChat(reply=said or "\n"), encode=encode, strategy=Strategy.WRITE, threshold=0
    )
    return Heard(sure, not engine.answer(case.question).refusal, case.answerable)
