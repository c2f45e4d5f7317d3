"""`deskhand tune …`: models that learn the desk."""

from __future__ import annotations

import typer

from assistant.surfaces import cli_dataset

tune = typer.Typer(no_args_is_help=True, help="Fine-tune the generator on the desk's own tickets.")
tune.command("dataset")(cli_dataset.dataset)
tune.command("datasets")(cli_dataset.list_datasets)
