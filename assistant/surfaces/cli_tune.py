"""`deskhand tune …`: models that learn from the desk's own tickets."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from assistant.app import Assistant
from assistant.config import settings
from assistant.errors import ConfigError
from assistant.store import datasets, versions
from assistant.store.versions import Kind, Version
from assistant.surfaces import cli_dataset, cli_retriever, cli_versions
from assistant.surfaces.terminal import Json, err, opened, out, print_json, print_rows
from assistant.tune import card, examples, job
from assistant.tune.recipe import continued, recipe
from assistant.tune.train import begun

POLL_SECONDS = 1.0

tune = typer.Typer(no_args_is_help=True, help="Train the generator on the desk's own tickets.")
tune.command("dataset")(cli_dataset.dataset)
tune.command("datasets")(cli_dataset.list_datasets)
tune.command("retriever")(cli_retriever.retriever)
tune.command("evaluate")(cli_versions.evaluate)
tune.command("promote")(cli_versions.promote)
tune.command("rollback")(cli_versions.rollback)
tune.command("publish")(cli_versions.publish)

Name = Annotated[str, typer.Argument(help="A version, such as generator-3.")]


@tune.command()
def train(
    dataset: Annotated[str, typer.Option(help="The dataset: the beginning of its hash.")] = datasets.LATEST,
    base: Annotated[
        str,
        typer.Option(help="Known weights, a GGUF, a folder or a hub's name. Default: DESKHAND_LOCAL_MODEL."),
    ] = "",
    start: Annotated[
        str,
        typer.Option("--from", metavar="NAME", help="Go on from this version with judged answers (KTO)."),
    ] = "",
    rank: Annotated[int | None, typer.Option(help="Rank of LoRA's matrices.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other value of the recipe.")
    ] = None,
    resume: Annotated[
        str, typer.Option(metavar="NAME", help="Go on with one that was stopped or failed.")
    ] = "",
    background: Annotated[
        bool, typer.Option("--background", help="Leave it to a worker of `deskhand up`.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a version of the generator; it answers nobody before it is promoted.

    Ctrl-C stops it, and `--resume` goes on. The recipe's values are those `tune show` lists.
    """
    job.check_installed()
    with opened() as assistant:
        if resume:
            with assistant.database.writer() as connection:
                version = versions.resume(connection, resume)
        else:
            chosen = {**_given(values or []), **({} if rank is None else {"rank": rank})}
            version = _requested(assistant, dataset, base, start, chosen)
        if not background:
            version = _followed(assistant, version, quiet=as_json)
    if as_json:
        print_json(_plain(version))
    elif background:
        out.print(f"✓ {version.name} is asked for. `deskhand tune show {version.name}` tells how far it is.")
    else:
        _print(version)
    if version.state == "failed":
        raise SystemExit(1)


@tune.command("list")
def list_versions(as_json: Json = False) -> None:
    """All versions, the latest first, with what became of each."""
    with opened() as assistant, assistant.database.writer() as connection:
        found = versions.everything(connection)
    if as_json:
        print_json([_plain(version) for version in found])
        return
    rows = [
        {
            "name": version.name,
            "state": version.state,
            "base": version.base,
            "dataset": (version.dataset_hash or "")[:12],
            "progress": _progress(version),
            "created_at": version.created_at,
            "by": version.promoted_by,
            "reason": version.reason or version.progress.get("trouble", ""),
        }
        for version in found
    ]
    headings = {
        "name": "Name",
        "state": "State",
        "base": "Base",
        "dataset": "Dataset",
        "progress": "Progress",
    }
    headings |= {"created_at": "Asked for", "by": "Promoted by", "reason": "Reason"}
    print_rows(rows, headings, empty="No version yet: `deskhand tune train`.")


@tune.command()
def show(name: Name, as_json: Json = False) -> None:
    """A version's state, recipe and figures, its model card, and the picture of its losses."""
    with opened() as assistant, assistant.database.writer() as connection:
        version = versions.get(connection, name)
    if as_json:
        print_json(_plain(version))
    else:
        _print(version)


@tune.command()
def stop(name: Name) -> None:
    """End a training at its next step. What it learnt is kept: `deskhand tune train --resume NAME` goes on."""
    with opened() as assistant, assistant.database.writer() as connection:
        version = versions.get(connection, name)
        if version.state != "training":
            raise ConfigError(f"{name} is not being trained ({version.state}). Nothing was changed.")
        versions.fail(connection, version, _stopped(version))
    out.print(f"✓ {name} ends at its next step.")


