"""The connectors there are: name → "module:Class", imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from assistant.errors import ConfigError
from connectors.base import Connector

CONNECTORS: dict[str, str] = {
    "directory": "connectors.directory:DirectoryConnector",
    "s3": "connectors.s3:S3Connector",
    "sftp": "connectors.sftp:SftpConnector",
    "ticket-export": "connectors.ticket_export:TicketExportConnector",
    "webdav": "connectors.webdav:WebdavConnector",
}


def connector_class(name: str) -> type[Connector]:
    """The class behind `name`; raises `ConfigError` naming the known ones."""
    if name not in CONNECTORS:
        raise ConfigError(f"There is no connector «{name}». Known: {', '.join(sorted(CONNECTORS))}.")
    module, _, attribute = CONNECTORS[name].partition(":")
    return cast(type[Connector], getattr(import_module(module), attribute))
