"""`deskhand demo`: the sample company, from nothing to four answers with their sources."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT

from assistant.answer.engine import DeskQueryEngine
from assistant.app import Assistant
from assistant.config import settings
from assistant.generate import base
from assistant.retrieve.scope import Scope
from assistant.store import logins, sources
from assistant.store.db import Conn
from assistant.store.logins import Role
from assistant.surfaces.answers import drain
from assistant.surfaces.cli_models import pull_needed
from assistant.surfaces.cli_sources import follow
from assistant.surfaces.terminal import opened, out

REALM = "fernhill"
ASKER = "mara.lindqvist@fernhill.example"


def run(picture: Path | None = None) -> None:
    """Start everything, sync the sample, ask, stop. Adds the sample's sources once.

    `picture`: where to write what the terminal showed, as SVG.
    """
    from assistant.generate.local import LocalChat
    from assistant.runtime.up import running, standard_processes

    config = settings()
    out.record = picture is not None
    began = time.monotonic()
    with as_file(files("assistant") / "sample") as sample:
        with step("Model weights"):
            pull_needed()
        with step("PostgreSQL, Valkey, schema, workers") as _:
            context = running(config, migrate=_migrate, processes=standard_processes(config))
            context.__enter__()
        try:
            with opened() as assistant:
                with step("Sync of the sample company"):
                    for runs in add_sample(assistant, sample):
                        follow(assistant, runs)
                writer = Assistant(config.model_copy(update={"answers": "write"}))
                with step("Load of the generator"):
                    if isinstance(writer.generator, LocalChat):
                        writer.generator.load()
                _ask(assistant, writer, sample)
                writer.close()
                password = _let_in(assistant)
        finally:
            with step("Stop"):
                context.__exit__(None, None, None)
    out.print(
        f"\n✓ Done in {time.monotonic() - began:.0f} s; nothing is left running. "
        "[bold]make up[/] starts it again and keeps it running."
    )
    out.print(f"  In its web chat sign in as {ASKER}, password {password}", markup=False)
    if picture is not None:
        # Without its link to a web font: a picture in a README should fetch nothing.
        plain = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        out.save_svg(str(picture), title="make demo", code_format=plain)


def add_sample(assistant: Assistant, sample: Path) -> list[list[int]]:
    """Add the sample's two sources where missing, and ask for a sync of both; the runs of each."""
    with assistant.database.writer() as connection:
        _add(
            connection,
            "fernhill-files",
            "directory",
            {
                "path": str(sample / "files"),
                "people": str(sample / "directory.json"),
                "access": ["group:support"],
                "access_rules": {"restricted/**": ["group:security"]},
            },
        )
        _add(
            connection,
            "fernhill-tickets",
            "ticket-export",
            {
                "path": str(sample / "tickets.jsonl"),
                "preset": "deskhand",
                "access": ["group:support"],
                "people": str(sample / "directory.json"),
            },
        )
        return [
            sources.request_all(connection, sources.get(connection, name))
            for name in ("fernhill-files", "fernhill-tickets")
        ]


def _add(connection: Conn, name: str, connector: str, values: dict[str, object]) -> None:
    if name not in {s.name for s in sources.everything(connection)}:
        sources.add(
            connection,
            name=name,
            connector=connector,
            realm=REALM,
            settings=values,
            secrets=None,
            every_seconds=900,
        )


def _ask(assistant: Assistant, writer: Assistant, sample: Path) -> None:
    """The demo's questions, as they are answered live; where it says so, also written by the adapter that ships."""
    principal = assistant.principal(ASKER)
    stands_by = base.name(writer.generator) != base.name(assistant.generator)
    for item in json.loads((sample / "demo.json").read_text(encoding="utf-8"))["questions"]:
        about = f" [dim](about the customer {item['customer']})[/]" if item["customer"] else ""
        out.print(f"\n[bold]Q: {item['question']}[/]{about}")
        known = assistant.customer(principal, item["customer"]) if item["customer"] else None
        scope = Scope(principal, customer=known.ids if known else None)
        _stream(assistant.engine(scope), item["question"])
        if stands_by and item.get("written"):
            name = base.name(writer.generator)
            out.print(
                f"\n[dim]The same, written by the fine-tuned generator {name} (DESKHAND_ANSWERS=write):[/]"
            )
            _stream(writer.engine(scope), item["question"])


def _stream(engine: DeskQueryEngine, question: str) -> None:
    started = time.monotonic()
    drain(engine.stream(question), out)
    out.print(f"[dim]{time.monotonic() - started:.1f} s[/]")


def _let_in(assistant: Assistant) -> str:
    """A login for the one who asks here, as an admin; the password is a new one each time."""
    password = logins.made_up()
    with assistant.database.writer() as connection:
        if ASKER not in {row["id"] for row in logins.everybody(connection)}:
            logins.add(connection, ASKER, Role.ADMIN)
        logins.set_password(connection, ASKER, password)
    return password


@contextmanager
def step(name: str) -> Generator[None]:
    """Say what is done and how long it took."""
    started = time.monotonic()
    yield
    out.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {name}")


def _migrate(_url: str) -> None:
    with opened() as assistant:
        assistant.migrate()
