"""`deskhand tune retriever`: an embedder that learns the desk, and the index that goes over to it."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from assistant import weights
from assistant.app import Assistant
from assistant.errors import ConfigError, ModelUnavailable
from assistant.evaluate import scratch
from assistant.ingest import reembed
from assistant.store import spaces, versions
from assistant.store.versions import Kind, Version
from assistant.surfaces.terminal import Json, opened, out, print_json, print_rows, progress_bars
from assistant.tune import retriever as tuning
from assistant.tune.retriever import Verdict

POLL_SECONDS = 1.0


def retriever(
    pairs: Annotated[
        list[str] | None,
        typer.Option(help="`desk`, or a folder in BEIR's layout whose train split is learnt. Default: desk."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Times that everything is gone through.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other value of the recipe.")
    ] = None,
    promote: Annotated[
        str, typer.Option(metavar="NAME", help="Instead: make a trained one live, if it is better.")
    ] = "",
    general: Annotated[
        list[Path] | None,
        typer.Option(exists=True, file_okay=False, help="A set in BEIR's layout that must not lose by it."),
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Instead: go back to the one before.")] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Leave re-embedding to the workers of `deskhand up`.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Instead: what answers, and how far it is.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train the embedder on which documents and tickets the desk's agents linked to.

    It answers nobody before it is promoted: then all texts are embedded anew beside the live vectors,
    and the index goes over to them at once. One that was interrupted is gone on with.
    """
    with opened() as assistant, progress_bars(quiet=as_json) as progress:
        if status:
            shown = _status(assistant)
        elif back:
            shown = {"back_to": tuning.back(assistant, by=assistant.settings.principal or "cli")}
        elif promote:
            shown = _promoted(assistant, promote, general or [], progress)
        else:
            shown = _trained(assistant, _chosen(pairs, epochs, values), progress)
        if (back or shown.get("wanted")) and not background and not status:
            _follow(assistant, progress)
            shown |= {"live": assistant.live()[0].name}
    if as_json:
        print_json(shown)
    else:
        _print(shown)
    if shown.get("state") == "failed":
        raise SystemExit(1)


def _chosen(pairs: Sequence[str] | None, epochs: int | None, values: Sequence[str] | None) -> dict[str, Any]:
    parted = [value.partition("=") for value in values or ()]
    if wrong := [name for name, equals, _ in parted if not equals]:
        raise ConfigError(f"--set takes NAME=VALUE, not «{wrong[0]}». Nothing was started.")
    chosen: dict[str, Any] = {name.strip(): value.strip() for name, _, value in parted}
    places = [p if p == tuning.DESK else str(Path(p).resolve()) for p in pairs or ()]
    if missing := [p for p in places if p != tuning.DESK and not Path(p).is_dir()]:
        raise ConfigError(f"There is no folder {missing[0]}. Nothing was started.")
    return {**chosen, **({"pairs": places} if places else {}), **({"epochs": epochs} if epochs else {})}


def _trained(assistant: Assistant, chosen: dict[str, Any], progress: scratch.Progress) -> dict[str, Any]:
    """Train in a process of its own, or watch the one that does, until it ends."""
    tuning.check_installed()
    how = tuning.recipe(chosen)
    base = tuning.TRAINABLE.get(assistant.settings.embedder, "")
    if base and weights.check(base, assistant.settings) is not weights.State.PRESENT:
        raise ModelUnavailable(
            f"Training begins with the weights {base}, which are not there. Nothing was started; fetch them with "
            f"`deskhand models pull {base}`."
        )
    with assistant.database.writer() as connection:
        version = versions.waiting(connection, Kind.EMBEDDER)
    if version is None:
        version = tuning.request(assistant, how, by=assistant.settings.principal)
    elif chosen and tuning.recipe(version.recipe) != how:
        raise ConfigError(
            f"{version.name} is not finished, and was begun with other values. Nothing was started. Go on with it by "
            "`deskhand tune retriever` without options."
        )
    process = tuning.start(assistant.settings, version)
    try:
        while True:
            ended = process.poll()
            with assistant.database.writer() as connection:
                version = versions.get(connection, version.name)
            _told(version, progress)
            if version.state != "training" or (ended is not None and ended != tuning.BUSY):
                break
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        process.kill()
        raise
    if version.state == "training":
        place = assistant.settings.models_folder / version.folder / tuning.LOG
        raise ConfigError(
            version.progress.get("trouble")
            or f"The process that trained {version.name} died (exit {process.returncode}); {place} may say why. What "
            "it learnt is kept: `deskhand tune retriever` goes on."
        )
    return {name: getattr(version, name) for name in ("name", "state", "reason", "metrics", "folder")}


def _told(version: Version, progress: scratch.Progress) -> None:
    told = version.progress
    if "steps" in told:
        progress(f"Train {version.name}", told["step"], told["steps"])
    elif "phase" in told:
        progress(told["phase"], told["done"], told["total"])


def _promoted(
    assistant: Assistant, name: str, general: Sequence[Path], progress: scratch.Progress
) -> dict[str, Any]:
    tuning.check_installed()
    by = assistant.settings.principal or "cli"
    verdict = tuning.decide(assistant, name, by=by, general=general, progress=progress)
    return _plain(verdict) | {"wanted": not verdict.reasons}


def _plain(verdict: Verdict) -> dict[str, Any]:
    gain = verdict.gain
    return {
        "candidate": verdict.candidate,
        "against": verdict.live,
        "ndcg@10": {"before": round(verdict.before, 4), "after": round(verdict.after, 4)},
        "gain": gain and {"value": gain.value, "low": gain.low, "high": gain.high, "questions": gain.count},
        "general": {name: {"before": a, "after": b} for name, (a, b) in verdict.general.items()},
        "reasons": verdict.reasons,
    }


def _follow(assistant: Assistant, progress: scratch.Progress) -> None:
    """Do the re-embedding here, or watch whoever does it, until the index went over."""

    def told(done: int, total: int) -> None:
        progress("Embed anew", done, total)

    while True:
        more = reembed.run(assistant.database, assistant.embedders, progress=told)
        with assistant.database.writer() as connection:
            space = spaces.wanted(connection)
            if space is None:
                return
            if not more:
                told(*spaces.counts(connection, space))
        time.sleep(0.0 if more else POLL_SECONDS)


def _status(assistant: Assistant) -> dict[str, Any]:
    with assistant.database.writer() as connection:
        live, wanted = spaces.live(connection), spaces.wanted(connection)
        done, total = spaces.counts(connection, wanted or live)
        trained = [v for v in versions.everything(connection) if v.kind is Kind.EMBEDDER]
    return {
        "live": live.name,
        "filling_in": wanted.name if wanted else None,
        "chunks": {"done": done, "total": total},
        "versions": [
            {"name": v.name, "state": v.state, "reason": v.reason, "progress": v.progress} for v in trained
        ],
    }


def _print(shown: dict[str, Any]) -> None:
    rows = [{"what": name.replace("_", " "), "value": value} for name, value in _flat(shown)]
    print_rows(rows, {"what": "", "value": ""})
    if shown.get("state") == "candidate":
        out.print(
            f"\nMake it live, if it is better: `deskhand tune retriever --promote {shown['name']}`",
            style="dim",
        )


def _flat(shown: dict[str, Any], before: str = "") -> Generator[tuple[str, Any]]:
    for name, value in shown.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name} ")  # pyright: ignore[reportUnknownArgumentType] - of anything
        elif value not in (None, "", []):
            yield f"{before}{name}", round(value, 4) if isinstance(value, float) else value
