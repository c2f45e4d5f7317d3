"""`deskhand source …` and `deskhand failures …`."""

from __future__ import annotations

import json
import re
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import PydanticUndefined
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from assistant.app import Assistant, build_connector, split_secrets
from assistant.errors import ConfigError, SourceError
from assistant.store import breaker, conversations, failures, manage, schedule, secrets, sources
from assistant.store.schedule import Job, Times
from assistant.surfaces.terminal import Json, err, opened, out, print_json, print_rows
from connectors.base import NotesSettings
from connectors.registry import CONNECTORS, connector_class

source = typer.Typer(no_args_is_help=True, help="The places documents and tickets come from.")
failure = typer.Typer(no_args_is_help=True, help="What could not be read or indexed, and trying it again.")


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


SOURCE_COLUMNS = {
    "name": "Source",
    "connector": "Connector",
    "documents": "Documents",
    "tickets": "Tickets",
    "chunks": "Chunks",
    "pending": "To index",
    "failures": "Failures",
    "run_state": "Last sync",
    "finished_at": "Finished",
    "note": "",
}


@source.command()
def add(
    name: Annotated[str, typer.Argument(help="Your name for it: letters, digits, dots, dashes.")],
    connector: Annotated[str, typer.Argument(help=f"One of: {', '.join(CONNECTORS)}.")],
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting; JSON for lists and maps."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--settings", help="JSON or TOML file with its settings.")
    ] = None,
    every: Annotated[str, typer.Option(help="How often to sync: 30s, 15m, 6h, 1d or never.")] = "15m",
    realm: Annotated[
        str, typer.Option(help="Sources of one realm share users and groups. Default: its own name.")
    ] = "",
    wait: Annotated[bool, typer.Option(help="Wait until the first sync is done.")] = False,
) -> None:
    """Add a source: asks for what its connector needs, tries it, and says what it found."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", name):
        raise ConfigError(f"«{name}» can't be a source's name: use a–z, 0–9, dot, dash, underscore.")
    chosen = {**_from_file(file), **_pairs(values or [])}
    if sys.stdin.isatty():
        chosen = {**_ask(connector, chosen), **chosen}
    seconds = schedule.parse_every(every)
    plain, hidden = split_secrets(connector, chosen)
    with opened() as assistant:
        made = build_connector(connector, chosen, assistant.network)
        try:
            found = made.check()
        except SourceError as error:
            raise ConfigError(f"{error} The source was not added.") from error
        finally:
            made.close()
        sealed = secrets.seal(assistant.settings, hidden)
        with assistant.database.writer() as connection:
            sources.add(
                connection,
                name=name,
                connector=connector,
                realm=realm or name,
                settings=plain,
                secrets=sealed,
                every_seconds=seconds,
            )
            conversations.audit(connection, actor="cli", action="source.add", object=name)
        out.print(f"✓ {found}")
        out.print(f"Source «{name}» added; it is synced {'every ' + every if seconds else 'when asked'}.")
        if wait:
            with assistant.database.writer() as connection:
                runs = sources.request_all(connection, sources.get(connection, name))
            follow(assistant, runs)


@source.command("list")
def list_sources(as_json: Json = False) -> None:
    """All sources with their counts and last sync."""
    with opened() as assistant, assistant.database.writer() as connection:
        rows = sources.overview(connection)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["note"] = remark(row)
    print_rows(rows, SOURCE_COLUMNS, empty="No source yet: `deskhand source add NAME CONNECTOR`.")


@source.command()
def sync(
    name: Annotated[str, typer.Argument(help="The source; `all` for every one.")],
    wait: Annotated[bool, typer.Option(help="Wait and show progress.")] = True,
    prune_all: Annotated[
        bool, typer.Option("--prune-all", help="Confirm that most of its documents are really gone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Sync now: reads what changed and indexes it."""
    with opened() as assistant:
        with assistant.database.writer() as connection:
            chosen = [one.name for one in sources.everything(connection)] if name == "all" else [name]
            runs = [manage.sync(connection, one, by="cli", prune_all=prune_all) for one in chosen]
        if not wait:
            out.print("Queued.")
            return
        for of_source in runs:
            result = follow(assistant, of_source, quiet=as_json)
            if as_json:
                print_json(result)


