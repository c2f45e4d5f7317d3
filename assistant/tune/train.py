"""Training a version of the generator: `python -m assistant.tune.train NAME`.

A process of its own does it, so that torch's memory is given back and nothing else
dies with it. PostgreSQL knows what is to be trained and how far it is; the version's folder
holds what a killed one goes on from. With several GPUs: `accelerate launch -m
assistant.tune.train NAME` (tried with several processes on a CPU, never on GPUs).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import structlog

from assistant import servers
from assistant.config import Settings, settings
from assistant.errors import ConfigError, DeskhandError, NotRunning
from assistant.generate import adapter
from assistant.log import configure
from assistant.store import datasets, versions
from assistant.store.datasets import Dataset
from assistant.store.db import Conn, Database, explain
from assistant.store.versions import Kind, Version
from assistant.tune import card, examples
from assistant.tune.base import Base, base
from assistant.tune.examples import Prepared
from assistant.tune.job import BUSY, LOG, Stopped, Tell, Training, Useless, check_installed, full, room
from assistant.tune.recipe import Recipe, recipe

ROOM_BYTES = 300_000_000
"""space for checkpoints, beside twice the base model's"""
TRAINED = "trained.json"
"""in the work folder: what was logged, once there is nothing more to train"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Task:
    """What a version's row asks for."""

    base: Base
    recipe: Recipe
    dataset: Dataset
    prepared: Prepared
    start: Version | None = None
    """the version it goes on from"""

    def adapter(self, config: Settings) -> Path | None:
        """The folder of the adapter that it goes on from."""
        return config.models_folder / self.start.folder if self.start else None


def task(connection: Conn, version: Version, config: Settings) -> Task:
    """Raises `DeskhandError` where it can't be done, before any work."""
    model, how = base(version.base, config), recipe(**version.recipe)
    with connection.transaction():
        chosen = datasets.get(connection, version.dataset_hash or datasets.LATEST)
        rows, dev = (list(datasets.examples(connection, chosen.id, part)) for part in ("train", "dev"))
    examples.check(rows, dev, how)
    start = begun(connection, how.start, version.base, config) if how.start else None
    return Task(model, how, chosen, examples.prepare(model.tokenizer(), rows, dev, how), start)


def begun(connection: Conn, name: str, base: str, config: Settings) -> Version:
    """The version of that name, whose adapter can be gone on from. Raises `DeskhandError` where it can't."""
    start = versions.get(connection, name)
    if start.kind is not Kind.GENERATOR or start.state in ("training", "failed"):
        raise ConfigError(
            f"{name} is no trained generator ({start.kind}, {start.state}), so nothing goes on from it. Nothing was "
            "started; `deskhand tune list` shows all versions."
        )
    if start.base != base:
        raise ConfigError(
            f"{name} was made from {start.base}, so what goes on from it can't have {base} as its base. Nothing was "
            "started; leave --base out, or name a version of that base."
        )
    adapter.read(config.models_folder / start.folder)
    return start


def train(
    base: Base,
    prepared: Prepared,
    recipe: Recipe,
    folder: Path,
    tell: Tell = lambda _: True,
    *,
    start: Path | None = None,
) -> dict[str, Any]:
    """Train and publish in `folder` the adapter and, of a base that is a GGUF, the merged one; returns metrics.

    What was begun there is gone on with. `start`: the adapter that kto goes on from. Raises `Useless` when there is
    nothing worth publishing, `Stopped` when `tell` wants it.
    """
    trained = fitted(base, prepared, recipe, folder / "work", tell, start)
    from assistant.tune import trainer  # torch

    history = trained["history"]
    looks = trainer.looks_at(history)
    best = trainer.best_look(looks)
    if not best["step"]:
        raise Useless(
            f"No step was better on the development part than {recipe.start or 'the untrained model'} (loss "
            f"{best['eval_loss']:.3f}). "
            "Nothing else is affected; look at the examples, or try a lower learning rate."
        )
    trainer.publish(folder / "work" / f"best-{best['step']}", folder, base, recipe)
    if base.gguf is not None:
        adapter.merge(base.gguf, adapter.read(folder), folder / "model.gguf")
    servers.write_small(folder / card.HISTORY, json.dumps(history), mode=0o644)
    return {
        "dev_loss": round(best["eval_loss"], 4),
        "dev_loss_untrained": round(looks[0]["eval_loss"], 4),
        "best_step": best["step"],
        "steps": trained["step"],
        "stopped_early": trained["step"] < trained["steps"],
        "tokens": round(trained["epoch"] * sum(len(row.input_ids) for row in prepared.train)),
        "examples": dict(prepared.counts),
        "left_out": dict(prepared.left_out),
    }


