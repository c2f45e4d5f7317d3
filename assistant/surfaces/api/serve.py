"""Runs the web application: `python -m assistant.surfaces.api.serve`."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import uvicorn

from assistant import servers, traces
from assistant.config import Settings, settings
from assistant.errors import ConfigError
from assistant.log import configure


def address(state: Path) -> str:
    """Where the web server of this state folder listens or last listened; empty before its first start."""
    try:
        return str(json.loads((state / "web.json").read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError):
        return ""


def listen(config: Settings) -> socket.socket:
    """A socket on the settings' port; a free one is kept over restarts, since sources are told it.

    Raises `ConfigError` when the port the settings name can't be had.
    """
    problem = ""
    last = int(address(config.state).rpartition(":")[2] or 0)
    family = socket.AF_INET6 if ":" in config.web_host else socket.AF_INET
    for port in dict.fromkeys((config.web_port or last, config.web_port)):
        try:
            bound = socket.create_server((config.web_host, port), family=family)
        except OSError as error:
            problem = error.strerror or str(error)
            continue
        host = f"[{config.web_host}]" if ":" in config.web_host else config.web_host
        url = f"http://{host}:{bound.getsockname()[1]}"
        servers.write_small(config.state / "web.json", json.dumps({"url": url}))
        return bound
    raise ConfigError(
        f"The web server can't listen on {config.web_host}:{config.web_port}: {problem}. Nothing was lost; choose "
        "another DESKHAND_WEB_PORT or DESKHAND_WEB_HOST."
    )


def main() -> None:
    from assistant.surfaces.api.app import create  # much, which whoever asks for the address doesn't need

    config = settings()
    configure(config.log_level)
    traces.configure(config, "web")
    bound = listen(config)
    # Addresses and paths of callers are nobody's business in a log; errors are still logged.
    server = uvicorn.Config(
        create(config), log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=3
    )
    uvicorn.Server(server).run(sockets=[bound])


if __name__ == "__main__":
    main()