@source.command("schedule")
def set_schedule(
    name: Annotated[str, typer.Argument(help="The source; without a job its schedules are listed.")],
    job: Annotated[
        Job | None,
        typer.Argument(help="sync, permissions (who may read what), inventory (what is gone), retry."),
    ] = None,
    every: Annotated[str, typer.Option(help="An interval: 30s, 15m, 6h, 1d; or never.")] = "",
    cron: Annotated[str, typer.Option(help="Times as cron has them, «30 6 * * 1-5».")] = "",
    zone: Annotated[str, typer.Option(help="Time zone of --cron.")] = "UTC",
    jitter: Annotated[str, typer.Option(help="Up to so much later, so that not all begin at once.")] = "",
    pause: Annotated[bool | None, typer.Option("--pause/--resume", help="Suspend the job, or go on.")] = None,
    as_json: Json = False,
) -> None:
    """Show or set when each job of a source is done."""
    with opened() as assistant, assistant.database.writer() as connection:
        one = sources.get(connection, name)
        if job is not None and pause is not None:
            schedule.pause(connection, one.id, job, paused=pause)
        if job is not None and every == "never":
            schedule.drop(connection, one.id, job)
        elif job is not None and (every or cron):
            late = schedule.parse_every(jitter) if jitter else None
            times = Times(schedule.parse_every(every) if every else None, cron, zone, late or 0.0)
            schedule.put(connection, one.id, job, times)
        elif job is None and (every or cron or pause is not None):
            raise ConfigError(
                "Name the job as well: sync, permissions, inventory or retry. Nothing was changed."
            )
        if job is not None:
            conversations.audit(
                connection, actor="cli", action="source.schedule", object=f"{name} {job.value}"
            )
        rows = schedule.everything(connection, source=name)
    if as_json:
        print_json(rows)
        return
    columns = {
        "job": "Job",
        "every": "Every (s)",
        "cron": "Cron",
        "zone": "Zone",
        "jitter": "Jitter (s)",
        "paused": "Paused",
        "next_at": "Next",
    }
    print_rows(rows, columns, empty=f"«{name}» is synced only when asked.")


@source.command("held")
def held_back(as_json: Json = False) -> None:
    """Deletions that wait for you, because too many documents disappeared at once."""
    with opened() as assistant, assistant.database.writer() as connection:
        rows = breaker.held(connection)
    if as_json:
        print_json(rows)
        return
    columns = {
        "source": "Source",
        "missing": "Missing",
        "documents": "Of",
        "held_at": "Since",
        "examples": "For example",
    }
    print_rows(rows, columns, empty="No deletion is held back.")
    if rows:
        out.print(
            "Confirm with `deskhand source sync NAME --prune-all`, if they are really gone.", markup=False
        )


@source.command()
def pause(name: str) -> None:
    """Stop syncing a source until `deskhand source resume`; what is indexed stays."""
    with opened() as assistant, assistant.database.writer() as connection:
        manage.pause(connection, name, by="cli")
    out.print(f"«{name}» is paused. `deskhand source resume {name}` goes on from where it was.")


@source.command()
def resume(name: str) -> None:
    """Sync a paused source again, from where it was."""
    with opened() as assistant, assistant.database.writer() as connection:
        manage.resume(connection, name, by="cli")
    out.print(f"«{name}» is synced again.")


@source.command("notes")
def allow_notes(name: str, allowed: Annotated[Switch, typer.Argument(help="on or off.")]) -> None:
    """Whether Deskhand may write internal notes on its tickets, for questions that are handed over."""
    with opened() as assistant, assistant.database.writer() as connection:
        one = sources.get(connection, name)
        if not issubclass(connector_class(one.connector).Settings, NotesSettings):
            raise ConfigError(
                f"Deskhand can't write notes to «{name}» ({one.connector}). Nothing was changed."
            )
        sources.change(connection, one.id, {"notes": allowed is Switch.ON})
        conversations.audit(connection, actor="cli", action=f"source.notes {allowed.value}", object=name)
    may = "may" if allowed is Switch.ON else "may not"
    out.print(f"Deskhand {may} write internal notes to «{name}».", markup=False)


