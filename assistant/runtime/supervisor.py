"""Runs the processes of an installation: starts them in order, restarts what dies, stops them all.

One thread does all starting and watching; the caller's thread adds processes,
waits, and stops. What runs is written to `status.json`, for people and for the
next run, which ends what a killed supervisor left behind.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil
import structlog

from assistant import servers
from assistant.errors import NotRunning
from assistant.runtime.process import Process, end, launch, marked, signal_group
from assistant.runtime.state import State

TICK_SECONDS = 0.1
BACKOFF_FIRST_SECONDS, BACKOFF_LAST_SECONDS = 0.5, 30.0
HEALTHY_SECONDS = 10.0
"""after this long a process's earlier deaths are forgotten"""
FIRST_STARTS = 6
"""tries before a first start counts as failed: about 15 s of backoff"""
STOP_SECONDS, STOP_SERVERS_SECONDS = 5.0, 3.5
"""for the processes to end in their own time, and then for the servers; after that they are killed"""
LATE_GRACE_SECONDS = 0.3
"""between two stop signals when time is up"""
LOG_BYTES = 10 * 1024 * 1024
LOG_TAIL_LINES = 8

_log = structlog.stdlib.get_logger(__name__)


class Phase(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One line of `deskhand status`. `pid` is 0 while the process waits to be started again."""

    name: str
    pid: int
    created: float
    """the process's start time as the kernel tells it: with the pid, an identity"""
    state: str
    restarts: int
    since: str
    """UTC, ISO 8601: when it got into this state"""


@dataclass(frozen=True, slots=True)
class Status:
    """What a supervisor last wrote; `alive` when that supervisor is still there."""

    mark: str
    pid: int
    created: float
    processes: tuple[ProcessStatus, ...]

    @property
    def alive(self) -> bool:
        return _identity(self.pid, self.created) is not None


def read_status(state: Path) -> Status | None:
    """The status in a state folder; None when nothing ran there yet, or it is somebody else's."""
    try:
        raw = json.loads((state / "status.json").read_text(encoding="utf-8"))
        return Status(**raw | {"processes": tuple(ProcessStatus(**entry) for entry in raw["processes"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


class Supervisor:
    """Call `start` for each process in order, then `stop`; between them the rest is looked after."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._mark = secrets.token_hex(16)
        self._created = psutil.Process().create_time()
        self._children: list[_Child] = []
        self._written = ""
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def clean(self) -> int:
        """End what an earlier run that was killed left behind; returns how many processes there were.

        Only for the holder of the state folder's lock.
        """
        left = read_status(self._state.root)
        count = 0
        if left is not None:
            known = (_identity(entry.pid, entry.created) for entry in reversed(left.processes))
            victims = {victim.pid: victim for victim in (*filter(None, known), *marked(left.mark))}
            # every one of them takes SIGINT as the wish to end soon and in good order; SIGTERM PostgreSQL
            # takes as one to wait for its sessions
            count = end(victims.values(), signal.SIGINT, seconds=STOP_SECONDS)
        if count:
            _log.warning("leftovers.ended", count=count)
        return count

    def start(self, process: Process) -> None:
        """Start a process and wait until it is ready. Raises `NotRunning`, with its last words."""
        child = _Child(process, log=self._state.log(process.name), mark=self._mark)
        self._children.append(child)
        if not self._thread.is_alive():
            self._thread.start()
        deadline = time.monotonic() + process.ready_seconds
        while child.phase is not Phase.RUNNING:
            if child.failures >= FIRST_STARTS or time.monotonic() > deadline:
                raise NotRunning(
                    f"{process.name} does not start. Nothing was lost. Its log, "
                    f"{self._state.log(process.name)}, ends with:\n{child.last_words()}"
                )
            time.sleep(TICK_SECONDS / 2)

    def wait(self) -> NoReturn:
        """Let it run until a signal's `KeyboardInterrupt` comes."""
        while True:
            time.sleep(3600)

    def stop(self) -> None:
        """Stop everything within 10 s: first what uses the servers, then the servers."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for server, seconds in ((False, STOP_SECONDS), (True, STOP_SERVERS_SECONDS)):
            _end_children(
                [child for child in self._children if child.process.server is server],
                deadline=time.monotonic() + seconds,
                hurry=self._hurry,
            )
        self._children.clear()
        self._write()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def hurry(self) -> None:
        """Make a `stop` that is under way end at once. May be called from a signal handler."""
        self._hurry.set()

    def _watch(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            for child in list(self._children):
                child.step()
            self._write()

    def _write(self) -> None:
        status = Status(
            self._mark, os.getpid(), self._created, tuple(child.status() for child in self._children)
        )
        text = json.dumps(asdict(status), indent=1)
        if text != self._written:
            with suppress(OSError):  # a full disk must not end the supervision; it is tried again
                servers.write_small(self._state.status, text)
                self._written = text


class _Child:
    """A process through its starts and deaths."""

    def __init__(self, process: Process, *, log: Path, mark: str) -> None:
        self.process = process
        self.phase = Phase.WAITING
        self.failures = 0
        self.popen: subprocess.Popen[bytes] | None = None
        self._log_file = log
        self._mark = mark
        self._created = 0.0
        self._reason = ""
        self._restarts = 0
        self._due = 0.0
        self._since = time.monotonic()
        self._since_utc = _now()

    def step(self) -> None:
        """Look once, and do what is due. Never raises: the others must be looked after too."""
        if self.phase is Phase.WAITING:
            if time.monotonic() >= self._due:
                self._launch()
        elif self.popen is not None and self.popen.poll() is not None:
            self._died(f"exit {self.popen.returncode}")
        elif self.phase is Phase.STARTING:
            if self.process.ready():
                self._enter(Phase.RUNNING)
        elif self.failures and time.monotonic() - self._since > HEALTHY_SECONDS:
            self.failures = 0
        self._bound_log()

    def status(self) -> ProcessStatus:
        pid = self.popen.pid if self.popen is not None and self.phase is not Phase.WAITING else 0
        return ProcessStatus(
            self.process.name, pid, self._created, self.phase.value, self._restarts, self._since_utc
        )

    def last_words(self) -> str:
        try:
            lines = self._log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(f"  {line}" for line in (*lines[-LOG_TAIL_LINES:], self._reason) if line)

    def _launch(self) -> None:
        try:
            if self.process.prepare:
                self.process.prepare()
            self.popen = launch(self.process, log=self._log_file, mark=self._mark)
            self._created = psutil.Process(self.popen.pid).create_time()
        except Exception as error:  # whatever hinders the start, a full disk say, may pass
            self._reason = f"{type(error).__name__}: {error}"
            self._died(self._reason)
        else:
            self._enter(Phase.STARTING)

    def _died(self, reason: str) -> None:
        if self.popen is not None:
            # what it forked is of no use without it, and would do the new one's work twice
            signal_group(self.popen.pid, signal.SIGKILL)
        delay = min(BACKOFF_LAST_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(self.failures, 10))
        self.failures += 1
        self._restarts += 1
        self._due = time.monotonic() + delay
        self._enter(Phase.WAITING)
        name = self.process.name
        _log.warning("process.restart", process=name, reason=reason, in_seconds=delay)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._since = time.monotonic()
        self._since_utc = _now()

    def _bound_log(self) -> None:
        """Keep the newest 10–20 MB. Lines written between copy and truncation are lost; no process is."""
        with suppress(OSError):  # gone, or no room for the copy: it will be looked at again
            if self._log_file.stat().st_size > LOG_BYTES:
                shutil.copyfile(self._log_file, self._log_file.with_suffix(".log.1"))
                os.truncate(self._log_file, 0)


def _end_children(children: Iterable[_Child], *, deadline: float, hurry: threading.Event) -> None:
    """Send each its stop signals in turn, then SIGKILL to what is left of its group."""
    endings = [_Ending(child.process, child.popen) for child in children if child.popen is not None]
    while alive := [ending for ending in endings if ending.popen.poll() is None]:
        late = time.monotonic() > deadline or hurry.is_set()
        for ending in alive:
            ending.step(late=late)
        time.sleep(TICK_SECONDS / 2)
    for ending in endings:
        signal_group(ending.popen.pid, signal.SIGKILL)


class _Ending:
    """The stop signals one process has still to get."""

    def __init__(self, process: Process, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        self._grace = process.stop_grace
        self._signals = iter(process.stop_signals)
        self._sent: float | None = None

    def step(self, *, late: bool) -> None:
        now = time.monotonic()
        if self._sent is None or now - self._sent > (LATE_GRACE_SECONDS if late else self._grace):
            self.popen.send_signal(next(self._signals, signal.SIGKILL))
            self._sent = now


@contextmanager
def stopping_on_signals(supervisor: Supervisor) -> Generator[None]:
    """Turn the first SIGINT or SIGTERM into `KeyboardInterrupt`, and later ones into haste.

    Only in the main thread, where Python lets signals be handled; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = False

    def handle(_signum: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            supervisor.hurry()
        seen = True
        if not supervisor.stopping:
            raise KeyboardInterrupt

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _identity(pid: int, created: float) -> psutil.Process | None:
    """The process with this pid, if it is still the same one."""
    try:
        process = psutil.Process(pid) if pid else None
        return process if process and abs(process.create_time() - created) < 1 else None
    except psutil.Error:
        return None


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
