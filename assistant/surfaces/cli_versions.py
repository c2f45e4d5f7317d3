"""`deskhand tune evaluate|promote|rollback|publish`: which fine-tuned version answers, and why."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from langchain_core.language_models import BaseChatModel

from assistant.app import Assistant
from assistant.evaluate import answers, questions, results, statistics
from assistant.evaluate.results import Result
from assistant.generate import base, live, registry
from assistant.store import conversations, datasets, versions
from assistant.store.db import Conn
from assistant.store.versions import Version
from assistant.surfaces.terminal import (
    As,
    Json,
    asker,
    opened,
    out,
    print_json,
    print_rows,
    progress_bars,
)
from assistant.tune import cases, trust
from assistant.tune import evaluate as measure
from assistant.tune import promote as promotion
from assistant.tune import publish as publication

Step = Callable[[str, int, int], None]
Name = Annotated[str, typer.Argument(help="A version, such as generator-3.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many cases, the same ones each time.")]
Hash = Annotated[
    str, typer.Option(help="Beginning of a dataset's. Default: the version's own, else the latest.")
]
Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--questions",
        exists=True,
        dir_okay=False,
        help="As `deskhand eval answers` takes; the dataset then only with --dataset.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", file_okay=False, help="For JSON and plot. Default: evaluations in the state folder."
    ),
]
General = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="General text; how much worse it is read is forgetting."),
]


def evaluate(
    name: Annotated[str, typer.Argument(help="A version, or `base`: the model without any adapter.")],
    dataset: Hash = "",
    part: Annotated[str, typer.Option(help="Default: test, or dev where that is empty.")] = "",
    files: Files = None,
    general: General = None,
    limit: Limit = None,
    who: As = "",
    as_json: Json = False,
    out_folder: Out = None,
) -> None:
    """Measure a version beside the untrained model, in one run: wording, citations, declining, format, tone, times.

    Each is marked as the model says it, and as it is shown (`shown …`, and `score`): after
    the engine has declined what it is not sure of and dropped what no source bears out.
    """
    statistics.check_installed()
    with opened() as assistant, progress_bars(quiet=as_json) as progress:
        models = _models(assistant, name, progress)
        runs: list[tuple[list[Result], Any]] = []
        if dataset or not files:
            runs.append(_on_dataset(assistant, models, name, dataset, part, limit, general, progress))
        for file in files or []:
            asked = questions.load(file, limit=limit)
            runs.append(_on_questions(assistant, models, file.stem, asked, asker(assistant, who), progress))
        folder = out_folder or assistant.settings.state / "evaluations"
        settings = {"base": assistant.settings.local_model, "generator": assistant.settings.generator}
        written = [
            results.save(assistant, found, folder=folder, settings=settings, questions=details)
            for found, details in runs
        ]
        _keep(assistant, name, [found[0] for found, _ in runs])
    if as_json:
        print_json(
            [
                {"file": f, "results": [results.as_json(r) for r in found]}
                for f, (found, _) in zip(written, runs, strict=True)
            ]
        )
        return
    for file, (found, _) in zip(written, runs, strict=True):
        _show(found)
        out.print(f"\n{file}\n{file.with_suffix('.png')}", markup=False, style="dim")


def promote(
    name: Name,
    force: Annotated[str, typer.Option(help="Make it live without a comparison, for this reason.")] = "",
    general: General = None,
    limit: Limit = None,
    who: As = "",
    as_json: Json = False,
) -> None:
    """Replay a candidate on past tickets beside what answers now; make it live if it is better.

    Otherwise it is rejected and kept, with the reason. All processes answer with it from
    their next question on; what is being written is finished by the version that began it.
    """
    if not force:
        statistics.check_installed()
    with opened() as assistant, progress_bars(quiet=as_json) as progress:
        verdict = promotion.promote(
            assistant,
            name,
            by=_who(assistant, who),
            force=force,
            limit=limit,
            general=general,
            progress=progress,
        )
        file = promotion.keep(assistant, verdict)
    if as_json:
        told = {"live": verdict.better, "reasons": verdict.reasons, "instead_of": verdict.now, "file": file}
        print_json({**told, "results": [results.as_json(result) for result in verdict.results]})
    else:
        _tell(verdict, file)
    if not verdict.better:
        raise SystemExit(1)


def rollback(who: As = "") -> None:
    """Let the generator answer again that did before; at once, without a restart."""
    with opened() as assistant:
        now = promotion.rollback(assistant, by=_who(assistant, who))
    out.print(f"✓ {now} answers again.", markup=False)


def publish(
    name: Name,
    to: Annotated[
        Path, typer.Option(file_okay=False, help="Folder in which the adapter gets one of its name.")
    ],
) -> None:
    """Write a version's adapter as vLLM loads it: `vllm serve BASE --enable-lora --lora-modules NAME=FOLDER`."""
    with opened() as assistant:
        with assistant.database.writer() as connection:
            tuned = live.named(connection, name, assistant.settings, here=False)
            conversations.audit(connection, actor=_who(assistant, ""), action="tune.publish", object=name)
        place, command = publication.publish(tuned, to, assistant.settings)
    out.print(f"✓ {place}\nServe it: {command}", markup=False)
    out.print(
        f"Ask it: DESKHAND_GENERATOR=openai:{name} DESKHAND_GENERATOR_BASE_URL=http://HOST:8000/v1",
        markup=False,
    )