@source.command()
def remove(name: str, yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False) -> None:
    """Remove a source and everything read from it."""
    with opened() as assistant, assistant.database.writer() as connection:
        one = sources.get(connection, name)
        if not yes and not typer.confirm(f"Remove «{name}» with all its documents and tickets?"):
            out.print("Nothing was changed.")
            return
        sources.remove(connection, one)
        conversations.audit(connection, actor="cli", action="source.remove", object=name)
    out.print(f"«{name}» is gone, and nothing of it can be found any more.")


def remark(row: Mapping[str, Any]) -> str:
    """What an admin should know of a source: why it stands still, what failed, what awaits confirmation."""
    held = f"{row['held']:,} deletions are held back: see `deskhand source held`." if row["held"] else ""
    return row["paused"] or row["error"] or held or row["note"] or ""


def follow(assistant: Assistant, runs: Sequence[int], *, quiet: bool = False) -> dict[str, Any]:
    """Watch the runs of a source (see `sources.request_all`) until it is read and indexed.

    Returns the sync's row, with what the others deleted and noted. Raises `SourceError` when one failed.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=quiet, transient=True) as progress:
        task = progress.add_task("waiting for the worker", total=None)
        while True:
            with assistant.database.writer() as connection:
                rows = [row for run_id in runs if (row := sources.run(connection, run_id))]
            if len(rows) < len(runs):
                raise ConfigError("The source was removed meanwhile.")
            row = next(row for row in rows if row["job"] == Job.SYNC)
            failed = next((row["error"] for row in rows if row["state"] == "failed"), "")
            reading = any(row["state"] in ("queued", "running") for row in rows)
            done, total = sources.progress(row)
            progress.update(
                task,
                description=f"{row['source']}: {'reading' if reading else 'indexing'}",
                total=total or None,
                completed=done,
            )
            if failed or (not reading and row["pending"] == 0):
                break
            time.sleep(0.25)
    if failed:
        raise SourceError(failed)
    row["deleted"] = sum(one["deleted"] for one in rows)
    row["note"] = " ".join(one["note"] for one in rows if one["note"])
    if not quiet:
        out.print(
            f"✓ {row['source']}: {row['added']} new, {row['changed']} changed, {row['unchanged']} unchanged, "
            f"{row['deleted']} deleted, {row['failed']} unreadable"
        )
        if row["note"]:
            out.print(f"  {row['note']}", markup=False)
    return dict(row)


@failure.command("list")
def list_failures(
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None, as_json: Json = False
) -> None:
    """Every document that could not be used, with the reason."""
    with opened() as assistant, assistant.database.writer() as connection:
        rows = failures.listing(connection, source=source)
    if as_json:
        print_json(rows)
        return
    columns = {
        "id": "Id",
        "source": "Source",
        "external_id": "Document",
        "stage": "Stage",
        "attempts": "Tries",
        "last_at": "Last",
        "reason": "Reason",
    }
    print_rows(rows, columns, empty="No failures.")


@failure.command()
def retry(
    ids: Annotated[list[int] | None, typer.Argument(help="Ids from `deskhand failures list`.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Try failed documents again."""
    with opened() as assistant, assistant.database.writer() as connection:
        chosen = [row["id"] for row in failures.listing(connection)] if every else list(ids or [])
        if not chosen:
            raise ConfigError("Nothing to retry: give ids from `deskhand failures list`, or --all.")
        count = failures.retry(connection, chosen)
    out.print(f"{count} queued again.")


def _pairs(values: list[str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for pair in values:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ConfigError(f"«{key}» needs a value: --set {key}=VALUE.")
        try:
            chosen[key] = json.loads(value) if value[:1] in "[{" else value
        except ValueError:
            raise ConfigError(f"The value of {key} looks like JSON but is not.") from None
    return chosen


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        text = file.read_text(encoding="utf-8")
        return tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} could not be read as settings: {error}. Nothing was added.") from error


def _ask(connector: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """Ask for the required settings that were not given; secrets are not shown."""
    answers: dict[str, Any] = {}
    for name, field in connector_class(connector).Settings.model_fields.items():
        if name in chosen or field.default is not PydanticUndefined or field.default_factory:
            continue
        _, hidden = split_secrets(connector, {name: ""})
        text = typer.prompt(f"{name} ({field.description or 'required'})", hide_input=bool(hidden))
        answers.update(_pairs([f"{name}={text}"]))
    return answers
