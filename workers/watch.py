"""Watches the local folders of sources: what changes there is synced at once, not at the next turn.

A notification is only a hint that a sync is due. Where the kernel gives none (network
file systems, too many folders), the schedule still finds every change.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from types import FrameType

import structlog
from watchfiles import watch

from assistant.app import Assistant
from assistant.config import settings
from assistant.errors import DeskhandError, NotRunning
from assistant.log import configure
from assistant.store import sources

LOOK_SECONDS = 10.0
"""how often the sources are looked through for folders that came or went"""
CALM_MILLISECONDS = 1000
"""a burst of changes, as of a copied folder, is one hint"""

log = structlog.get_logger()


class Watch:
    """One folder of one source, watched in a thread."""

    def __init__(self, assistant: Assistant, source_id: int, folder: str) -> None:
        self._assistant = assistant
        self._source_id = source_id
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{source_id}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        try:
            for _ in watch(
                self._folder,
                stop_event=self._stop,
                step=CALM_MILLISECONDS // 4,
                debounce=CALM_MILLISECONDS,
                watch_filter=None,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._hint()
        except (OSError, RuntimeError) as error:
            log.warning("folder not watched", source=self._source_id, error=type(error).__name__)

    def _hint(self) -> None:
        try:
            with self._assistant.database.writer() as connection:
                source = sources.by_id(connection, self._source_id)
                if source is not None and not source.paused:
                    sources.request(connection, source)
        except NotRunning as error:
            log.warning("hint lost, the schedule finds the change", reason=str(error))


def wanted(assistant: Assistant) -> dict[tuple[int, str], None]:
    """Source and folder of what is to be watched now."""
    with assistant.database.writer() as connection:
        every = sources.everything(connection)
    found: dict[tuple[int, str], None] = {}
    for source in every:
        try:
            connector = assistant.connector(source)
        except DeskhandError:
            continue  # its sync tells the admin what is wrong with the settings
        found |= {(source.id, folder): None for folder in connector.watched()}
        connector.close()
    return found


def main() -> None:
    config = settings()
    configure(config.log_level)
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    assistant = Assistant(config)
    watches: dict[tuple[int, str], Watch] = {}
    while True:
        try:
            _adjust(assistant, watches, wanted(assistant))
        except NotRunning as error:
            log.warning("sources unknown for now", reason=str(error))
        if stop.wait(LOOK_SECONDS):
            break
    for one in watches.values():
        one.stop()
    assistant.close()


def _adjust(
    assistant: Assistant, watches: dict[tuple[int, str], Watch], now: Mapping[tuple[int, str], None]
) -> None:
    """Begin and end watches so that they are those of `now`; one that ended by itself begins anew."""
    for key in [key for key, one in watches.items() if key not in now or not one.alive]:
        watches.pop(key).stop()
    for key in now:
        if key not in watches:
            watches[key] = Watch(assistant, *key)


if __name__ == "__main__":
    main()
