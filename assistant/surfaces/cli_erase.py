"""`deskhand erase …`: a customer or a person goes, with a report that proves it, and does not come back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from assistant import servers
from assistant.store import erasure
from assistant.store.erasure import Report
from assistant.surfaces.terminal import Json, opened, out, print_json, print_rows

erase = typer.Typer(no_args_is_help=True, help="Erase a customer or a person for good (GDPR, article 17).")

Also = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="TEXT", help="Another name they go by in texts. May be repeated."),
]
Mentions = Annotated[
    bool, typer.Option("--mentions", help="Erase other documents and tickets that name them, too.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask. Without it, --json shows what would go.")]

ELSEWHERE = (
    "Not reached from here: the source itself, backups and the write-ahead log of the database, the server's "
    "own log, exports and results of `deskhand eval` in files. Freed space holds its old bytes until it is "
    "written again; `vacuum full` rewrites a table at once."
)
SHOWN = 30


@erase.command("customer")
def erase_customer(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="Its exact name, number, id or domain.")],
    also: Also = None,
    mentions: Mentions = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Everything of a customer under all its names: tickets, attachments, conversations, people."""
    _erase(erasure.CUSTOMER, name, also or [], mentions=mentions, yes=yes, as_json=as_json)


@erase.command("person")
def erase_person(
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    also: Also = None,
    mentions: Mentions = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Everything of a person: their tickets, conversations, accounts and rights."""
    _erase(erasure.PERSON, email, also or [], mentions=mentions, yes=yes, as_json=as_json)


@erase.command("list")
def list_erasures(as_json: Json = False) -> None:
    """What was erased when: numbers and counts, no names."""
    with opened() as assistant:
        rows = erasure.listing(assistant.database)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["rows"] = sum(row["report"]["removed"].values())
        left = row["report"]["left"]
        row["search"] = "not made" if left is None else f"{sum(left.values())} found"
    columns = {
        "id": "Number",
        "at": "Erased",
        "kind": "What",
        "actor": "By",
        "rows": "Rows",
        "search": "Search afterwards",
        "blocked": "Blocked",
        "lifted_at": "Lifted",
    }
    print_rows(rows, columns, empty="Nothing was erased yet.")


@erase.command("lift")
def lift(number: Annotated[int, typer.Argument(metavar="ID", help="Its number in `erase list`.")]) -> None:
    """Let in again what was erased, as far as its sources still have it."""
    with opened() as assistant:
        names = erasure.lift(assistant.database, number, actor="cli")
    read = f" Read anew from the start: {', '.join(names)}." if names else ""
    out.print(f"✓ Erasure {number} no longer keeps anything out.{read}", markup=False)


def _erase(kind: str, name: str, also: Sequence[str], *, mentions: bool, yes: bool, as_json: bool) -> None:
    with opened() as assistant:
        if not yes:
            planned = erasure.plan(assistant.database, kind, name, also=also, mentions=mentions)
            if as_json:
                print_json(_json(planned))
                return
            _show(planned)
            typer.confirm("Erase this for good?", abort=True)
        report = erasure.erase(
            assistant.database,
            assistant.fingerprint,
            kind,
            name,
            actor="cli",
            also=also,
            mentions=mentions,
        )
        kept = servers.forget_texts(assistant.settings)
    if as_json:
        print_json({**_json(report), "broker": kept})
    else:
        _show(report)
        out.print(
            f"  {kept}" if kept else "  The message broker forgot answers and files, too.", markup=False
        )
    if report.left:
        raise SystemExit(1)


def _json(report: Report) -> dict[str, Any]:
    def told(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: row[k] for k in ("id", "source", "external_id", "kind", "title", "url")} for row in rows]

    return {
        **json.loads(report.stored()),
        "erasure": report.id,
        "kind": report.kind,
        "of": report.label,
        "searched": report.words,
        "documents": told(report.documents),
        "mentions": told(report.mentions),
        "elsewhere": ELSEWHERE,
    }


def _show(report: Report) -> None:
    done = report.id is not None
    verb = "Erased" if done else "Would be erased"
    out.print(f"{verb}: {report.kind} «{report.label}»", markup=False)
    out.print(f"  looked for in texts: {', '.join(report.words) or 'nothing'}", markup=False)
    for table, count in report.removed.items():
        out.print(f"  {table}: {count:,}", markup=False)
    _list("Tickets and documents", report.documents)
    fate = (
        "erased as well" if report.mentions_erased else "they stay, as the truth about them is in the source"
    )
    _list(f"Others that name them ({fate}; --mentions erases them, too)", report.mentions)
    if report.versions:
        out.print(
            f"Trained on something of it: {', '.join(report.versions)}. What a model learnt can't be taken out of "
            "it: make a dataset, train and promote a new version, then delete these.",
            markup=False,
        )
    if report.waiting:
        out.print(
            f"{report.waiting:,} documents still wait to be indexed: mentions in files among them can't all be "
            "found yet. Better wait until `deskhand status` shows none."
        )
    if not done:
        return
    if report.left:
        out.print("✗ Still found, so look there:")
        for place, count in report.left.items():
            out.print(f"  {place}: {count:,}", markup=False)
    else:
        out.print("✓ Searched afterwards in all columns: nothing is left.")
    out.print(f"  Erasure {report.id}: no sync brings it back until `deskhand erase lift {report.id}`.")
    out.print(f"  {ELSEWHERE}", markup=False, style="dim")


def _list(heading: str, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        out.print(f"{heading}:", markup=False)
    for row in rows[:SHOWN]:
        out.print(f"  {row['source']} {row['external_id']}  {row['title']}  {row['url']}", markup=False)
    if len(rows) > SHOWN:
        out.print(f"  … and {len(rows) - SHOWN:,} more (--json lists all)")
