"""`deskhand feedback`, `gaps`, `documents`: saying whether an answer helped, and what is to be done about it.

`feedback add` is everybody's, for their own answers. The lists are the knowledge owner's:
they show questions that were declined or judged, without who asked, and each look is in the
audit log.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.markup import escape

from assistant.model import Audience
from assistant.store import conversations
from assistant.store import feedback as store
from assistant.store.feedback import Verdict
from assistant.surfaces.terminal import As, Days, Json, ago, asker, opened, out, print_json, print_rows

feedback = typer.Typer(no_args_is_help=True, help="What people say of answers.")
gaps = typer.Typer(no_args_is_help=True, help="What people ask and the sources don't have.")
documents = typer.Typer(no_args_is_help=True, help="Documents that somebody should look at.")

Limit = Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")]


@feedback.command("add")
def add(
    message: Annotated[
        int, typer.Argument(min=1, max=2**63 - 1, help="The number that stands under the answer.")
    ],
    verdict: Annotated[Verdict, typer.Argument(help="`accepted`: you sent it, as it was or nearly so.")],
    source: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Which of its sources is wrong: 2 for [2].")
    ] = None,
    comment: Annotated[str, typer.Option(help="Why; the knowledge owner reads it.")] = "",
    who: As = "",
) -> None:
    """Say whether an answer of yours helped. A second verdict of the same kind replaces the first."""
    with opened() as assistant:
        principal = asker(assistant, who)
        with assistant.database.reader(principal, Audience.INTERNAL) as connection:
            store.add(connection, message, verdict, source=source, comment=comment[:2000])
    out.print(f"✓ {verdict} is noted for answer {message}.")


@feedback.command("list")
def list_feedback(
    days: Days = 90,
    verdict: Annotated[Verdict | None, typer.Option(help="Only these.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """What was said of answers, with question, model and cited documents; not by whom."""
    from assistant.evaluate.gaps import shown

    with opened() as assistant, assistant.database.writer() as connection:
        rows = store.listing(connection, since=ago(days), verdict=verdict, limit=limit)
        conversations.audit(connection, actor="cli", action="feedback.list", detail={"rows": len(rows)})
    for row in rows:
        row["question"], row["comment"] = shown(row["question"]), shown(row["comment"])
    if as_json:
        print_json(rows)
        return
    columns = {"message": "Answer", "at": "When", "verdict": "Verdict", "question": "Question"}
    columns |= {"comment": "Comment", "documents": "Documents", "model": "Model"}
    print_rows(rows, columns, empty="Nobody has said anything of an answer yet.")


@gaps.command("list")
def list_gaps(days: Days = 90, limit: Limit = 20, as_json: Json = False) -> None:
    """Questions that were declined or answered badly, grouped by meaning, the most asked first."""
    from assistant.evaluate.gaps import find

    with opened() as assistant:
        found, questions = find(assistant, since=ago(days), limit=limit)
        with assistant.database.writer() as connection:
            conversations.audit(connection, actor="cli", action="gaps.list", detail={"questions": questions})
    if as_json:
        print_json([dataclasses.asdict(gap) for gap in found])
        return
    for gap in found:
        many = "question" if gap.questions == 1 else "questions"
        people = "1 person" if gap.people == 1 else f"{gap.people} people"
        out.print(
            f"[bold]{gap.questions}[/] {many} of {people}, last {gap.latest:%Y-%m-%d}: {escape(gap.question)}",
            soft_wrap=True,
        )
        for document in gap.documents:
            out.print(f"    {document['title']} {document['url']}".rstrip(), style="dim", markup=False)
    if not found:
        out.print(f"Nothing was declined or answered badly in the last {days} days.")


@documents.command("stale")
def stale(
    months: Annotated[int, typer.Option(min=1, max=600, help="Not changed for more than so many.")] = 12,
    cited: Annotated[int, typer.Option(min=1, help="And cited by so many answers at least.")] = 3,
    days: Days = 90,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Documents that people call wrong or outdated, and old ones that answers still rest on."""
    from assistant.evaluate.gaps import shown

    with opened() as assistant, assistant.database.writer() as connection:
        said = store.complained(connection, limit=limit)
        old = store.old(connection, since=ago(days), months=months, cited=cited, limit=limit)
    for row in said:
        row["comments"] = [shown(comment) for comment in row["comments"]]
    if as_json:
        print_json({"complained": said, "old": old})
        return
    columns = {"title": "Document", "source": "Source", "changed": "Changed", "people": "People"}
    told = {**columns, "wrong": "Wrong", "outdated": "Outdated", "latest": "Latest", "comments": "Comments"}
    print_rows(said, told, title="Called wrong or outdated since they changed", empty="No complaints.")
    out.print()
    title = f"Not changed for {months} months, and cited in the last {days} days"
    print_rows(old, {**columns, "answers": "Answers", "latest": "Latest"}, title=title, empty="None old.")
