"""One supervised child process: how it is started, how it is known to be ready, how it ends."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "_DESKHAND_RUN"
"""environment variable that marks the processes of one run, so that the next one finds what was left"""


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Process:
    """What to run. Servers are stopped after all other processes, since those use them."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] | None = None
    """the whole environment; None: this process's"""
    user: str | None = None
    """run as this user, with no other group than its own; only root can"""
    cwd: Path | None = None
    server: bool = False
    prepare: Callable[[], None] | None = None
    """called before every start"""
    ready: Callable[[], bool] = _always
    """polled after a start; must answer within a few seconds and not raise"""
    ready_seconds: float = 60.0
    """how long the first start may take before it counts as failed"""
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    """tried in turn, `stop_grace` seconds each, before SIGKILL"""
    stop_grace: float = 4.0


def launch(process: Process, *, log: Path, mark: str) -> subprocess.Popen[bytes]:
    """Start in a process group of its own, so that a Ctrl-C at the terminal is ours to pass on.

    Its output is appended to `log`, which may be truncated meanwhile. Children do
    not die with us (PR_SET_PDEATHSIG follows the thread that forked, and a
    server that outlives us loses nothing); the next run ends them by their mark.
    """
    env = dict(os.environ if process.env is None else process.env) | {MARK: mark}
    with log.open("ab") as out:
        return subprocess.Popen(
            process.command,
            env=env,
            cwd=process.cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            process_group=0,
            user=process.user,
            group=group_of(process.user),
            extra_groups=[] if process.user else None,
        )


def group_of(user: str | None) -> int | None:
    """A user's own group, to run something as nobody else."""
    return pwd.getpwnam(user).pw_gid if user else None


def signal_group(pid: int, signum: signal.Signals) -> None:
    """Signal a child's whole group; it being gone is what was wanted."""
    try:
        os.killpg(pid, signum)
    except (ProcessLookupError, PermissionError):
        return


def end(processes: Iterable[psutil.Process], signum: signal.Signals, *, seconds: float) -> int:
    """Signal processes that are not our children, wait, and kill what stays. Returns how many there were."""
    victims = list(processes)
    for victim in victims:
        _quietly(victim.send_signal, signum)
    _, alive = psutil.wait_procs(victims, timeout=seconds)
    for victim in alive:
        _quietly(victim.kill)
    psutil.wait_procs(alive, timeout=5)
    return len(victims)


def running_in(folder: Path, name: str) -> list[psutil.Process]:
    """Processes called `name` whose working directory is `folder`: how a server of ours is known.

    A pid file would not do: after a kill -9 its number may belong to another.
    """
    found: list[psutil.Process] = []
    for candidate in psutil.process_iter(["name"]):
        try:
            if candidate.info["name"] == name and _works_in(candidate, folder):
                found.append(candidate)
        except (psutil.Error, OSError):
            continue
    return found


def _works_in(candidate: psutil.Process, folder: Path) -> bool:
    try:
        return Path(candidate.cwd()) == folder
    except psutil.AccessDenied:  # root in a container may not look; the command line anybody may read
        return any(str(folder) in argument for argument in candidate.cmdline())


def marked(mark: str) -> list[psutil.Process]:
    """Processes that carry the mark of a run."""
    found: list[psutil.Process] = []
    for candidate in psutil.process_iter():
        try:
            if candidate.environ().get(MARK) == mark:
                found.append(candidate)
        except (psutil.Error, OSError):
            continue
    return found


def _quietly(call: Callable[..., None], *arguments: object) -> None:
    try:
        call(*arguments)
    except psutil.NoSuchProcess:
        return
