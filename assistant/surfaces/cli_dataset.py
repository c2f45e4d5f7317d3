"""`deskhand tune dataset`: what a generator is trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assistant.errors import ConfigError
from assistant.evaluate import questions
from assistant.store import datasets
from assistant.store.datasets import Dataset
from assistant.surfaces.terminal import As, Json, asker, opened, out, print_json, print_rows, progress_bars
from assistant.tune import dataset as builder
from assistant.tune import judged

ALONE = (
    "Judged answers are a dataset of their own, for a version that goes on from another. Nothing was stored; "
    "give --feedback without --questions and --general."
)


def dataset(
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--questions", exists=True, dir_okay=False, help="JSONL as `deskhand eval answers` takes."
        ),
    ] = None,
    general: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="General text to be read on, against forgetting."),
    ] = None,
    desk: Annotated[bool, typer.Option(help="Use the desk's own resolved tickets.")] = True,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="Of answers that people judged, and of nothing else.")
    ] = False,
    tickets: Annotated[int, typer.Option(min=1, help="Of them at most so many, drawn at random.")] = 3_000,
    prompt_tokens: Annotated[int, typer.Option(min=200, help="Of a prompt, as asked later.")] = 800,
    declined: Annotated[float, typer.Option(min=0.02, max=0.8, help="Share that is to be declined.")] = 0.3,
    who: As = "",
    as_json: Json = False,
) -> None:
    """Make training data of resolved tickets and of files of questions with their passages.

    Tickets are asked again as of their day, with the rights of --as and what may be public
    alone; names, addresses, numbers and keys are taken out.
    """
    if feedback and (files or general):
        raise ConfigError(ALONE)
    choices = builder.Choices(tickets=tickets, prompt_tokens=prompt_tokens, declined=declined)
    with opened() as assistant, progress_bars(quiet=as_json) as progress:
        made = builder.Builder(assistant, asker(assistant, who), choices)
        if feedback:
            examples = judged.judged(made, progress)
        else:
            examples = made.desk(progress) if desk else []
            for file in files or []:
                examples += made.file(file.stem, questions.load(file), progress)
            examples = builder.balanced(examples, choices, made.left_out)
        if not examples:
            raise ConfigError(_nothing(made, feedback=feedback))
        if general:
            examples += builder.replayed(general.read_text(encoding="utf-8", errors="replace"))
        told = {"desk": desk and not feedback, "questions": [file.stem for file in files or []]}
        told |= {"general": bool(general)} | ({"feedback": True} if feedback else {})
        stored = builder.store(assistant, examples, choices, made.left_out, **told)
    if as_json:
        print_json(_row(stored))
    else:
        _show(stored)


def _nothing(made: builder.Builder, *, feedback: bool) -> str:
    """Why there is no example, and what helps."""
    none = "no judged answer" if feedback else "no resolved ticket"
    reasons = "; ".join(f"{n} × {why}" for why, n in made.left_out.most_common()) or none
    source = "let people judge answers" if feedback else "sync resolved tickets"
    files = "" if feedback else ", or give files of questions (--questions)"
    return (
        f"No example could be made ({reasons}). Nothing was stored: {source}, ask as somebody who may read them "
        f"(--as){files}."
    )


def _show(stored: Dataset) -> None:
    parts: dict[str, dict[str, int]] = stored.counts["parts"]
    kinds = list(dict.fromkeys(kind for counts in parts.values() for kind in counts))
    print_rows(
        [{"part": part, **{kind: counts.get(kind, 0) for kind in kinds}} for part, counts in parts.items()],
        {"part": "Part", **{kind: kind.capitalize() for kind in kinds}},
    )
    left_out = [{"why": why, "number": n} for why, n in stored.counts["left_out"].items()]
    print_rows(left_out, {"why": "Left out because", "number": "Number"}, empty="Nothing was left out.")
    goes_on = f" --dataset {stored.hash[:12]} --from VERSION" if stored.settings.get("feedback") else ""
    out.print(f"✓ Dataset {stored.hash[:12]}. Train with it: deskhand tune train{goes_on}", markup=False)


def list_datasets(as_json: Json = False) -> None:
    """The datasets there are, the latest first."""
    with opened() as assistant, assistant.database.writer() as connection:
        found = datasets.everything(connection)
    if as_json:
        print_json([_row(one) for one in found])
        return
    rows = [
        {
            "hash": one.hash[:12],
            "made": one.created_at,
            **{part: sum(kinds.values()) for part, kinds in one.counts["parts"].items()},
            "origins": ", ".join(f"{name} {n}" for name, n in one.counts["origins"].items()),
        }
        for one in found
    ]
    columns = {
        "hash": "Hash",
        "made": "Made",
        "train": "Train",
        "dev": "Dev",
        "test": "Test",
        "origins": "From",
    }
    print_rows(rows, columns, empty="No datasets yet. Make one: deskhand tune dataset")


def _row(one: Dataset) -> dict[str, Any]:
    return {"hash": one.hash, "made": one.created_at, "settings": one.settings, "counts": one.counts}
