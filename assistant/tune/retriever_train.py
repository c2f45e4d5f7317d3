"""Training an embedder: `python -m assistant.tune.retriever_train NAME`.

A process of its own does it, so that torch's memory is given back and nothing else dies with it. The
version's row knows what is asked for and how far it is, its advisory lock says that somebody is at it,
and its folder holds what a killed one goes on from. Texts are read from the store each time: none is written
to the disk.
"""

from __future__ import annotations

import errno
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from assistant import weights
from assistant.app import Assistant
from assistant.config import settings
from assistant.errors import ConfigError, DeskhandError
from assistant.ingest.embed import OnnxEmbedder
from assistant.log import configure
from assistant.store import versions
from assistant.store.db import Conn
from assistant.store.versions import Version
from assistant.tune import negatives, ranking, retriever
from assistant.tune.negatives import Example
from assistant.tune.ranking import Pool
from assistant.tune.retriever import BUSY, NotFinite, Recipe

TELL_SECONDS = 1.0
KEPT = 0.999
"""the least cosine between the vectors of eight-bit weights and of whole ones"""
SLOWER = 1.4
"""and how many times as long encoding may take: a process is 85 MB smaller, and 11 at work are usual"""
APART = 1 << 40
"""added to the ids of each further store, so that no two documents have the same"""

log = structlog.get_logger()


class Useless(DeskhandError):
    """The training came to nothing, for a reason that going on with it doesn't change."""


class Teller:
    """Writes how far it is to the version's row, not more often than somebody can read it."""

    def __init__(self, connection: Conn, version: Version) -> None:
        self._connection, self._version = connection, version
        self._told: dict[str, Any] = dict(version.progress)
        self._before = float(self._told.get("seconds", 0))
        self._began = self._last = time.monotonic()

    def __call__(self, news: Mapping[str, Any]) -> None:
        now = time.monotonic()
        self._told |= {**news, "seconds": round(self._before + now - self._began)}
        if now - self._last > TELL_SECONDS or "phase" not in news:
            self._last = now
            versions.progress(self._connection, self._version, self._told)

    @property
    def seconds(self) -> int:
        return int(self._told.get("seconds", 0))

    def step(self, phase: str, done: int, total: int) -> None:
        self({"phase": phase, "done": done, "total": total})


def collect(assistant: Assistant, how: Recipe, tell: Teller) -> tuple[list[Example], list[Pool], list[int]]:
    """Examples to train with, pools to look at, and the ids of the desk's documents that are in the examples."""
    examples: list[Example] = []
    pools: list[Pool] = []
    documents: set[int] = set()
    with retriever.corpora(assistant, how, progress=tell.step) as found:
        for number, corpus in enumerate(found):
            mined = negatives.mine(
                corpus.assistant, corpus.parts.train, count=how.negatives, seed=how.seed, progress=tell.step
            )
            if corpus.name == retriever.DESK:
                documents |= {d for one in mined for d in (*one.relevant, one.document, *one.others)}
            examples += [_apart(one, number * APART) for one in mined]
            pools.append(ranking.pool(corpus.assistant, corpus.parts.stopping, progress=tell.step))
    return examples, pools, sorted(documents)


def carry(assistant: Assistant, connection: Conn, version: Version) -> None:
    """From the row to a candidate. Raises `Useless`, or another `DeskhandError` before any work."""
    how = retriever.recipe(version.recipe)
    base = weights.path(version.base, assistant.settings).parent
    folder = assistant.settings.models_folder / version.folder
    work, tell = folder / "work", Teller(connection, version)
    examples, pools, documents = collect(assistant, how, tell)
    hashed = retriever.fingerprint([*examples, *pools, how])
    if version.dataset_hash not in (None, hashed):  # what is to be learnt changed meanwhile
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    versions.made_of(connection, version, hashed)
    versions.remember(connection, version, documents)
    from assistant.tune import retriever_trainer as trainer  # torch

    try:
        looks = trainer.fit(base, examples, pools, how, work, tell)
    except NotFinite as error:
        raise Useless(
            f"The loss was no number any more ({error}), so the training was stopped. Nothing else is affected. "
            "Train again with a lower learning rate: --set learning_rate=1e-5."
        ) from error
    best = trainer.best_look(looks)
    if not best["step"]:
        raise Useless(
            f"No step ranked the development part's {sum(len(p.questions) for p in pools)} questions better than the "
            f"untrained model (nDCG@10 {best['ndcg']:.3f}). Nothing else is affected."
        )
    texts = [text for pool in pools for text in (*pool.questions, *pool.texts)][:100]
    found = {"ndcg@10": best["ndcg"], "before": looks[0]["ndcg"], "step": best["step"], "looks": looks}
    asked = {
        "train": len({one.question for one in examples}),
        "development": sum(len(pool.questions) for pool in pools),
    }
    metrics = {
        "development": found,
        "examples": len(examples),
        "questions": asked,
        "eight_bits": publish(work / f"best-{best['step']}", folder, texts, threads=assistant.threads),
        "seconds": tell.seconds,
    }
    (folder / "README.md").write_text(card(version, how, hashed, metrics), encoding="utf-8")
    shutil.rmtree(work)
    versions.finish(connection, version, metrics)


