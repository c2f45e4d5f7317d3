"""`deskhand slack …`: the app's manifest, and which workspaces are believed who their members are."""

from __future__ import annotations

from typing import Annotated

import typer

from assistant.store import conversations, slack
from assistant.surfaces.terminal import Json, opened, out, print_json, print_rows

workspaces = typer.Typer(
    no_args_is_help=True, help="The Slack bot: its manifest, and the workspaces it is in."
)

Team = Annotated[
    str, typer.Argument(metavar="TEAM", help="The workspace's id, as `deskhand slack list` shows it.")
]


@workspaces.command("manifest")
def manifest(
    url: Annotated[
        str, typer.Option(help="Address of this installation, for HTTP instead of Socket Mode.")
    ] = "",
) -> None:
    """What to create the Slack app from: paste it at api.slack.com/apps, «From a manifest»."""
    from assistant.surfaces.slack.install import manifest as made

    print_json(made(url))


@workspaces.command("list")
def list_workspaces(as_json: Json = False) -> None:
    """Workspaces that installed the app; the one of DESKHAND_SLACK_BOT_TOKEN is none of them."""
    with opened() as assistant, assistant.database.writer() as connection:
        rows = slack.workspaces(connection)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["state"] = "allowed" if row["allowed"] else "public material only"
    columns = {"team": "Workspace", "name": "Name", "state": "State", "installed_at": "Installed"}
    print_rows(rows, columns, empty="None yet: they install it at /slack/install.")


@workspaces.command("allow")
def allow(team: Team) -> None:
    """Believe a workspace who its members are; until then they get public material alone."""
    with opened() as assistant, assistant.database.writer() as connection:
        slack.allow(connection, team)
        conversations.audit(connection, actor="cli", action="slack.allow", object=team)
    out.print(f"{team} is believed now: its members get what they may read.", markup=False)


@workspaces.command("remove")
def remove(team: Team) -> None:
    """Forget a workspace's token; nothing is answered there any more."""
    with opened() as assistant, assistant.database.writer() as connection:
        slack.remove(connection, team)
        conversations.audit(connection, actor="cli", action="slack.remove", object=team)
    out.print(f"{team} is forgotten. Uninstall the app there as well.", markup=False)


@workspaces.command("run")
def run() -> None:
    """Run the bot alone; `deskhand up` runs it beside everything else."""
    from assistant.surfaces.slack.serve import main

    main()
