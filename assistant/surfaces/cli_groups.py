"""The groups of commands, as `deskhand source …`: each is imported when it is asked for.

Some import what takes seconds (LlamaIndex, LangChain), and a command needs none but its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

GROUPS = {
    "source": "cli_sources:source",
    "failures": "cli_sources:failure",
    "people": "cli_people:people",
    "login": "cli_login:login",
    "customer": "cli_customers:customer",
    "ticket": "cli_tickets:ticket",
    "erase": "cli_erase:erase",
    "escalation": "cli_escalations:escalation",
    "feedback": "cli_feedback:feedback",
    "gaps": "cli_feedback:gaps",
    "documents": "cli_feedback:documents",
    "models": "cli_models:models",
    "eval": "cli_eval:evaluation",
    "tune": "cli_tune:tune",
    "slack": "cli_slack:workspaces",
}
"""name → module and what is in it"""


class Groups(TyperGroup):
    """The whole command line: its own commands and `GROUPS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*(name for name in self.commands if name not in GROUPS), *GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # A name that is unknown is looked for in all, to suggest one.
        for name in (cmd_name,) if cmd_name in self.list_commands(ctx) else GROUPS:
            if name in GROUPS and name not in self.commands:
                module, _, variable = GROUPS[name].partition(":")
                found: typer.Typer = getattr(import_module(f"assistant.surfaces.{module}"), variable)
                group = get_group(found)
                group.name = name
                self.add_command(group)
        return super().get_command(ctx, cmd_name)
