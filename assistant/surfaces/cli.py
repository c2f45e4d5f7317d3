"""The command line. `deskhand --help` shows it all; `--json` is for scripts."""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from assistant import log
from assistant.answer import rewrite
from assistant.app import Assistant
from assistant.config import settings
from assistant.errors import DeskhandError
from assistant.model import Audience, Kind, Principal
from assistant.retrieve.about import About
from assistant.retrieve.scope import Scope
from assistant.store import sources
from assistant.store.search import Filters
from assistant.surfaces.asking import Asking
from assistant.surfaces.cli_groups import Groups
from assistant.surfaces.terminal import (
    As,
    Customer,
    Json,
    TicketId,
    asker,
    err,
    guarded,
    opened,
    out,
    print_json,
    print_rows,
    show_number,
)

app = typer.Typer(
    cls=Groups,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Answers support questions from your documents, tickets and customers' history, with sources.",
)

Public = Annotated[
    bool, typer.Option("--public", help="Use only what may be told to a customer: no internal notes.")
]
AsOf = Annotated[
    dt.datetime | None,
    typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Nothing written after this day."),
]


@app.command()
def up() -> None:
    """Run everything until Ctrl-C: database, broker, workers, scheduler. Restarts what dies."""
    from assistant.runtime.process import Process
    from assistant.runtime.up import environment, running, standard_processes
    from assistant.surfaces import cli_login, cli_models, slack
    from assistant.surfaces.api.serve import address

    config = settings()
    bots = slack.processes(config)
    cli_models.pull_needed()
    started = time.monotonic()
    web = Process(
        name="web",
        command=(sys.executable, "-m", "assistant.surfaces.api.serve"),
        env=environment(config),
        ready=lambda: bool(address(config.state)),
    )
    everything = [*standard_processes(config), web, *bots]
    with running(config, migrate=_migrate, processes=everything) as supervisor:
        out.print(f"✓ Deskhand runs ({time.monotonic() - started:.1f} s). Ctrl-C stops it; nothing is lost.")
        out.print(f"  logs: {config.state / 'logs'} · sources: `deskhand source list` · try: `deskhand ask`")
        out.print(f"  web: {address(config.state)} (hooks of sources: /hooks/NAME)")
        cli_login.hint()
        supervisor.wait()


@app.command()
def demo(
    picture: Annotated[
        Path | None, typer.Option("--picture", hidden=True, help="Write an SVG of it.")
    ] = None,
) -> None:
    """The sample company from nothing to four answers, then stop."""
    from assistant.surfaces.demo import run

    run(picture)


@app.command()
def migrate() -> None:
    """Bring the database's schema up to this version."""
    with opened() as assistant:
        assistant.migrate()
    out.print("✓ The schema is up to date.")


@app.command()
def doctor(
    as_json: Json = False,
    show_settings: Annotated[bool, typer.Option("--settings", help="List all settings.")] = False,
) -> None:
    """Check every component and say how to mend what is wrong."""
    if show_settings:
        _print_settings(as_json=as_json)
        return
    from assistant.runtime.doctor import diagnose

    with opened() as assistant:
        checks = list(diagnose(assistant))
    if as_json:
        print_json([{"name": c.name, "ok": c.ok, "detail": c.detail, "remedy": c.remedy} for c in checks])
    else:
        for check in checks:
            out.print(f"{'[green]✓[/]' if check.ok else '[bold red]✗[/]'} {check.name}: {check.detail}")
            if not check.ok:
                out.print(f"    → {check.remedy}")
    if not all(check.ok for check in checks):
        raise SystemExit(1)


@app.command()
def status(
    as_json: Json = False,
) -> None:
    """What runs, and how far each source is."""
    from assistant.runtime.supervisor import read_status
    from assistant.surfaces import cli_sources

    with opened() as assistant, assistant.database.writer() as connection:
        rows = sources.overview(connection)
    running = read_status(settings().state)
    processes = [dataclasses.asdict(p) for p in running.processes] if running and running.alive else []
    if as_json:
        print_json({"processes": processes, "sources": rows})
    else:
        headings = {
            "name": "Process",
            "state": "State",
            "pid": "Pid",
            "restarts": "Restarts",
            "since": "Since",
        }
        if processes:
            print_rows(processes, headings)
            out.print()
        for row in rows:
            row["note"] = cli_sources.remark(row)
        print_rows(rows, cli_sources.SOURCE_COLUMNS, empty="No source yet: `deskhand source add`.")


@app.command()
def search(
    question: str,
    who: As = "",
    customer: Customer = "",
    kind: Annotated[Kind | None, typer.Option(help="Only documents, or only tickets.")] = None,
    source: Annotated[str, typer.Option(help="Only from this source.")] = "",
    language: Annotated[str, typer.Option(help="Only texts of this language, such as en.")] = "",
    as_of: AsOf = None,
    public: Public = False,
    limit: Annotated[int, typer.Option(min=1, max=50)] = 8,
    as_json: Json = False,
) -> None:
    """Find passages without asking the generator."""
    from assistant.surfaces.answers import describe, passage_json

    with opened() as assistant:
        principal = asker(assistant, who)
        found = assistant.retriever.passages(
            rewrite.checked(question, assistant.settings.question_max_chars),
            Scope(
                principal,
                Audience.PUBLIC if public else Audience.INTERNAL,
                narrowed(
                    assistant,
                    principal,
                    customer=customer,
                    as_of=as_of,
                    kind=kind,
                    source=source,
                    language=language,
                ),
            ),
            limit=limit,
        )
    if as_json:
        print_json([passage_json(p) for p in found])
        return
    for number, passage in enumerate(found, 1):
        out.print(f"[bold]{number}.[/] {passage.score:.3f} ", end="")
        out.print(describe(passage), markup=False)
        out.print(f"   {' '.join(passage.text.split())[:300]}", markup=False, style="dim")
    if not found:
        out.print("Nothing that you may read matches.")


