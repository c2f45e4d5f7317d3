"""A training as a job: its row, the lock that says where it is done, and the process that does it. No torch here."""

from __future__ import annotations

import datetime as dt
import errno
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import structlog

from assistant.config import Settings
from assistant.errors import ConfigError, DeskhandError
from assistant.runtime.up import can_tune, environment
from assistant.store import versions
from assistant.store.db import Database, explain
from assistant.store.versions import Version

BUSY = 75
"""exit code of a process that finds the version trained by another"""
LOG = "train.log"
STARTS = 4
"""after so many that got no further than the one before it is given up"""
AGAIN_SECONDS = 600.0
"""a full disk is looked at again after so long"""

Tell = Callable[[Mapping[str, Any]], bool]
"""takes how far a training is; says whether to go on"""

log = structlog.get_logger()


class Stopped(Exception):
    """Somebody wants the training to end."""


class Useless(DeskhandError):
    """The training came to nothing, for a reason that going on with it doesn't change."""


class Training:
    """A version's row, and the lock that says that it is trained here; it falls with the process."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self.connection = database.connect()
        self.version = versions.get(self.connection, name)
        self.told = dict(self.version.progress)
        self._reached = int(self.told.get("step", 0))
        self._before = float(self.told.get("seconds", 0))
        self._began = time.monotonic()

    def claim(self) -> bool:
        """Whether it is to be done here. Counts the start before any work, since that may kill the process.

        Raises `Useless` when it killed too many.
        """
        if not versions.claim(self.connection, self.version):
            return False
        starts = int(self.told.get("starts", 0)) + 1
        self.told = {key: value for key, value in self.told.items() if key not in ("again_at", "trouble")}
        if starts > STARTS:
            raise Useless(
                f"It died {STARTS} times without getting any further than step {self._reached}, most likely for want "
                "of memory. What it learnt is kept. Make memory free, or stop what else runs, then go on with "
                f"`deskhand tune train --resume {self.version.name}`."
            )
        return self.tell({"starts": starts})

    def tell(self, news: Mapping[str, Any]) -> bool:
        """Note how far it is; False when it is to end. A database that is away for a while changes nothing."""
        if "dev_loss" in news and news["dev_loss"] != self.told.get("dev_loss"):
            look = {name: news[name] for name in ("step", "loss", "dev_loss") if name in news}
            news = {**news, "losses": [*self.told.get("losses", ()), look]}
        self.told |= {**news, "seconds": round(self._before + time.monotonic() - self._began)}
        if int(self.told.get("step", 0)) > self._reached:
            self.told["starts"] = 0
        try:
            return versions.progress(self.connection, self.version, self.told)
        except psycopg.OperationalError:
            pass
        try:
            fresh = self._database.connect()
        except psycopg.Error as error:
            log.warning("progress not told", reason=explain(error))
            return True
        self.connection.close()
        self.connection = fresh
        return versions.claim(fresh, self.version)

    def wait(self, trouble: str) -> None:
        """It can't go on now; a worker tries again later."""
        again = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=AGAIN_SECONDS)
        self.tell({"trouble": trouble, "again_at": again.isoformat()})


def check_installed() -> None:
    """Raises `ConfigError` saying what to install."""
    if not can_tune():
        raise ConfigError(
            "Fine-tuning needs the extra [tune], which is not installed: pip install 'deskhand[tune]'. Nothing was "
            "started. (On a machine without a GPU, install torch from its index for CPUs first: it is far smaller.)"
        )


def start(settings: Settings, version: Version, *, politely: bool = False) -> subprocess.Popen[bytes]:
    """The process that trains a version; its output goes to `train.log` in the version's folder.

    `politely`: it steps back for whatever else wants the processor.
    """
    folder = settings.models_folder / version.folder
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "assistant.tune.train",
        version.name,
        *(["--politely"] if politely else []),
    ]
    with (folder / LOG).open("ab") as out:
        return subprocess.Popen(
            command,
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def room(folder: Path, needed: int) -> None:
    """Raises `OSError` when the disk has no space for as many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:.0f} MB are needed")


def full(error: BaseException, folder: Path) -> bool:
    """Whether a full disk is behind it: torch and safetensors put errors of their own in front of it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left" in str(error) or shutil.disk_usage(folder).free < 1_000_000
