"""When each job of a source is due: rows that say every how long, or at which times of a zone.

What is due is claimed by moving its row on, in one transaction: however many
beats tick, a job is requested once.
"""

from __future__ import annotations

import datetime as dt
import random
import re
from dataclasses import dataclass
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from assistant.errors import ConfigError
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL

LEAST_SECONDS = 10.0
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


class Job(StrEnum):
    """What is done with a source. Each has a schedule and a queue of its own."""

    SYNC = "sync"
    """read what changed"""
    PERMISSIONS = "permissions"
    """who is who, in which groups, and who may read what"""
    INVENTORY = "inventory"
    """what is gone"""
    RETRY = "retry"
    """try again what failed for a reason that may have passed"""


@dataclass(frozen=True, slots=True)
class Times:
    """`every` seconds, or a cron expression of five fields in `zone`; up to `jitter` seconds later."""

    every: float | None = None
    cron: str = ""
    zone: str = "UTC"
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if (self.every is None) == (not self.cron):
            raise ConfigError("A schedule is either an interval or a cron expression. Nothing was changed.")
        if self.every is not None and self.every < LEAST_SECONDS:
            raise ConfigError("A source can be synced every 10 seconds at most.")
        try:
            self.next(dt.datetime.now(dt.UTC))
        except (CronSimError, StopIteration):
            raise ConfigError(
                f"«{self.cron}» is no cron expression: use five fields such as «30 6 * * 1-5» (minute, hour, day, "
                "month, weekday). Nothing was changed."
            ) from None
        except (ZoneInfoNotFoundError, ValueError):
            raise ConfigError(
                f"«{self.zone}» is no time zone; use a name such as Europe/Berlin. Nothing was changed."
            ) from None

    def next(self, now: dt.datetime) -> dt.datetime:
        """The first time after `now`; across a change of the clocks as cron does it."""
        late = dt.timedelta(seconds=random.uniform(0.0, self.jitter))  # noqa: S311 - spreads load
        if self.every is not None:
            return now + dt.timedelta(seconds=self.every) + late
        return next(CronSim(self.cron, now.astimezone(ZoneInfo(self.zone)))).astimezone(dt.UTC) + late


DEFAULTS: dict[Job, Times] = {
    Job.SYNC: Times(every=900),
    Job.PERMISSIONS: Times(every=900),
    Job.INVENTORY: Times(every=6 * 3600, jitter=600),
    Job.RETRY: Times(every=3600, jitter=300),
}


def parse_every(text: str) -> float | None:
    """Seconds of «15m»; None for «never». Raises `ConfigError`."""
    if text == "never":
        return None
    match = re.fullmatch(r"(\d{1,5})([smhd])", text.strip())
    if not match:
        raise ConfigError(f"«{text}» is not an interval: use 30s, 15m, 6h, 1d or never.")
    seconds = int(match[1]) * next(size for size, unit in _UNITS if unit == match[2])
    if seconds < LEAST_SECONDS:
        raise ConfigError("A source can be synced every 10 seconds at most.")
    return float(seconds)


def in_words(seconds: float) -> str:
    """An interval as `parse_every` takes it: «15m»."""
    whole = round(seconds)
    size, unit = next((size, unit) for size, unit in _UNITS if whole % size == 0)
    return f"{whole // size}{unit}"


def put(connection: Conn, source_id: int, job: Job, times: Times, *, now: bool = False) -> None:
    """Set a job's times; first due at the next of them, or at once."""
    connection.execute(
        SQL["schedule_set"],
        {
            "source": source_id,
            "job": job.value,
            "every": times.every,
            "cron": times.cron,
            "zone": times.zone,
            "jitter": times.jitter,
            "next_at": dt.datetime.now(dt.UTC) if now else times.next(dt.datetime.now(dt.UTC)),
        },
    )


def drop(connection: Conn, source_id: int, job: Job) -> None:
    """The job is done only when somebody asks for it."""
    connection.execute(SQL["schedule_drop"], {"source": source_id, "job": job.value})


def pause(connection: Conn, source_id: int, job: Job, *, paused: bool = True) -> None:
    connection.execute(SQL["schedule_pause"], {"source": source_id, "job": job.value, "paused": paused})


def everything(connection: Conn, *, source: str | None = None) -> list[Row]:
    return connection.execute(SQL["schedule_all"], {"source": source}).fetchall()


def claim_due(connection: Conn) -> list[tuple[int, Job]]:
    """Source and job of what is due now, moved on to its next time."""
    now = dt.datetime.now(dt.UTC)
    claimed: list[tuple[int, Job]] = []
    for row in connection.execute(SQL["schedule_due"]).fetchall():
        times = Times(row["every"], row["cron"], row["zone"], row["jitter"])
        connection.execute(
            SQL["schedule_next"],
            {"source": row["source_id"], "job": row["job"], "next_at": times.next(now)},
        )
        claimed.append((row["source_id"], Job(row["job"])))
    return claimed


def outcome(connection: Conn, source_id: int, job: str, *, failed: bool, wait: float = 0.0) -> None:
    """After a failure the next run comes later each time, `wait` seconds at least; a success resets that."""
    connection.execute(
        SQL["schedule_outcome"], {"source": source_id, "job": job, "failed": failed, "wait": wait}
    )