@app.command()
def ask(
    question: str,
    who: As = "",
    customer: Customer = "",
    ticket: TicketId = "",
    as_of: AsOf = None,
    public: Public = False,
    escalate: Annotated[
        bool, typer.Option("--escalate", help="Hand it over to a person if the sources don't have it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask one question; the answer cites its sources or says that they don't have it."""
    from assistant.surfaces import cli_escalations
    from assistant.surfaces.answers import as_json as answer_json
    from assistant.surfaces.answers import drain

    with opened() as assistant:
        principal = asker(assistant, who)
        asking = Asking(
            assistant,
            principal,
            question,
            customer=customer,
            ticket=ticket,
            public=public,
            filters=narrowed(assistant, principal, as_of=as_of),
            surface="cli",
        )
        if not as_json:
            show_about(asking.about)
        answer = drain(asking.events(), out, quiet=as_json)
        made = None
        if escalate and answer.refusal:
            made = assistant.escalate(
                asking.scope, question, answer.question, message=asking.message, passages=answer.passages
            )
    if as_json:
        name = asking.about.customer and asking.about.customer.name
        about = {"customer": name, "about": asking.about.how, "others": asking.about.others}
        ids = {"conversation": asking.conversation, "message": asking.message, "escalation": made}
        print_json({**answer_json(answer), **about, **ids})
    else:
        if answer.refusal:
            cli_escalations.offer(asking.message, made)
        show_number(asking.message, "up|down")


@app.command()
def chat(who: As = "", customer: Customer = "", public: Public = False) -> None:
    """A conversation: follow-up questions are understood from what was said before."""
    from assistant.surfaces import cli_escalations
    from assistant.surfaces.answers import drain

    with opened() as assistant:
        principal = asker(assistant, who)
        talk = None
        out.print("Ask, or press Ctrl-D to end.", style="dim")
        while (question := _prompt()) is not None:
            try:
                asking = Asking(
                    assistant,
                    principal,
                    question,
                    customer=customer,
                    public=public,
                    conversation=talk,
                    surface="cli",
                )
                talk = asking.conversation
                if asking.about.how != "as before":
                    show_about(asking.about)
                answer = drain(asking.events(), out)
            except DeskhandError as error:
                err.print(str(error), markup=False)
                continue
            if answer.refusal:
                cli_escalations.offer(asking.message)
            show_number(asking.message, "up|down")


def show_about(about: About) -> None:
    """A guess is told, so that a wrong one is seen and put right."""
    if about.customer and about.how != "as you said":
        name = f"[bold]{escape(about.customer.name)}[/]"
        out.print(f"About {name} ({about.how}). Somebody else? Say so with --customer.", style="dim")
    elif about.others:
        listed = ", ".join(about.others[:5])
        out.print(f"It may be about {listed}: name one with --customer.", style="dim", markup=False)


def narrowed(
    assistant: Assistant,
    principal: Principal,
    *,
    customer: str = "",
    as_of: dt.datetime | None = None,
    kind: Kind | None = None,
    source: str = "",
    language: str = "",
) -> Filters:
    """The options of a command as filters."""
    chosen_sources: tuple[int, ...] | None = None
    if source:
        with assistant.database.writer() as connection:
            chosen_sources = (sources.get(connection, source).id,)
    return Filters(
        sources=chosen_sources,
        kinds=(kind,) if kind else None,
        customers=assistant.customer(principal, customer).ids if customer else None,
        languages=(language,) if language else None,
        before=as_of.replace(tzinfo=dt.UTC) if as_of else None,
    )


def _migrate(_url: str) -> None:
    with opened() as assistant:
        assistant.migrate()


def _prompt() -> str | None:
    try:
        return out.input("[bold]›[/] ")
    except EOFError:
        return None


def _print_settings(*, as_json: bool) -> None:
    config = settings()
    rows: list[dict[str, Any]] = [
        {
            "name": f"DESKHAND_{name.upper()}",
            "value": "(set)"
            if "Secret" in str(field.annotation) and getattr(config, name)
            else getattr(config, name),
            "default": field.default,
        }
        for name, field in type(config).model_fields.items()
    ]
    if as_json:
        print_json(rows)
        return
    print_rows(rows, {"name": "Setting", "value": "Value", "default": "Default"})


def main() -> None:
    """The console script."""

    def run() -> None:
        # What a person should know is printed; the log is for the processes that nobody watches.
        log.configure("DEBUG" if settings().log_level.upper() == "DEBUG" else "WARNING")
        app()

    guarded(run)


if __name__ == "__main__":
    main()
