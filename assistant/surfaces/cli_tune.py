"""`deskhand tune …`: models that learn from the desk's own tickets."""

from __future__ import annotations

import typer

from assistant.surfaces import cli_retriever

tune = typer.Typer(no_args_is_help=True, help="Train models on the desk's own tickets.")
tune.command("retriever")(cli_retriever.retriever)


@tune.callback()
def _of_several() -> None:
    """So that the only command keeps its name."""
