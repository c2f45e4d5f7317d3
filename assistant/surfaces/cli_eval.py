"""`deskhand eval …`: how well retrieval and answers do on questions with known answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from assistant import servers
from assistant.errors import ConfigError
from assistant.evaluate import beir, questions, results, scratch, statistics
from assistant.evaluate.results import Result
from assistant.model import Principal
from assistant.retrieve.fusion import Legs
from assistant.store import feedback
from assistant.surfaces.answers import as_json as answer_json
from assistant.surfaces.terminal import (
    As,
    Days,
    Json,
    ago,
    asker,
    opened,
    out,
    print_json,
    print_rows,
    progress_bars,
)

evaluation = typer.Typer(
    no_args_is_help=True, help="Measure retrieval and answers on questions with known answers."
)

Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", file_okay=False, help="For JSON and plot. Default: evaluations in the state folder."
    ),
]


@evaluation.command()
def retrieval(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A set in BEIR's layout.")],
    split: Annotated[str, typer.Option(help="Which qrels. Default: test, else dev, else train.")] = "",
    systems: Annotated[str, typer.Option(help="Some of hybrid, dense, bm25.")] = "hybrid,dense,bm25",
    corpus_source: Annotated[
        str, typer.Option(help="Search this synced source instead of the set's corpus.jsonl.")
    ] = "",
    as_of_field: Annotated[
        str, typer.Option(help="Field of a query's metadata with its date; newer texts are left out.")
    ] = "",
    who: As = "",
    limit: Limit = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Index the corpus again from nothing.")] = False,
    as_json: Json = False,
    out_folder: Out = None,
) -> None:
    """nDCG@10, recall@10, recall@100 and MRR@10, with 95 % intervals.

    The corpus is synced and indexed into a database of its own, which is kept
    for the next time: `deskhand eval clean` drops it.
    """
    from assistant.evaluate import retrieval as measure

    statistics.check_installed()
    legs = _legs(systems)
    task = beir.task(folder, split=split, limit=limit)
    with opened() as assistant, progress_bars(quiet=as_json) as progress:
        if corpus_source:
            corpus, principal = nullcontext(assistant), asker(assistant, who)
        else:
            corpus = scratch.indexed(assistant, folder, fresh=fresh, progress=progress)
            principal = Principal("evaluation")
        ask = partial(measure.run, principal=principal, source=corpus_source, as_of_field=as_of_field)
        with corpus as searched:
            runs = [ask(searched, task, legs=leg, progress=progress) for leg in legs]
        settings = {
            "embedder": assistant.embedder.name,
            "queries": len(task.queries),
            "source": corpus_source,
            "as_of_field": as_of_field,
            "principal": principal.id,
        }
        found = [Result("retrieval", f"{task.name}-{task.split}", r.system, r.metrics) for r in runs]
        details = {run.system: run.scores for run in runs}
        place = out_folder or assistant.settings.state / "evaluations"
        file = results.save(assistant, found, folder=place, settings=settings, questions=details)
    _show(found, file, as_json=as_json)


@evaluation.command()
def answers(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="One question a line, as JSON.")],
    who: As = "",
    limit: Limit = None,
    as_json: Json = False,
    out_folder: Out = None,
) -> None:
    """Wording, citations, abstention, grounding and times of the answers to questions with known answers.

    A line is {id, question, answers, answerable, history?, passages?, relevant?, customer?,
    as_of?, as?, needs?, metadata?}. With passages these are its whole corpus; else what is synced
    is asked, by whom `as` names: an address, or a group one of whose people asks.
    """
    from assistant.evaluate import answers as measure

    statistics.check_installed()
    asked_for = questions.load(file, limit=limit)
    with opened() as assistant, progress_bars(quiet=as_json) as progress:
        default = asker(assistant, who)
        asked = measure.run(assistant, asked_for, default=default, progress=progress)
        system = asked[0].answer.model
        found = [Result("answers", file.stem, system, measure.summary(asked), measure.by_need(asked))]
        askers = sorted({one.asker for one in asked})
        settings = {
            "generator": assistant.settings.generator,
            "embedder": assistant.embedder.name,
            "questions": len(asked),
            "asked_as": askers,
        }
        details = [
            {
                "id": one.question.id,
                "as": one.asker,
                "marks": one.marks,
                "seconds": [one.seconds_first, one.seconds_total],
                **answer_json(one.answer),
            }
            for one in asked
        ]
        place = out_folder or assistant.settings.state / "evaluations"
        written = results.save(assistant, found, folder=place, settings=settings, questions=details)
    if not as_json:
        out.print(f"Asked as {', '.join(askers)}.", markup=False)
    _show(found, written, as_json=as_json)


@evaluation.command("feedback")
def of_feedback(days: Days = 365, as_json: Json = False) -> None:
    """What people said of answers and what became of drafts, by model and by what the answers rest on.

    An answer that rests on several kinds of evidence counts for each of them.
    """
    with opened() as assistant, assistant.database.writer() as connection:
        rows = feedback.summary(connection, since=ago(days))
    if as_json:
        print_json(rows)
        return
    columns = {"model": "Model", "evidence": "Rests on", "answers": "Answers"}
    shares = dict.fromkeys(("declined", "up", "down", "complained", "accepted"), "answers")
    shares |= {"solved": "drafts", "reopened": "drafts"}
    shown = [{**row, **{k: _share(row[k], row[of]) for k, of in shares.items()}} for row in rows]
    columns |= {"declined": "Declined", "up": "Up", "down": "Down", "complained": "Source wrong"}
    columns |= {"drafts": "Drafts", "accepted": "Accepted", "solved": "Solved after", "reopened": "Reopened"}
    print_rows(shown, columns, empty="No answers yet.")


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.0%})" if part and whole else str(part)


@evaluation.command()
def clean() -> None:
    """Drop the databases that retrieval evaluations keep."""
    with opened() as assistant:
        url = servers.database_url(assistant.settings)
        names = scratch.existing(url)
        scratch.drop(url, names)
    out.print(f"✓ {len(names)} scratch databases dropped.")


def _legs(systems: str) -> list[Legs]:
    try:
        return [Legs(name.strip()) for name in systems.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--systems takes some of {', '.join(Legs)}, separated by commas: {error}."
        ) from None


def _show(found: Sequence[Result], file: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": file, "results": [results.as_json(result) for result in found]})
        return
    columns = {r.system: r.metrics for r in found} | {n: m for r in found for n, m in r.groups.items()}
    rows = [
        {
            "measure": name.replace("_", " "),
            **{label: metrics.get(name) for label, metrics in columns.items()},
        }
        for name in found[0].metrics
    ]
    count = max(estimate.count for estimate in found[0].metrics.values())
    title = f"{found[0].dataset}, {count} questions, ± half the 95 % interval"
    print_rows(rows, {"measure": "", **{label: label for label in columns}}, title=title)
    out.print(f"\n{file}\n{file.with_suffix('.png')}", markup=False, style="dim")
