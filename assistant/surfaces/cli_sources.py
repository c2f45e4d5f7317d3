"""`deskhand source …` and `deskhand failures …`."""

from __future__ import annotations

import json
import re
import sys
import time
import tomllib
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
from assistant.store import conversations, failures, secrets, sources
from assistant.surfaces.terminal import Json, err, opened, out, print_json, print_rows
from connectors.registry import CONNECTORS, connector_class

source = typer.Typer(no_args_is_help=True, help="The places documents and tickets come from.")
failure = typer.Typer(no_args_is_help=True, help="What could not be read or indexed, and trying it again.")

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
    made = build_connector(connector, chosen)
    try:
        found = made.check()
    except SourceError as error:
        raise ConfigError(f"{error} The source was not added.") from error
    finally:
        made.close()
    seconds = parse_every(every)
    plain, hidden = split_secrets(connector, chosen)
    with opened() as assistant:
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
                run_id = sources.request(connection, sources.get(connection, name))
            follow(assistant, run_id)


@source.command("list")
def list_sources(as_json: Json = False) -> None:
    """All sources with their counts and last sync."""
    with opened() as assistant, assistant.database.writer() as connection:
        rows = sources.overview(connection)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["note"] = row["paused"] or row["error"] or row["note"] or ""
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
            chosen = sources.everything(connection) if name == "all" else [sources.get(connection, name)]
            for one in chosen:
                sources.resume(connection, one.id)
            runs = [sources.request(connection, one, prune_all=prune_all) for one in chosen]
        if not wait:
            out.print("Queued.")
            return
        for run_id in runs:
            result = follow(assistant, run_id, quiet=as_json)
            if as_json:
                print_json(result)


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


def follow(assistant: Assistant, run_id: int, *, quiet: bool = False) -> dict[str, Any]:
    """Watch a run until its source is read and indexed. Raises `SourceError` when it failed."""
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
                row = sources.run(connection, run_id)
            if row is None:
                raise ConfigError("The source was removed meanwhile.")
            read = row["added"] + row["changed"] + row["unchanged"]
            reading = row["state"] in ("queued", "running")
            progress.update(
                task,
                description=f"{row['source']}: {'reading' if reading else 'indexing'}",
                total=max(row["total"] or 0, read) or None,
                completed=max(read - row["pending"], 0),
            )
            if not reading and (row["pending"] == 0 or row["state"] == "failed"):
                break
            time.sleep(0.25)
    if row["state"] == "failed":
        raise SourceError(row["error"])
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


def parse_every(text: str) -> float | None:
    """Seconds of «15m»; None for «never». Raises `ConfigError`."""
    if text == "never":
        return None
    match = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if not match:
        raise ConfigError(f"«{text}» is not an interval: use 30s, 15m, 6h, 1d or never.")
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    if seconds < 10:
        raise ConfigError("A source can be synced every 10 seconds at most.")
    return float(seconds)


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
