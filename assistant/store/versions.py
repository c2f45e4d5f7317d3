"""Models that were trained here: what they were made of, how good they are, and which one is live.

A version's weights lie in `folder` below the models folder. There is at most one live
version of a kind; none means the model that the settings name, as it came.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from assistant.errors import ConfigError, NotThere
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL

TRAINING_LOCK = 0x0D16
"""first key of the advisory lock that whoever trains or compares a version holds; the version's id is the second"""


class Kind(StrEnum):
    GENERATOR = "generator"
    EMBEDDER = "embedder"


@dataclass(frozen=True, slots=True)
class Version:
    """A row of `version`."""

    id: int
    kind: Kind
    name: str
    """its kind and a number, such as `generator-3`"""
    base: str
    """the model it was made from"""
    dataset_hash: str | None
    folder: str
    recipe: Mapping[str, Any]
    metrics: Mapping[str, Any]
    state: str
    """`training`, `failed`, `candidate`, `rejected`, `live` or `retired`"""
    reason: str
    progress: Mapping[str, Any]
    requested_by: str
    created_at: dt.datetime
    promoted_at: dt.datetime | None
    promoted_by: str | None


def request(
    connection: Conn, kind: Kind, *, base: str, dataset_hash: str | None, recipe: Mapping[str, Any], by: str
) -> Version:
    """Ask for a training; a worker, or whoever asked, does it. Its row says how far it is."""
    values = {
        "kind": kind, "base": base, "dataset_hash": dataset_hash, "recipe": json.dumps(recipe), "requested_by": by
    }  # fmt: skip
    row = connection.execute(SQL["version_request"], values).fetchone()
    assert row is not None, "an insert returns its row"  # noqa: S101 - states an invariant
    return _version(row)


def claim(connection: Conn, version: Version) -> bool:
    """Train it for as long as `connection` lives; False when somebody else does."""
    key = (TRAINING_LOCK, version.id % 2**31)
    got = connection.execute("select pg_try_advisory_lock(%s, %s) as ok", key).fetchone()
    return bool(got and got["ok"])


def claimed(connection: Conn) -> set[int]:
    """Ids of the versions that somebody trains or compares at this moment."""
    rows = connection.execute(SQL["version_claimed"], {"lock": TRAINING_LOCK})
    return {int(row["id"]) for row in rows}


def note(connection: Conn, version: Version, reason: str) -> None:
    """Say what hindered a comparison; the version stays what it is."""
    connection.execute(SQL["version_note"], {"id": version.id, "reason": reason})


def progress(connection: Conn, version: Version, told: Mapping[str, Any]) -> bool:
    """Note how far its training is; False when it is not to be gone on with."""
    values = {"id": version.id, "progress": json.dumps(told)}
    return connection.execute(SQL["version_progress"], values).rowcount > 0


def resume(connection: Conn, name: str) -> Version:
    """Go on with a training that failed or was stopped. Raises `ConfigError` for one that ended."""
    version = get(connection, name)
    row = connection.execute(SQL["version_resume"], {"id": version.id}).fetchone()
    if row is None:
        raise ConfigError(
            f"{name} is trained already ({version.state}), so there is nothing to go on with. Nothing was changed."
        )
    return _version(row)


def made_of(connection: Conn, version: Version, dataset_hash: str) -> None:
    """Note the hash of what it is trained on."""
    connection.execute(SQL["version_made_of"], {"id": version.id, "hash": dataset_hash})


def finish(connection: Conn, version: Version, metrics: Mapping[str, Any]) -> None:
    """It is trained: a candidate from now on."""
    connection.execute(SQL["version_finish"], {"id": version.id, "metrics": json.dumps(metrics)})


def measured(connection: Conn, version: Version, metrics: Mapping[str, Any]) -> None:
    """Add what was measured to what is known of it."""
    connection.execute(SQL["version_measured"], {"id": version.id, "metrics": json.dumps(metrics)})


def fail(connection: Conn, version: Version, reason: str) -> None:
    connection.execute(SQL["version_end"], {"id": version.id, "state": "failed", "reason": reason})


