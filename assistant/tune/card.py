"""What is told of a trained version: its model card, and the picture of its losses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from assistant import weights
from assistant.store.datasets import Dataset
from assistant.store.versions import Version
from assistant.tune.recipe import Recipe

CARD, HISTORY, PLOT = "README.md", "history.json", "loss.png"
POINTS = 200
"""of a picture's curve, about"""
"""files in a version's folder"""


def command(version: Version) -> str:
    """The command line that trains the same again."""
    words = [
        "deskhand tune train",
        f"--dataset {(version.dataset_hash or 'latest')[:12]}",
        f"--base {version.base}",
    ]
    changed = Recipe.model_validate(version.recipe).model_dump(exclude_defaults=True)
    words += [f"--from {start}"] if (start := changed.pop("start", "")) else []
    return " ".join([*words, *(f"--set {name}={value}" for name, value in changed.items())])


def write(
    folder: Path, version: Version, recipe: Recipe, dataset: Dataset, metrics: Mapping[str, Any]
) -> None:
    """The model card, with the front matter that hubs read."""
    known = weights.KNOWN.get(version.base)
    licence = known.licence if known else "that of the base model"
    merged = (folder / "model.gguf").exists()
    files = "`model.gguf` is base and adapter merged, for Deskhand's own runtime. " if merged else ""
    minutes = metrics["seconds"] / 60
    speed = metrics["tokens"] / max(metrics["seconds"], 1)
    text = f"""\
---
base_model: {version.base}
library_name: peft
pipeline_tag: text-generation
license: {licence.lower() if known else "other"}
tags: [lora, support, citations]
---
# {version.name}

A LoRA adapter that answers support questions from given sources, marks each sentence with the source it
rests on, and writes `NOT_IN_SOURCES` where they don't have the answer. Trained by Deskhand.

- Base: {version.base}{f" ({known.about})" if known else ""}. Licence: {licence}.
- Data: dataset `{dataset.hash}`{f", of judged answers, after all that {recipe.start} learnt" if recipe.start else ""}.
- {files}`{"adapter_model.safetensors"}` is the adapter alone, as PEFT and vLLM load it.
- Made by: `{command(version)}`
- {minutes:.0f} minutes, {speed:.0f} tokens a second, evaluation included.

## Examples

{_table(metrics["examples"], ("Part and kind", "Examples"))}
{_left_out(metrics["left_out"])}
## Losses

{_of_loss(recipe)}: {metrics["dev_loss_untrained"]:.3f}
before, {metrics["dev_loss"]:.3f} after {metrics["best_step"]} steps, which is what is kept.
It was trained for {metrics["steps"]} steps{", until it got no better" if metrics["stopped_early"] else ""}.
How good its answers are is measured by `deskhand tune evaluate`; nothing here says so.

## Recipe

{_table(recipe.model_dump(), ("Setting", "Value"))}
"""
    (folder / CARD).write_text(text, encoding="utf-8")
    plot(folder)


def losses(folder: Path, progress: Mapping[str, Any]) -> list[dict[str, float]]:
    """{step, loss, dev_loss} as far as they were logged: all of a training that ended, of one that runs its looks."""
    if not (folder / HISTORY).exists():
        return list(progress.get("losses", ()))
    history: list[dict[str, Any]] = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    names = {"step": "step", "loss": "loss", "eval_loss": "dev_loss"}
    told = [{names[key]: entry[key] for key in names if key in entry} for entry in history]
    every = max(1, len(told) // POINTS)
    return [
        entry for n, entry in enumerate(told) if "dev_loss" in entry or ("loss" in entry and n % every == 0)
    ]


def plot(folder: Path) -> Path | None:
    """Draw what was logged, and say where; None without matplotlib (extra `[eval]`) or anything logged."""
    if not (folder / HISTORY).exists() or not find_spec("matplotlib"):
        return None
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    history: list[dict[str, Any]] = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for key, label, style in (("loss", "training", "-"), ("eval_loss", "development", "o-")):
        entries = [entry for entry in history if key in entry]
        axis.plot([e["step"] for e in entries], [e[key] for e in entries], style, label=label)
    axis.set(xlabel="step", ylabel="loss of a completion's token", title=folder.name)
    axis.set_ylim(bottom=0)
    axis.legend()
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / PLOT, dpi=120)
    pyplot.close(figure)
    return folder / PLOT


def _of_loss(recipe: Recipe) -> str:
    if recipe.method == "kto":
        return f"KTO's loss over the development part's judged answers, which is about .5 for {recipe.start} itself"
    return "Mean over the development part's examples of the loss of a completion's token"


def _table(values: Mapping[str, Any], headings: tuple[str, str]) -> str:
    rows = [f"| {name.replace('_', ' ')} | {value} |" for name, value in values.items()]
    return "\n".join([f"| {headings[0]} | {headings[1]} |", "| --- | --- |", *rows])


def _left_out(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return ""
    return "\nLeft out: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items()) + ".\n"
