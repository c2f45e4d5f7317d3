"""Which generator answers: the promoted version, else the adapter that came with Deskhand, else the plain model.

It is looked up with every question, which is one row by its index. So a promotion and a
rollback are seen by every process with its next question; answers that are being written
hold on to the generator they began with, whose memory is given back with the last of them.
"""

from __future__ import annotations

import fcntl
import filecmp
import json
import shutil
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from langchain_core.language_models import BaseChatModel

import assistant
from assistant.config import Settings
from assistant.errors import ConfigError, ModelUnavailable
from assistant.generate import adapter, local, registry
from assistant.generate.base import Trust, Tuned
from assistant.store import datasets, versions
from assistant.store.db import Conn, Database
from assistant.store.versions import Kind, Version

log = structlog.get_logger()

SHIPPED = Path(assistant.__file__).parent / "adapters"
"""adapters that come with Deskhand, a folder each, as `deskhand tune publish` writes them"""
RECIPE = "recipe.json"
"""beside PEFT's two files and README.md: how the adapter is asked, and how far it is trusted"""


PLAIN = "base"
"""how the model without any adapter is called on the command line"""


class Live:
    """The generator that answers now, in one process."""

    def __init__(self, settings: Settings, database: Callable[[], Database]) -> None:
        self._settings = settings
        self._database = database
        self._turn = threading.Lock()
        self._of: int | None = None
        """id of the version that `_model` is"""
        self._model: BaseChatModel | None = None

    def __call__(self) -> BaseChatModel:
        """Raises what `registry.generator` raises, and `NotRunning`."""
        if self._settings.generator not in registry.TUNABLE:
            with self._turn:
                self._model = self._model or registry.generator(self._settings)
                return self._model
        with self._database().writer() as connection:
            version = versions.live(connection, Kind.GENERATOR)
        now = version.id if version else None
        # Whoever waits here for a model to be merged holds no connection that others need.
        with self._turn:
            if self._model is None or now != self._of:
                with self._database().writer() as connection:
                    tuned = answering(connection, version, self._settings)
                self._model, self._of = registry.generator(self._settings, tuned), now
                log.info("generator", name=tuned.name if tuned else self._settings.local_model)
            return self._model


def answering(connection: Conn, version: Version | None, settings: Settings) -> Tuned | None:
    """What answers when `version` is the live one. Raises `ModelUnavailable`."""
    if version and version.base == settings.local_model:
        try:
            return of_version(connection, version, settings)
        except ModelUnavailable as error:
            log.warning("version unusable", version=version.name, reason=str(error))
    return shipped(settings, idle=settings.answers == "write")


def of_version(connection: Conn, version: Version, settings: Settings) -> Tuned:
    """A version that can answer here. Raises `ModelUnavailable` when it can't, or not with this model."""
    tuned = files_of(connection, version, settings)
    if version.base != settings.local_model:
        raise ModelUnavailable(
            f"{version.name} was trained on {version.base} and Deskhand runs {settings.local_model}. "
            "Nothing was changed; set DESKHAND_LOCAL_MODEL to its base, or train another."
        )
    if settings.generator == "local" and not (tuned.folder / local.MERGED).is_file():
        raise ModelUnavailable(
            f"{tuned.folder / local.MERGED} is not there. Nothing was changed; copy the version's folder back, or "
            "train it again."
        )
    return tuned


def files_of(connection: Conn, version: Version, settings: Settings) -> Tuned:
    """A version's adapter, looked at. Raises `ModelUnavailable` when it is not safe, or not what its row says."""
    folder = settings.models_folder / version.folder
    found = adapter.read(folder)
    if found.base not in ("", version.base):
        raise ModelUnavailable(
            f"{version.name} was made from {version.base}, and its adapter says {found.base}. Nothing was changed; "
            "copy the version's folder back, or train it again."
        )
    return _tuned(
        version.name,
        folder,
        {
            "prompt_tokens": _prompt_tokens(connection, version),
            "trust": version.metrics.get("trust", {}),
            **version.recipe,
        },
    )


def check_tunable(settings: Settings) -> None:
    """Raises `ConfigError` where versions don't answer, whatever is promoted."""
    if settings.generator not in registry.TUNABLE:
        raise ConfigError(
            f"The generator is {settings.generator}, and versions answer with {' or '.join(registry.TUNABLE)}. "
            "Nothing was changed; set DESKHAND_GENERATOR, or `deskhand tune publish` it for the server that answers."
        )


def named(connection: Conn, name: str, settings: Settings, *, here: bool = True) -> Tuned | None:
    """The version of that name, or the adapter that came with Deskhand; None for `base`, the plain model.

    `here`: it is to answer in this installation. Raises `ConfigError` when there is none,
    `ModelUnavailable` when its adapter can't be used.
    """
    if name == PLAIN:
        return None
    if (ours := shipped(settings)) and ours.name == name:
        return ours
    version = versions.get(connection, name)
    return (of_version if here else files_of)(connection, version, settings)


def shipped(settings: Settings, *, idle: bool = True) -> Tuned | None:
    """The adapter that came with Deskhand for the model it runs, merged when first asked for; None without one.

    `idle`: also one that writes only when told to; what is quoted needs none. Raises `ModelUnavailable` when it
    can't be merged.
    """
    for folder in sorted(SHIPPED.glob("*/")):
        config = folder / adapter.CONFIG
        if config.is_file() and _json(config).get("base_model_name_or_path") == settings.local_model:
            recipe = _json(folder / RECIPE)
            if not (idle or recipe.get("writes", True)):
                return None
            place = _merged(folder, settings) if settings.generator == "local" else folder
            return _tuned(folder.name, place, recipe)
    return None


def _tuned(name: str, folder: Path, recipe: Mapping[str, Any]) -> Tuned:
    writes = bool(recipe.get("writes", True))
    return Tuned(name, folder, writes, recipe.get("prompt_tokens"), Trust(**recipe.get("trust", {})))


def told(tuned: Tuned) -> dict[str, Any]:
    """What `RECIPE` has of it."""
    trust = {} if tuned.trust == Trust() else asdict(tuned.trust)
    return {"writes": tuned.writes, "prompt_tokens": tuned.prompt_tokens, "trust": trust}


def _merged(source: Path, settings: Settings) -> Path:
    """A folder like a version's, made of an adapter that came with Deskhand; again when that is another one."""
    folder = settings.models_folder / "tuned" / source.name
    weights, copy = source / adapter.WEIGHTS, folder / adapter.WEIGHTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            # The copied weights are the last file to be written: with them the folder is whole.
            if not (copy.is_file() and filecmp.cmp(weights, copy, shallow=False)):
                log.info("model.merge", adapter=source.name)
                copy.unlink(missing_ok=True)
                adapter.merge(local.base_file(settings), adapter.read(source), folder / local.MERGED)
                for file in sorted(source.iterdir(), key=lambda file: file == weights):
                    shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise ModelUnavailable(
            f"The adapter {source.name} could not be merged into {folder}: {error.strerror or error}. Nothing was "
            "lost; make room there and ask again."
        ) from error
    return folder


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """One process at a time; the lock falls with it."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prompt_tokens(connection: Conn, version: Version) -> int | None:
    chosen = versions.measured_with(connection, version)
    if not chosen:
        return None
    try:
        return datasets.get(connection, chosen).settings.get("prompt_tokens")
    except ConfigError:  # a dataset may go, its versions stay
        return None


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
