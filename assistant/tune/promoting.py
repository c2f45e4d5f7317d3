"""A promotion as a process of its own: `python -m assistant.tune.promoting NAME WHO`.

Whoever answers people starts it, so that a comparison of minutes takes neither their memory nor
their time. The version's row says what came of it, its advisory lock that it goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import structlog

from assistant.app import Assistant
from assistant.config import settings
from assistant.errors import ConfigError, DeskhandError
from assistant.evaluate import statistics
from assistant.generate import live
from assistant.log import configure
from assistant.runtime.up import environment
from assistant.store import versions
from assistant.tune import promote as promotion

LOG = "promote.log"

log = structlog.get_logger()


def start(assistant: Assistant, name: str, *, by: str) -> None:
    """Begin to compare a candidate with what answers now. Raises `ConfigError` where that can't be done."""
    statistics.check_installed()
    live.check_tunable(assistant.settings)
    with assistant.database.writer() as connection:
        version = versions.get(connection, name)
        promotion.promotable(version)
        if version.id in versions.claimed(connection):
            raise ConfigError(
                f"{name} is being compared already. Nothing was changed; its row tells when it is done."
            )
    folder = assistant.settings.models_folder / version.folder
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "assistant.tune.promoting", name, by],
            env=environment(assistant.settings),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    threading.Thread(target=process.wait, daemon=True).start()  # so that it leaves no zombie


def silent(_step: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def main(name: str, by: str) -> int:
    """0: the row says what came of it; 1: it could not be compared, and the row says why."""
    assistant = Assistant(settings())
    with assistant.database.connect() as connection:
        version = versions.get(connection, name)
        if not versions.claim(connection, version):
            return 0
        try:
            verdict = promotion.promote(assistant, name, by=by, progress=silent)
            promotion.keep(assistant, verdict)
            return 0
        except DeskhandError as error:
            reason = str(error)
        except Exception as error:
            log.exception("promotion failed", version=name)
            reason = f"An unexpected {type(error).__name__} ended the comparison. Nothing was changed; {LOG} beside "
            reason += "its weights has the details."
        versions.note(connection, version, reason)
        return 1


if __name__ == "__main__":
    configure(settings().log_level)
    os.nice(10)
    sys.exit(main(sys.argv[1], sys.argv[2]))