def _requested(
    assistant: Assistant, dataset: str, base: str, start: str, chosen: Mapping[str, Any]
) -> Version:
    """A row that asks for a training. Raises `ConfigError` where it would come to nothing, before there is one."""
    with assistant.database.writer() as connection:
        if start:
            base = base or versions.get(connection, start).base
            how = continued(start, begun(connection, start, base, assistant.settings).recipe, **chosen)
        else:
            how = recipe(**chosen)
        base = base or assistant.settings.local_model
        data = datasets.get(connection, dataset, judged=bool(start))
        train, dev = (datasets.examples(connection, data.id, part) for part in ("train", "dev"))
        examples.check(train, dev, how)
        return versions.request(
            connection,
            Kind.GENERATOR,
            base=base,
            dataset_hash=data.hash,
            recipe=how.model_dump(),
            by=assistant.settings.principal,
        )


def _given(values: Sequence[str]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ConfigError(f"--set takes NAME=VALUE, not «{wrong[0]}». Nothing was started.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _followed(assistant: Assistant, version: Version, *, quiet: bool) -> Version:
    """Train it in a process of its own, or watch another that does, until it ends; returns it as it is then."""
    process = job.start(assistant.settings, version)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=err, disable=quiet or not err.is_terminal) as bar:
            shown = bar.add_task(f"{version.name}: getting ready", total=None)
            while True:
                ended = process.poll()
                with assistant.database.writer() as connection:
                    version = versions.get(connection, version.name)
                steps = version.progress.get("steps")
                if steps:
                    told = f"{version.name}: {_losses(version)}"
                    bar.update(shown, description=told, total=steps, completed=version.progress["step"])
                if version.state != "training" or (ended is not None and ended != job.BUSY):
                    break
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        _end(process)
        with assistant.database.writer() as connection:
            version = versions.get(connection, version.name)
            if version.state == "training":
                versions.fail(connection, version, _stopped(version))
        raise
    if version.state == "training":
        trouble = version.progress.get("trouble")
        raise ConfigError(
            trouble
            or f"The process that trained {version.name} died (exit {process.returncode}); what it learnt is kept. "
            f"{_folder(version) / job.LOG} may say why. `deskhand tune train --resume {version.name}` goes on."
        )
    return version


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def _stopped(version: Version) -> str:
    return (
        f"It was stopped by hand at step {version.progress.get('step', 0)}. What it learnt is kept: "
        f"`deskhand tune train --resume {version.name}` goes on with it."
    )


def _folder(version: Version) -> Path:
    return settings().models_folder / version.folder


def _plain(version: Version) -> dict[str, Any]:
    folder = _folder(version)
    files = sorted(str(place) for place in folder.glob("*") if place.is_file()) if folder.is_dir() else []
    return {name: getattr(version, name) for name in version.__slots__} | {"files": files}


def _progress(version: Version) -> str:
    if version.state != "training":
        return ""
    if not version.progress.get("steps"):
        return "not begun" if not version.progress else "getting ready"
    left = version.progress.get("seconds_left")
    minutes = f", {left / 60:.0f} minutes left" if left is not None else ""
    return f"step {version.progress['step']} of {version.progress['steps']}, {_losses(version)}{minutes}"


def _losses(version: Version) -> str:
    known = {"loss": version.progress.get("loss"), "dev": version.progress.get("dev_loss")}
    return ", ".join(f"{name} {value:.3f}" for name, value in known.items() if value is not None)


def _print(version: Version) -> None:
    folder = _folder(version)
    out.print(f"[bold]{version.name}[/] {version.state}", end=" ")
    out.print(f"{_progress(version)} {version.reason or version.progress.get('trouble', '')}", markup=False)
    rows = [
        {"what": "base", "value": version.base},
        {"what": "dataset", "value": version.dataset_hash},
        {"what": "asked for", "value": version.created_at},
        {"what": "promoted", "value": f"{version.promoted_at:%Y-%m-%d} {version.promoted_by}"}
        if version.promoted_at
        else {},
        *({"what": name.replace("_", " "), "value": value} for name, value in version.metrics.items()),
        *({"what": f"recipe: {name}", "value": value} for name, value in version.recipe.items()),
    ]
    print_rows([row for row in rows if row], {"what": "", "value": ""})
    out.print(f"\nThe same again: {card.command(version)}", markup=False, style="dim")
    picture = card.plot(folder)
    for place in (folder / card.CARD, picture):
        if place is not None and place.exists():
            out.print(str(place), markup=False, style="dim")