def reject(connection: Conn, version: Version, reason: str) -> None:
    """It is kept, and is not to be used for this reason."""
    connection.execute(SQL["version_end"], {"id": version.id, "state": "rejected", "reason": reason})


def get(connection: Conn, name: str) -> Version:
    """The version of that name. Raises `NotThere` when there is none."""
    row = connection.execute(SQL["version_get"], {"name": name}).fetchone()
    if row is None:
        raise NotThere(
            f"There is no version «{name}». Nothing was changed; `deskhand tune list` shows those there are."
        )
    return _version(row)


def everything(connection: Conn) -> list[Version]:
    """All versions, the latest first."""
    return [_version(row) for row in connection.execute(SQL["version_all"])]


def waiting(connection: Conn, kind: Kind) -> Version | None:
    """The training that is to be done, or gone on with, next."""
    row = connection.execute(SQL["version_waiting"], {"kind": kind}).fetchone()
    return _version(row) if row else None


def live(connection: Conn, kind: Kind) -> Version | None:
    row = connection.execute(SQL["version_live"], {"kind": kind}).fetchone()
    return _version(row) if row else None


def promote(connection: Conn, version: Version, *, by: str) -> None:
    """Make it the live one of its kind; the one that was is kept, for `rollback`."""
    connection.execute(SQL["version_retire"], {"kind": version.kind})
    connection.execute(SQL["version_promote"], {"id": version.id, "by": by})


def before(connection: Conn, kind: Kind) -> Version | None:
    """The version that was live before the live one; None: it was the untrained model.

    Raises `ConfigError` when no version is live.
    """
    if live(connection, kind) is None:
        raise ConfigError(
            f"No trained {kind} is live, so there is nothing to take back. Nothing was changed."
        )
    row = connection.execute(SQL["version_before"], {"kind": kind}).fetchone()
    return _version(row) if row else None


def rollback(connection: Conn, kind: Kind) -> Version | None:
    """Make the version live that was before; returns it, or None: now it is the untrained model.

    Raises `ConfigError` when no version is live.
    """
    found = before(connection, kind)
    connection.execute(SQL["version_retire"], {"kind": kind})
    if found is not None:
        # It keeps the time of its promotion: a second rollback goes on to the one before it.
        connection.execute(b"update version set state = 'live' where id = %(id)s", {"id": found.id})
    return found


def answers(connection: Conn, kind: Kind, name: str, *, by: str) -> None:
    """The model of that name answers from now on: a version, promoted or come back, or the untrained model."""
    row = connection.execute(SQL["version_get"], {"name": name}).fetchone()
    if row is None:
        connection.execute(SQL["version_retire"], {"kind": kind})
        return
    last = before(connection, kind) if live(connection, kind) else None
    if last is not None and last.name == name:
        rollback(connection, kind)
    else:
        promote(connection, _version(row), by=by)


def remember(
    connection: Conn, version: Version, documents: Iterable[int], messages: Iterable[int] = ()
) -> None:
    """Note what it was trained on: ids of documents, and of answers that somebody judged."""
    connection.execute(SQL["version_remember"], {"id": version.id, "documents": list(documents)})
    connection.execute(SQL["version_remember_messages"], {"id": version.id, "messages": list(messages)})


def inherit(connection: Conn, version: Version, start: Version) -> None:
    """Note that it was trained on all that `start` was trained on."""
    connection.execute(SQL["version_inherit"], {"id": version.id, "start": start.id})


def measured_with(connection: Conn, version: Version) -> str | None:
    """Hash of the dataset whose development and test parts tell how good it is.

    Of one that goes on from another that one's: judged answers have no questions that should be declined.
    """
    while version.recipe.get("start"):
        version = get(connection, version.recipe["start"])
    return version.dataset_hash


def trained_on(connection: Conn, documents: Sequence[int], messages: Sequence[int] = ()) -> list[str]:
    """Names of the versions that were trained on one of these documents or judged answers, the oldest first."""
    values = {"documents": list(documents), "messages": list(messages)}
    rows = connection.execute(SQL["versions_trained_on"], values)
    return [row["name"] for row in rows]


def _version(row: Row) -> Version:
    values: Row = {**row, "kind": Kind(row["kind"])}
    return Version(**values)