def _tell(verdict: promotion.Verdict, file: Path | None) -> None:
    """What came of a promotion, for a person."""
    name = verdict.candidate
    if verdict.results:
        _show(verdict.results)
        out.print(f"\nGain in score, paired: {verdict.gain}\n{file}", markup=False, style="dim")
    if verdict.better:
        told = f"✓ {name} answers now, in place of {verdict.now}. `deskhand tune rollback` takes it back."
        out.print(told, markup=False)
        return
    out.print(f"✗ {name} is rejected and kept; {verdict.now} answers on. Why:", markup=False)
    for reason in verdict.reasons:
        out.print(f"  - {reason}", markup=False)


def _models(assistant: Assistant, name: str, progress: Step) -> dict[str, BaseChatModel]:
    """The generator of that name, and the plain one beside it."""
    settings = assistant.settings
    if name == live.PLAIN:
        return {name: registry.generator(settings)}
    live.check_tunable(settings)
    with assistant.database.writer() as connection:
        tuned, version = live.named(connection, name, settings), _version(connection, name)
    if tuned and version:
        tuned = trust.trusted(assistant, version, tuned, progress)
    return {name: registry.generator(settings, tuned), live.PLAIN: registry.generator(settings)}


def _on_dataset(
    assistant: Assistant,
    models: dict[str, BaseChatModel],
    name: str,
    dataset: str,
    part: str,
    limit: int | None,
    general: Path | None,
    progress: Step,
) -> tuple[list[Result], Any]:
    with assistant.database.writer() as connection:
        version = _version(connection, name)
        own = versions.measured_with(connection, version) if version else None
        chosen = datasets.get(connection, dataset or own or "latest")
        part, asked = cases.load(connection, chosen, part=part, limit=limit)
    found: list[Result] = []
    details: dict[str, Any] = {}
    for system, model in models.items():
        replies = measure.run(assistant, model, asked, progress=progress)
        metrics = measure.summary(replies) | measure.forgetting(model, general, progress)
        found.append(Result("answers", measure.key(chosen, part), system, metrics, measure.by_kinds(replies)))
        details[system] = measure.details(replies)
    return found, details


def _on_questions(
    assistant: Assistant,
    models: dict[str, BaseChatModel],
    stem: str,
    asked: Sequence[questions.Question],
    default: Any,
    progress: Step,
) -> tuple[list[Result], Any]:
    """Asked of the engine: the version answers as it would when live, the plain model by quoting."""
    found: list[Result] = []
    details: dict[str, Any] = {}
    for system, model in models.items():

        def told(step: str, done: int, total: int, model: BaseChatModel = model) -> None:
            progress(f"{step} {base.name(model)}", done, total)

        replies = answers.run(assistant.answering_with(model), asked, default=default, progress=told)
        found.append(Result("answers", stem, system, answers.summary(replies), answers.by_need(replies)))
        details[system] = [
            {"id": one.question.id, "marks": one.marks, "text": one.answer.text} for one in replies
        ]
    return found, details


def _keep(assistant: Assistant, name: str, found: Sequence[Result]) -> None:
    """Results of a version go with it; the plain model and what came with Deskhand have no row."""
    with assistant.database.writer() as connection:
        if version := _version(connection, name):
            measured = {result.dataset: measure.plain(result.metrics) for result in found}
            measure.keep(connection, version, measured)


def _version(connection: Conn, name: str) -> Version | None:
    return next((version for version in versions.everything(connection) if version.name == name), None)


def _show(found: Sequence[Result]) -> None:
    rows = [
        {"measure": name.replace("_", " "), **{r.system: r.metrics.get(name) for r in found}}
        for name in found[0].metrics
    ]
    count = max(estimate.count for estimate in found[0].metrics.values())
    title = f"{found[0].dataset}, {count} cases, ± half the 95 % interval"
    print_rows(rows, {"measure": "", **{r.system: r.system for r in found}}, title=title)


def _who(assistant: Assistant, given: str) -> str:
    """Who does it, for the trail: an address, or the account on this machine."""
    return given or assistant.settings.principal or getpass.getuser()