def publish(best: Path, folder: Path, texts: Sequence[str], *, threads: int) -> dict[str, Any]:
    """Put the model in its place: with eight-bit weights, if they do as well. Returns what told so."""
    whole = best / "whole"
    whole.mkdir(exist_ok=True)
    if (best / "whole.onnx").exists():
        (best / "whole.onnx").replace(whole / "model.onnx")
        shutil.copyfile(best / "tokenizer.json", whole / "tokenizer.json")
    vectors: list[Any] = []
    seconds: list[float] = []
    for place in (best, whole):
        embedder = OnnxEmbedder(place, threads=threads)
        embedder.encode(texts[:10])
        started = time.process_time()
        vectors.append(embedder.encode(texts))
        seconds.append(time.process_time() - started)
    cosine = float((vectors[0] * vectors[1]).sum(axis=1).min())
    slower = seconds[0] / max(seconds[1], 1e-9)
    kept = cosine >= KEPT and slower <= SLOWER
    for name in ("tokenizer.json", "model.onnx"):  # the model last: it makes the folder one
        ((best if kept else whole) / name).replace(folder / name)
    return {"kept": kept, "least_cosine": round(cosine, 5), "times_as_long": round(slower, 2)}


def card(version: Version, how: Recipe, hashed: str, metrics: Mapping[str, Any]) -> str:
    """The model card, with the front matter that hubs read."""
    known = weights.KNOWN[version.base]
    found, eight = metrics["development"], metrics["eight_bits"]
    values = "\n".join(f"| {name} | {value} |" for name, value in how.model_dump(mode="json").items())
    changed = how.model_dump(mode="json", exclude_defaults=True)
    options = [f"--pairs {name}" for name in changed.pop("pairs", ())]
    options += [f"--set {name}={value}" for name, value in changed.items()]
    return f"""\
---
base_model: {version.base}
license: {known.licence.lower()}
pipeline_tag: sentence-similarity
tags: [sentence-transformers, support, retrieval]
---
# {version.name}

Turns questions and passages into vectors for search. {known.about}, trained on which documents
this desk's agents linked to in their replies. Licence of the base: {known.licence}.

- Data: {metrics["questions"]["train"]} questions, {metrics["examples"]} examples (SHA-256 `{hashed}`), read from the
  store and never written to disk. Personal data were not masked: vectors tell how alike texts are, not what
  they say, but a model that was trained on a text bears its trace. An erasure names this version.
- Made by: `{" ".join(["deskhand tune retriever", *options])}`, {metrics["seconds"] / 60:.0f} minutes.
- Development part, {metrics["questions"]["development"]} questions, nDCG@10 by vectors alone:
  {found["before"]:.3f} before, {found["ndcg@10"]:.3f} after {found["step"]} steps, which is what is kept.
- Weights: {"eight bits" if eight["kept"] else "as trained"} (least cosine {eight["least_cosine"]}, encoding
  takes {eight["times_as_long"]} times as long).
- Not measured here: other languages, and fields far from this desk's. `deskhand tune retriever --promote
  {version.name} --general FOLDER` compares it with the live embedder.

| Setting | Value |
| --- | --- |
{values}
"""


def _apart(one: Example, by: int) -> Example:
    return replace(
        one,
        relevant=tuple(d + by for d in one.relevant),
        document=one.document + by,
        others=tuple(d + by for d in one.others),
    )


def main(name: str) -> int:
    """0: it is trained, or there was nothing to do; `BUSY`; 1: the row, or the log, says what is wrong."""
    config = settings()
    configure(config.log_level)
    assistant = Assistant(config)
    try:
        with assistant.database.connect() as connection:
            version = versions.get(connection, name)
            if not versions.claim(connection, version):
                return BUSY
            if version.state != "training":
                return 0
            try:
                carry(assistant, connection, version)
            except DeskhandError as error:
                versions.fail(connection, version, str(error))
                return 1
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                trouble = (
                    "The disk is full. What was learnt is kept: free some space, then train again to go on."
                )
                versions.progress(connection, version, {**version.progress, "trouble": trouble})
                return 1
    finally:
        assistant.close()
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise ConfigError("python -m assistant.tune.retriever_train NAME")
    raise SystemExit(main(sys.argv[1]))
