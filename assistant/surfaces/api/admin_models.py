"""Models for admins: the versions that were trained here, how good they are, and which one answers."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from assistant.errors import ConfigError
from assistant.store import versions
from assistant.store.versions import Kind, Version
from assistant.surfaces.api.access import Caller, Desk, Role, needs
from assistant.surfaces.api.wire import Line, Text

router = APIRouter(prefix="/api/v1/admin", tags=["admin: models"])
Admin = Annotated[Caller, Depends(needs(Role.ADMIN, "admin"))]


class VersionRow(BaseModel):
    name: str
    kind: str
    """generator or embedder"""
    base: str
    state: str
    """training, failed, candidate, rejected, live or retired"""
    reason: str
    """why it failed, was rejected or could not be compared"""
    working: bool
    """it is being trained or compared at this moment"""
    created_at: dt.datetime
    promoted_at: dt.datetime | None
    promoted_by: str | None
    progress: float | None
    """0..1 of a training"""
    seconds_left: int | None
    metrics: dict[str, float]
    """of the training, and the means of what was measured last"""
    evaluated: dict[str, dict[str, Any]]
    """by what was measured on: each measure's value with its 95 % interval (low, high) and count"""
    losses: list[dict[str, float]]
    """{step, loss, dev_loss}, the curve of the training"""


class Promotion(BaseModel):
    force: Text = Field(default="", max_length=1_000)
    """a reason to make it live at once, without a comparison"""


class Answering(BaseModel):
    state: str
    """live, or comparing: it ends as live or rejected, minutes later"""


class Live(BaseModel):
    live: str
    """name of what answers now"""


@router.get("/models")
def list_versions(_: Admin, assistant: Desk) -> list[VersionRow]:
    """All versions, the latest first."""
    with assistant.database.writer() as connection:
        found, claimed = versions.everything(connection), versions.claimed(connection)
    folder = assistant.settings.models_folder
    return [_row(version, folder / version.folder, working=version.id in claimed) for version in found]


@router.post("/models/{name}/promote")
def promote(name: Line, wanted: Promotion, caller: Admin, assistant: Desk, response: Response) -> Answering:
    """Compare a candidate with what answers now and make it live if it is better; with `force` at once."""
    from assistant.tune import promote as promotion
    from assistant.tune import promoting

    with assistant.database.writer() as connection:
        versions.get(connection, name)  # one that isn't there is told before what is lacking here
    if wanted.force.strip():
        promotion.promote(
            assistant, name, by=caller.principal.id, force=wanted.force.strip(), progress=promoting.silent
        )
        return Answering(state="live")
    promoting.start(assistant, name, by=caller.principal.id)
    response.status_code = 202
    return Answering(state="comparing")


@router.post("/models/{name}/rollback")
def rollback(name: Line, caller: Admin, assistant: Desk) -> Live:
    """Let what answered before the live version answer again, at once."""
    from assistant.tune import promote as promotion

    with assistant.database.writer() as connection:
        version = versions.get(connection, name)
        if version.kind is not Kind.GENERATOR:
            raise ConfigError(
                f"{name} is no generator. Nothing was changed; `deskhand tune retriever --back` takes an embedder back."
            )
        if version.state != "live":
            raise ConfigError(f"{name} is not live, so there is nothing to take back. Nothing was changed.")
    return Live(live=promotion.rollback(assistant, by=caller.principal.id))


def _row(version: Version, folder: Path, *, working: bool) -> VersionRow:
    from assistant.tune import card

    told = version.progress
    evaluated: dict[str, dict[str, Any]] = version.metrics.get("evaluated", {})
    means = {name: float(e["value"]) for part in list(evaluated.values())[-1:] for name, e in part.items()}
    numbers = {
        name: float(value)
        for name, value in version.metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    training = version.state == "training" and told.get("steps")
    return VersionRow(
        **{
            name: getattr(version, name)
            for name in ("name", "base", "state", "created_at", "promoted_at", "promoted_by")
        },
        kind=version.kind.value,
        reason=version.reason or told.get("trouble", ""),
        working=working,
        progress=told["step"] / told["steps"] if training else None,
        seconds_left=told.get("seconds_left") if training else None,
        metrics=numbers | means,
        evaluated=evaluated,
        losses=card.losses(folder, told),
    )
