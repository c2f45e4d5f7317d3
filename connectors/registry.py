"""The connectors there are: name → "module:Class", imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from assistant.errors import ConfigError
from connectors.base import Connector

CONNECTORS: dict[str, str] = {
    "directory": "connectors.directory:DirectoryConnector",
    "smb": "connectors.smb:SmbConnector",
    "request-tracker": "connectors.request_tracker:RequestTrackerConnector",
    "redmine": "connectors.redmine:RedmineConnector",
    "zendesk": "connectors.zendesk:ZendeskConnector",
    "jira": "connectors.jira:JiraConnector",
    "github-issues": "connectors.github_issues:GitHubIssuesConnector",
    "ticket-export": "connectors.ticket_export:TicketExportConnector",
}


def connector_class(name: str) -> type[Connector]:
    """The class behind `name`; raises `ConfigError` naming the known ones."""
    if name not in CONNECTORS:
        raise ConfigError(f"There is no connector «{name}». Known: {', '.join(sorted(CONNECTORS))}.")
    module, _, attribute = CONNECTORS[name].partition(":")
    return cast(type[Connector], getattr(import_module(module), attribute))
