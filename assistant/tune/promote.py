"""Which version answers: a candidate becomes live when it is better, and not by what anybody hopes of it.

It is replayed in shadow over the past tickets of its dataset's test part, beside what
answers now, in one run. The agreed score is one number: half of it is the token F1 of
what is shown where the sources have the answer (0 where it was declined), half the share
declined where they don't. The candidate must win by the lower end of a paired bootstrap
interval and stay within `BOUNDS`. What was rejected is kept, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import structlog
from langchain_core.language_models import BaseChatModel

from assistant.app import Assistant
from assistant.errors import ConfigError
from assistant.evaluate import results
from assistant.evaluate.results import Result
from assistant.evaluate.scratch import Progress
from assistant.evaluate.statistics import Estimate, balanced
from assistant.generate import base, live, local, registry
from assistant.generate.local import LocalChat
from assistant.store import conversations, datasets, versions
from assistant.store.versions import Kind, Version
from assistant.tune import evaluate, trust
from assistant.tune.cases import Case, load
from assistant.tune.evaluate import Reply

log = structlog.get_logger()

FEWEST = 20
"""cases with, and as many without, an answer: with fewer an interval says nothing"""
CARD = "<!-- what follows is written by deskhand tune promote -->"


@dataclass(frozen=True, slots=True)
class Bound:
    """How much worse than what answers now a candidate may be in one measure."""

    measure: str
    words: str
    worse: float
    """absolute, or as a factor above 1"""
    always: float | None = None
    """a value that is good enough, whatever the other one has"""

    def broken(self, candidate: Estimate, now: Estimate) -> bool:
        if self.always is not None and candidate.value <= self.always:
            return False
        if self.worse > 1:
            return candidate.value > now.value * self.worse
        if "declined" in self.measure:
            return candidate.value > now.value + self.worse
        return candidate.value < now.value - self.worse


BOUNDS = (
    Bound("shown_declined_answerable", "declines what the sources answer", 0.02, always=0.10),
    Bound("format", "keeps the format", 0.02),
    Bound("grounded", "is borne out by the sources it cites", 0.02),
    Bound("citation_precision", "cites the right source", 0.02),
    Bound("seconds_total_p50", "seconds for an answer", 1.5, always=0.5),
)
FORGETTING = Bound("perplexity", "perplexity on general text", 1.05)
"""beside the untrained model, not beside the version before it: many small steps are a long way"""


@dataclass(slots=True)
class Verdict:
    """What the replay said."""

    candidate: str
    now: str
    """what answers now"""
    gain: Estimate | None = None
    """of the score, over what answers now"""
    results: list[Result] = field(default_factory=list[Result])
    replies: dict[str, list[Reply]] = field(default_factory=dict[str, list[Reply]])
    reasons: list[str] = field(default_factory=list[str])
    """why it is not good enough; empty when it is"""

    @property
    def better(self) -> bool:
        return not self.reasons


def promote(
    assistant: Assistant,
    name: str,
    *,
    by: str,
    force: str = "",
    limit: int | None = None,
    general: Path | None = None,
    progress: Progress,
) -> Verdict:
    """Replay a candidate and make it live if it is better; `force`, a reason, makes it live as it is.

    Raises `ConfigError` for a version that can't be promoted, `ModelUnavailable` for one
    whose files can't be used. What answers now answers on meanwhile.
    """
    live.check_tunable(assistant.settings)
    with assistant.database.writer() as connection:
        version = versions.get(connection, name)
        promotable(version)
        tuned = live.of_version(connection, version, assistant.settings)
        before = versions.live(connection, Kind.GENERATOR)
        current = live.answering(connection, before, assistant.settings)
    if not force:
        tuned = trust.trusted(assistant, version, tuned, progress)
    model = registry.generator(assistant.settings, tuned)
    now = registry.generator(assistant.settings, current)
    if isinstance(model, LocalChat):
        model.prepare()  # so that nobody's question has to wait for it
    verdict = Verdict(name, base.name(now))
    if not force:
        _replay(assistant, verdict, version, {name: model, verdict.now: now}, limit, general, progress)
    _decide(assistant, version, before, verdict, by=by, force=force)
    return verdict


def keep(assistant: Assistant, verdict: Verdict) -> Path | None:
    """Save what a replay measured; the file, or None when nothing was."""
    if not verdict.results:
        return None
    return results.save(
        assistant,
        verdict.results,
        folder=assistant.settings.state / "evaluations",
        settings={"promoted": verdict.better, "reasons": verdict.reasons},
        questions={system: evaluate.details(found) for system, found in verdict.replies.items()},
    )


def rollback(assistant: Assistant, *, by: str) -> str:
    """Make the generator answer that did before the live one; returns its name.

    Raises `ConfigError` when no version is live.
    """
    with assistant.database.writer() as connection:
        left = versions.live(connection, Kind.GENERATOR)
        back = versions.rollback(connection, Kind.GENERATOR)
        conversations.audit(
            connection,
            actor=by,
            action="tune.rollback",
            object=left.name if left else "",
            detail={"to": back.name if back else ""},
        )
        tuned = live.answering(connection, back, assistant.settings)
    return tuned.name if tuned else local.base_name(assistant.settings)


def compare(candidate: Sequence[Reply], now: Sequence[Reply]) -> Estimate | None:
    """The candidate's gain in score over the same cases; None where one class of them is missing."""
    parts = [
        [mine - theirs for mine, theirs in zip(a, b, strict=True)]
        for a, b in zip(evaluate.score_parts(candidate), evaluate.score_parts(now), strict=True)
    ]
    return balanced(parts)


