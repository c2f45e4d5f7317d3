"""Results as rows of the database, a JSON file and a plot."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assistant.app import Assistant
from assistant.evaluate.statistics import Estimate
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of one system on one set of questions."""

    kind: str
    """`retrieval` or `answers`"""
    dataset: str
    system: str
    metrics: Mapping[str, Estimate]
    groups: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict[str, Mapping[str, Estimate]])
    """the same for parts of the questions"""


def save(
    assistant: Assistant,
    results: Sequence[Result],
    *,
    folder: Path,
    settings: Mapping[str, Any],
    questions: Any,
) -> Path:
    """Write a row for each result, and all of them to a new JSON file in `folder` with a plot beside it.

    `questions` are the details of each question, for the file only. Returns the JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    stem = f"{results[0].kind}-{results[0].dataset}-{now:%Y%m%dT%H%M%S%f}"
    file = folder / f"{stem}.json"
    content = {
        "at": now.isoformat(timespec="seconds"),
        "settings": settings,
        "results": [as_json(result) for result in results],
        "questions": questions,
    }
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1, default=str), encoding="utf-8")
    # It may hold answers made of texts that few may read.
    file.chmod(0o600)
    plot(results, file.with_suffix(".png"))
    with assistant.database.writer() as connection:
        for result in results:
            connection.execute(
                SQL["evaluation_add"],
                {
                    "kind": result.kind,
                    "dataset": result.dataset,
                    "system": result.system,
                    "metrics": json.dumps(_plain(result.metrics)),
                    "settings": json.dumps(settings, default=str),
                },
            )
    return file


def kept(connection: Conn, *, limit: int = 100) -> list[Row]:
    """The latest results, with the mean of each measure."""
    rows = connection.execute(SQL["evaluation_all"], {"limit": limit}).fetchall()
    for row in rows:
        row["metrics"] = {name: estimate["value"] for name, estimate in row["metrics"].items()}
    return rows


def as_json(result: Result) -> dict[str, Any]:
    return {
        "kind": result.kind,
        "dataset": result.dataset,
        "system": result.system,
        "metrics": _plain(result.metrics),
        "groups": {name: _plain(metrics) for name, metrics in result.groups.items()},
    }


def plot(results: Sequence[Result], file: Path) -> None:
    """Bars with their intervals for every measure between 0 and 1; one colour a system, or a group."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    bars: dict[str, Mapping[str, Estimate]] = {}
    for result in results:
        bars[result.system] = result.metrics
        bars |= {f"{result.system}: {name}": metrics for name, metrics in result.groups.items()}
    names = [name for name in results[0].metrics if "seconds" not in name]
    figure, axes = pyplot.subplots(figsize=(max(6.0, 0.35 * len(names) * (len(bars) + 1)), 4.5))
    width = 0.8 / len(bars)
    for number, (label, metrics) in enumerate(bars.items()):
        held = [(place, metrics[name]) for place, name in enumerate(names) if name in metrics]
        axes.bar(
            [place + (number - (len(bars) - 1) / 2) * width for place, _ in held],
            [e.value for _, e in held],
            width,
            label=label,
            yerr=[[e.value - e.low for _, e in held], [e.high - e.value for _, e in held]],
            capsize=2,
        )
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], rotation=30, ha="right")
    axes.set_ylim(0, 1.02)
    axes.set_title(f"{results[0].dataset}: mean and 95 % interval")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="small", bbox_to_anchor=(1.01, 1), loc="upper left")
    figure.savefig(file, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def _plain(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {
        name: {key: round(value, 5) for key, value in dataclasses.asdict(e).items()}
        for name, e in metrics.items()
    }
