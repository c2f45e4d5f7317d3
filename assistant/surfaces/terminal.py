"""What every command shares: the console, the JSON switch, errors as sentences, the assistant."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from assistant.app import Assistant
from assistant.config import settings
from assistant.errors import DeskhandError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of a table.")]
As = Annotated[
    str, typer.Option("--as", metavar="EMAIL", help="Whose permissions hold. Default: DESKHAND_PRINCIPAL.")
]

Customer = Annotated[
    str, typer.Option(help="The customer in question (name, id or domain). Default: whom the question names.")
]
TicketId = Annotated[str, typer.Option("--ticket", help="The ticket in question: its number or address.")]
Days = Annotated[int, typer.Option("--days", min=1, max=36_500, help="Of the last so many days.")]


@contextmanager
def opened() -> Generator[Assistant]:
    """The assistant for one command, closed afterwards."""
    assistant = Assistant(settings())
    try:
        yield assistant
    finally:
        assistant.close()


def asker(assistant: Assistant, given: str) -> Any:
    return assistant.principal(given or assistant.settings.principal)


def ago(days: int) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=days)


def show_number(message: int, verdicts: str) -> None:
    """How to say whether an answer helped."""
    out.print(f"\nDid it help? `deskhand feedback add {message} {verdicts}`", style="dim", markup=False)


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=plain, ensure_ascii=False, indent=2) + "\n")


def plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    if isinstance(value, frozenset | set):
        return sorted(str(v) for v in value)  # pyright: ignore[reportUnknownArgumentType] - of anything
    return str(value)


def print_rows(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, title: str = "", empty: str = ""
) -> None:
    """`rows` as a table; `columns` maps a key to its heading."""
    if not rows:
        out.print(empty or "Nothing yet.")
        return
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_escape(show(row.get(key))) for key in columns))
    out.print(table)


def show(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, dt.datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)  # pyright: ignore[reportUnknownVariableType] - of anything
    return str(value)


@contextmanager
def progress_bars(*, quiet: bool) -> Generator[Callable[[str, int, int], None]]:
    """A bar a step (its name, how many are done, of how many), on standard error: standard output is for results."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=quiet or not err.is_terminal) as bar:
        steps: dict[str, Any] = {}

        def told(step: str, done: int, total: int) -> None:
            if step not in steps:
                steps[step] = bar.add_task(step, total=total)
            bar.update(steps[step], completed=done, total=total)

        yield told


def guarded(run: Callable[[], None]) -> None:
    """Run a command; an expected error is a sentence and exit code 1, never a traceback."""
    try:
        run()
    except DeskhandError as error:
        err.print(f"[bold red]✗[/] {_escape(str(error))}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        err.print("Stopped. Nothing was lost.")
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except Exception as error:
        if settings().log_level.upper() == "DEBUG":
            raise
        err.print(
            f"[bold red]✗[/] An error that Deskhand did not foresee: {type(error).__name__}: "
            f"{_escape(str(error)[:300])}\nNothing that was stored is lost. Run it again with "
            "DESKHAND_LOG_LEVEL=DEBUG for the details, and please report them."
        )
        raise SystemExit(70) from None


def _escape(text: str) -> str:
    return text.replace("[", "\\[")