def fitted(
    base: Base, prepared: Prepared, recipe: Recipe, work: Path, tell: Tell, start: Path | None
) -> dict[str, Any]:
    """Do what is left of the training itself; {history, step, steps, epoch}. Raises `Useless`, `Stopped`."""
    if not (work / TRAINED).exists():
        from assistant.tune import trainer  # torch

        work.mkdir(parents=True, exist_ok=True)
        try:
            if start is None:
                trained = trainer.fit(base, prepared.train, prepared.dev, recipe, work, tell)
            else:
                from assistant.tune import preferring  # torch

                trained = preferring.fit(base, start, prepared.train, prepared.dev, recipe, work, tell)
        except trainer.NotFinite as error:
            raise Useless(
                f"The loss was no number any more ({error}), so the training was stopped. Nothing else is affected. "
                "Start another one with a lower learning rate."
            ) from error
        servers.write_small(work / TRAINED, json.dumps(trained))
    return json.loads((work / TRAINED).read_text(encoding="utf-8"))


def carry(training: Training, config: Settings) -> None:
    """From the row to a candidate."""
    check_installed()
    version, connection = training.version, training.connection
    folder = config.models_folder / version.folder
    gguf = base(version.base, config).gguf
    room(folder, ROOM_BYTES + (2 * gguf.stat().st_size if gguf else 0))
    asked = task(connection, version, config)
    versions.remember(connection, version, sorted(asked.prepared.documents), sorted(asked.prepared.messages))
    if asked.start:
        versions.inherit(connection, version, asked.start)
    start = asked.adapter(config)
    metrics = train(asked.base, asked.prepared, asked.recipe, folder, training.tell, start=start)
    metrics |= {"seconds": training.told["seconds"]}
    card.write(folder, version, asked.recipe, asked.dataset, metrics)
    shutil.rmtree(folder / "work")
    versions.finish(training.connection, version, metrics)
    log.info("trained", version=version.name)


def help_out(database: Database, name: str, config: Settings) -> int:
    """A further process of several: it computes with the first one, which tells and publishes."""
    with database.connect() as connection:
        version = versions.get(connection, name)
        asked = task(connection, version, config)
    folder = config.models_folder / version.folder
    fitted(asked.base, asked.prepared, asked.recipe, folder / "work", lambda _: True, asked.adapter(config))
    return 0


def main(name: str) -> int:
    """0: it is trained, or there was nothing to do; `BUSY`; 1: the row says what is wrong."""
    config = settings()
    database = Database(servers.database_url(config))
    if int(os.environ.get("RANK", "0")):
        return help_out(database, name, config)
    try:
        training = Training(database, name)
    except psycopg.Error as error:
        raise NotRunning(explain(error)) from error
    version, folder = training.version, config.models_folder / training.version.folder
    if version.state != "training":
        return 0
    try:
        if not training.claim():
            return BUSY
        carry(training, config)
        return 0
    except Stopped:
        return 0
    except DeskhandError as error:
        versions.fail(training.connection, version, str(error))
    except Exception as error:
        log.exception("training failed", version=name)
        if full(error, folder):
            training.wait(
                f"The disk is full ({folder}). Nothing that was learnt is lost: free some space. It goes on from its "
                f"last checkpoint, by itself where a worker trains it, or with `deskhand tune train --resume {name}`."
            )
        else:
            versions.fail(
                training.connection,
                version,
                f"An unexpected {type(error).__name__} stopped it; {folder / LOG} has the details. What was learnt "
                f"is kept, and `deskhand tune train --resume {name}` goes on with it.",
            )
    return 1


if __name__ == "__main__":
    configure(settings().log_level)
    if "--politely" in sys.argv:
        os.nice(10)
    sys.exit(main(sys.argv[1]))