def judge(
    gain: Estimate | None,
    candidate: Mapping[str, Estimate],
    now: Mapping[str, Estimate],
    plain: Mapping[str, Estimate],
) -> list[str]:
    """Why the candidate is not good enough, in words; nothing when it is. `plain`: of the untrained model."""
    reasons: list[str] = []
    if gain is not None and gain.low <= 0:
        reasons.append(
            f"its score is not surely better: {gain.value:+.3f}, with 95 % certainty between {gain.low:+.3f} and "
            f"{gain.high:+.3f}"
        )
    for bound, other, whose in (
        *((bound, now, "what answers now") for bound in BOUNDS),
        (FORGETTING, plain, "the untrained model"),
    ):
        mine, theirs = candidate.get(bound.measure), other.get(bound.measure)
        if mine and theirs and bound.broken(mine, theirs):
            reasons.append(f"{bound.words}: {mine.value:.3f}, {whose} {theirs.value:.3f}")
    return reasons


def promotable(version: Version) -> None:
    """Raises `ConfigError` for a version that can't be made live."""
    if version.kind is not Kind.GENERATOR:
        raise ConfigError(
            f"{version.name} is no generator. Nothing was changed; an embedder is promoted by "
            "`deskhand tune retriever`."
        )
    if version.state in ("training", "failed", "live"):
        what = {
            "training": "is still being trained",
            "failed": "was not trained to its end",
            "live": "is live already",
        }
        raise ConfigError(
            f"{version.name} {what[version.state]}. Nothing was changed; `deskhand tune list` shows all versions."
        )


def _replay(
    assistant: Assistant,
    verdict: Verdict,
    version: Version,
    models: Mapping[str, BaseChatModel],
    limit: int | None,
    general: Path | None,
    progress: Progress,
) -> None:
    """Ask both the same, and judge."""
    with assistant.database.writer() as connection:
        dataset = datasets.get(connection, versions.measured_with(connection, version) or datasets.LATEST)
        part, cases = load(connection, dataset, part="test", limit=limit)
    if why := _too_few(cases):
        verdict.reasons.append(why)
        return
    key = evaluate.key(dataset, part)
    metrics: dict[str, dict[str, Estimate]] = {}
    for name, model in models.items():
        verdict.replies[name] = evaluate.run(assistant, model, cases, progress=progress)
        metrics[name] = evaluate.summary(verdict.replies[name])
        metrics[name] |= evaluate.forgetting(model, general, progress)
        verdict.results.append(
            Result("answers", key, name, metrics[name], evaluate.by_kinds(verdict.replies[name]))
        )
    plain = evaluate.forgetting(registry.generator(assistant.settings), general, progress)
    verdict.gain = compare(*verdict.replies.values())
    verdict.reasons += judge(verdict.gain, metrics[verdict.candidate], metrics[verdict.now], plain)


def _too_few(cases: Sequence[Case]) -> str:
    answerable = sum(case.answerable for case in cases)
    for count, what in ((answerable, "with an answer"), (len(cases) - answerable, "without one")):
        if count < FEWEST:
            return (
                f"the test part has {count} cases {what} and {FEWEST} are needed to tell anything: sync more resolved "
                "tickets and make a dataset anew"
            )
    return ""


def _decide(
    assistant: Assistant, version: Version, before: Version | None, verdict: Verdict, *, by: str, force: str
) -> None:
    """Write the outcome: state, metrics, who, and the model card."""
    told: dict[str, Any] = {"before": before.name if before else "", "forced": force}
    if verdict.gain:
        told["gain"] = round(verdict.gain.value, 4)
    measured = {result.dataset: evaluate.plain(result.metrics) for result in verdict.results[:1]}
    try:
        with assistant.database.writer() as connection:
            evaluate.keep(connection, version, measured)
            if verdict.better:
                versions.promote(connection, version, by=by)
            elif version.state != "retired":  # that one stays what a rollback may come back to
                versions.reject(connection, version, "; ".join(verdict.reasons))
            action = "tune.promote" if verdict.better else "tune.reject"
            conversations.audit(connection, actor=by, action=action, object=version.name, detail=told)
    except psycopg.errors.UniqueViolation as error:
        raise ConfigError(
            "Another version was promoted at the same moment. This one is a candidate as before; compare it with "
            "the one that is live now."
        ) from error
    log.info("promoted" if verdict.better else "rejected", version=version.name, forced=bool(force))
    _complete(assistant.settings.models_folder / version.folder / "README.md", verdict, by=by, force=force)


def _complete(card: Path, verdict: Verdict, *, by: str, force: str) -> None:
    """Put into the model card how it did and who decided what."""
    begun = card.read_text(encoding="utf-8") if card.exists() else f"# {verdict.candidate}\n"
    lines = [begun.partition(CARD)[0].rstrip(), "", CARD, "", "## Promotion", ""]
    if force:
        lines.append(f"Made live by {by} without a comparison. Reason: {force}")
    elif verdict.better:
        lines.append(f"Made live by {by} in place of {verdict.now}.")
    else:
        lines.append(f"Rejected: {'; '.join(verdict.reasons)}.")
    if verdict.gain:
        lines += [
            "",
            f"Gain in score over {verdict.now}: {verdict.gain} (paired, {verdict.gain.count} cases).",
        ]
    if verdict.results:
        names = [result.system for result in verdict.results]
        lines += [
            "",
            f"| {verdict.results[0].dataset} | {' | '.join(names)} |",
            "|" + " --- |" * (len(names) + 1),
        ]
        for measure in verdict.results[0].metrics:
            cells = [str(result.metrics.get(measure, "–")) for result in verdict.results]
            lines.append(f"| {measure.replace('_', ' ')} | {' | '.join(cells)} |")
    card.write_text("\n".join(lines) + "\n", encoding="utf-8")
