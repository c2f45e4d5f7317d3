"""An embedder that learns the desk: from what, how, and whether it is good enough to answer. No torch here."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.evaluate import beir, retrieval, scratch, statistics
from assistant.evaluate.scratch import Progress
from assistant.evaluate.statistics import Estimate, estimate
from assistant.ingest import embed
from assistant.ingest.embed import Embedder
from assistant.model import Principal
from assistant.retrieve.fusion import Legs
from assistant.runtime.up import environment
from assistant.store import conversations, spaces, versions
from assistant.store.versions import Kind, Version
from assistant.tune import pairs, ranking
from assistant.tune.pairs import Parts

DESK = "desk"
"""in place of a folder: the desk's own tickets"""
TRAINABLE = {"minilm-l6-v2-int8": "minilm-l6-v2"}
"""embedder of the settings → the weights that it can be trained from"""
PACKAGES = ("torch", "transformers", "sentence_transformers", "datasets", "onnx")
TRAINER = "assistant.tune.retriever_train"
"""module that is run to train"""
BUSY = 75
"""exit code of a process that finds the version trained by another"""
LOG = "train.log"
FORGOTTEN = 0.01
"""nDCG@10 that a general set may lose"""

Tell = Callable[[Mapping[str, Any]], None]
"""takes how far a training is"""

log = structlog.get_logger()


class NotFinite(Exception):
    """The loss is no number any more."""


class Recipe(BaseModel):
    """How an embedder is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pairs: tuple[str, ...] = (DESK,)
    """`desk`, and folders in BEIR's layout with a train split"""
    epochs: int = Field(default=2, ge=1)
    batch: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=5e-5, gt=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """share of the steps until the learning rate is reached"""
    negatives: int = Field(default=1, ge=0)
    """mined for each question"""
    tokens: int = Field(default=160, ge=16, le=512)
    """of a text in training; longer ones are cut"""
    frozen: int = Field(default=1, ge=0)
    """0: all weights learn; 1: all but the word embeddings; n: nor the n - 1 lowest layers"""
    strength: float = Field(default=0.7, gt=0, le=1)
    """how far from the base towards what was learnt the published weights are"""
    looks: int = Field(default=2, ge=1)
    """at the development part, in an epoch"""
    patience: int = Field(default=2, ge=1)
    """looks without a gain until it ends"""
    seed: int = 1
    cpu: bool = True


@dataclass(frozen=True, slots=True)
class Corpus:
    """Questions, and the store that their documents are in."""

    name: str
    assistant: Assistant = field(repr=False)
    parts: Parts = field(repr=False)


@dataclass(slots=True)
class Verdict:
    """Whether a trained embedder is better than the live one."""

    candidate: str
    live: str
    gain: Estimate | None = None
    """in nDCG@10 on the held-out questions, each asked of both"""
    before: float = 0.0
    after: float = 0.0
    general: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """nDCG@10 of other sets, with the live one and with this one"""
    reasons: list[str] = field(default_factory=list[str])
    """why it is not good enough; empty when it is"""


def check_installed() -> None:
    """Raises `ConfigError` saying what to install: before the work, not after it."""
    statistics.check_installed()
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Training needs {', '.join(missing)}, which a plain installation leaves out. Nothing was started; "
            "install the extra: pip install 'deskhand[tune,eval]'. (On a machine without a GPU, install torch from its "
            "index for CPUs first: it is far smaller.)"
        )


def recipe(values: Mapping[str, Any]) -> Recipe:
    """Raises `ConfigError` naming what is wrong."""
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_url=False)]
        raise ConfigError(
            "These values are not usable:\n" + "\n".join(lines) + "\nNothing was started."
        ) from None


def request(assistant: Assistant, how: Recipe, *, by: str) -> Version:
    """A row that asks for a training. Raises `ConfigError` where there is nothing to train from."""
    base = TRAINABLE.get(assistant.settings.embedder)
    if base is None:
        raise ConfigError(
            f"There are no weights from which {assistant.settings.embedder} could be trained. Nothing was started."
        )
    with assistant.database.writer() as connection:
        return versions.request(
            connection, Kind.EMBEDDER, base=base, dataset_hash=None, recipe=how.model_dump(mode="json"), by=by
        )


def start(settings: Settings, version: Version) -> subprocess.Popen[bytes]:
    """The process that trains it, or goes on with it; its output goes to `train.log` in the version's folder."""
    folder = settings.models_folder / version.folder
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", TRAINER, version.name]
    with (folder / LOG).open("ab") as out:
        return subprocess.Popen(
            command, env=environment(settings), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )


@contextmanager
def corpora(assistant: Assistant, how: Recipe, *, progress: Progress) -> Generator[list[Corpus]]:
    """What the recipe names, opened: a folder is indexed into a database of its own, with the live embedder."""
    with ExitStack() as opened:
        found: list[Corpus] = []
        for name in how.pairs:
            if name == DESK:
                searched = assistant
                with assistant.database.writer() as connection:
                    questions = pairs.of_desk(connection)
            else:
                searched = opened.enter_context(scratch.indexed(assistant, Path(name), progress=progress))
                with searched.database.writer() as connection:
                    questions = pairs.of_folder(connection, Path(name))
            found.append(Corpus(name, searched, pairs.parts(questions)))
        yield found


def decide(
    assistant: Assistant, name: str, *, by: str, general: Sequence[Path] = (), progress: Progress
) -> Verdict:
    """Compare a trained embedder with the live one; want it if it is better, else keep it with the reason.

    Better means: the lower end of the 95 % bootstrap interval of its gain on the held-out questions is above
    0, and no set of `general` loses more than FORGOTTEN. Wanted means that the index is filled in with its
    vectors in the background and then switches. Raises `ConfigError` for a version that is no candidate.
    """
    with assistant.database.writer() as connection:
        version = versions.get(connection, name)
    if version.kind is not Kind.EMBEDDER or version.state in ("training", "failed", "live"):
        raise ConfigError(
            f"{name} is no trained embedder that could be promoted ({version.kind}, {version.state}). Nothing was "
            "changed; `deskhand tune retriever --status` tells what there is."
        )
    candidate, (_, live) = embed.tuned(assistant.settings, name, threads=assistant.threads), assistant.live()
    verdict = Verdict(name, live.name)
    _compare(assistant, verdict, recipe(version.recipe), candidate, live, progress)
    for folder in general:
        before, after = (_general(assistant, folder, one, progress) for one in (live, candidate))
        verdict.general[folder.resolve().name] = before, after
        if after < before - FORGOTTEN:
            verdict.reasons.append(
                f"{folder.resolve().name} loses: nDCG@10 {after:.3f}, {before:.3f} until now"
            )
    with assistant.database.writer() as connection:
        versions.measured(connection, version, {"promotion": asdict(verdict)})
        if verdict.reasons:
            if version.state != "retired":  # that one stays what may be gone back to
                versions.reject(connection, version, "; ".join(verdict.reasons))
        else:
            spaces.want(
                connection,
                name=candidate.name,
                revision=candidate.revision,
                dimension=candidate.dimension,
                by=by,
            )
        action = "tune.reject" if verdict.reasons else "tune.promote"
        conversations.audit(connection, actor=by, action=action, object=name)
    log.info("embedder decided about", version=name, better=not verdict.reasons)
    return verdict


def back(assistant: Assistant, *, by: str) -> str:
    """Want the embedder that was live before; returns its name. Raises `ConfigError` when none was trained."""
    with assistant.database.writer() as connection:
        space = spaces.back(connection, base=assistant.settings.embedder, by=by)
        conversations.audit(connection, actor=by, action="tune.rollback", object=space.name)
    return space.name


def fingerprint(texts: Sequence[object]) -> str:
    """Of what a training learns from."""
    digest = hashlib.sha256()
    for one in texts:
        digest.update(repr(one).encode())
    return digest.hexdigest()


def _compare(
    assistant: Assistant,
    verdict: Verdict,
    how: Recipe,
    candidate: Embedder,
    live: Embedder,
    progress: Progress,
) -> None:
    before: list[float] = []
    after: list[float] = []
    with corpora(assistant, how, progress=progress) as found:
        for corpus in found:
            pool = ranking.pool(corpus.assistant, corpus.parts.held_out, progress=progress)
            for done, (scores, embedder) in enumerate(((before, live), (after, candidate))):
                progress(f"Rank {corpus.name}", done, 2)
                scores += ranking.ndcg(embedder, pool)
            progress(f"Rank {corpus.name}", 2, 2)
    verdict.before, verdict.after = sum(before) / len(before), sum(after) / len(after)
    verdict.gain = estimate([new - old for new, old in zip(after, before, strict=True)])
    if verdict.gain is None or verdict.gain.low <= 0:
        told = f"{verdict.after:.3f} for {verdict.before:.3f}"
        interval = f", between {verdict.gain.low:+.3f} and {verdict.gain.high:+.3f}" if verdict.gain else ""
        verdict.reasons.append(
            f"it is not surely better on {len(after)} held-out questions: nDCG@10 {told}{interval}"
        )


def _general(assistant: Assistant, folder: Path, embedder: Embedder, progress: Progress) -> float:
    task = beir.task(folder)
    with scratch.indexed(assistant, folder, embedder=embedder, progress=progress) as searched:
        run = retrieval.run(searched, task, legs=Legs.HYBRID, principal=Principal("tune"), progress=progress)
    return run.metrics["ndcg@10"].value
