"""The Slack bot: a process of its own, which runs where tokens are set."""

from __future__ import annotations

import sys

from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.runtime.process import Process
from assistant.runtime.up import environment


def check(settings: Settings) -> None:
    """Raises `ConfigError` for settings that don't suffice to run it."""
    installs = settings.slack_client_id and settings.slack_client_secret
    if not (settings.slack_bot_token or installs):
        raise ConfigError(
            "Slack needs DESKHAND_SLACK_BOT_TOKEN for one workspace, or DESKHAND_SLACK_CLIENT_ID and "
            "DESKHAND_SLACK_CLIENT_SECRET for several. Nothing was started."
        )
    if not (settings.slack_app_token or (settings.slack_signing_secret and settings.slack_port)):
        raise ConfigError(
            "Slack needs DESKHAND_SLACK_APP_TOKEN (Socket Mode), or DESKHAND_SLACK_SIGNING_SECRET and "
            "DESKHAND_SLACK_PORT (HTTP). Nothing was started."
        )
    if not settings.slack_bot_token and not settings.slack_port:
        raise ConfigError(
            "Workspaces install the app over HTTP: set DESKHAND_SLACK_PORT. Nothing was started."
        )


def processes(settings: Settings) -> list[Process]:
    """What `deskhand up` runs for Slack: nothing without tokens. Raises `ConfigError` where some are missing."""
    if not (settings.slack_app_token or settings.slack_bot_token or settings.slack_client_id):
        return []
    check(settings)
    command = (sys.executable, "-m", "assistant.surfaces.slack.serve")
    return [Process(name="slack", command=command, env=environment(settings))]
