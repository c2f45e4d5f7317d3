"""The connectors there are: name → "module:Class", imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from assistant.errors import ConfigError
from connectors.base import Connector

CONNECTORS: dict[str, str] = {
    "directory": "connectors.directory:DirectoryConnector",
    "smb": "connectors.smb.connector:SmbConnector",
    "webdav": "connectors.webdav:WebdavConnector",
    "sftp": "connectors.sftp.connector:SftpConnector",
    "s3": "connectors.s3:S3Connector",
    "request-tracker": "connectors.request_tracker.connector:RequestTrackerConnector",
    "redmine": "connectors.redmine.connector:RedmineConnector",
    "zendesk": "connectors.zendesk.connector:ZendeskConnector",
    "jira": "connectors.jira.connector:JiraConnector",
    "github-issues": "connectors.github_issues.connector:GitHubIssuesConnector",
    "ticket-export": "connectors.ticket_export.connector:TicketExportConnector",
}


def connector_class(name: str) -> type[Connector]:
    """The class behind `name`; raises `ConfigError` naming the known ones."""
    if name not in CONNECTORS:
        raise ConfigError(f"There is no connector «{name}». Known: {', '.join(sorted(CONNECTORS))}.")
    module, _, attribute = CONNECTORS[name].partition(":")
    return cast(type[Connector], getattr(import_module(module), attribute))
