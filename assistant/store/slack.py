"""What Deskhand keeps of Slack: workspaces, settings of channels, deliveries, and which thread is which conversation.

All of it is the writer's, and holds ids alone. A question is claimed by inserting its row, so
that of any number of deliveries and processes one answers it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from assistant.config import Settings
from assistant.errors import ConfigError, NotThere
from assistant.store import secrets
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL

INTERRUPTED_SECONDS = 90
"""so long nothing was heard of whoever answers a question"""


class Audience(StrEnum):
    """Of which material an answer in a channel is made."""

    PUBLIC = "public"
    """what everybody may read"""
    MEMBERS = "members"
    """what each member may read"""


class Alert(StrEnum):
    """What a channel can be told of."""

    SYNC = "sync"
    HELD = "held"
    TRAINING = "training"
    GAPS = "gaps"
    HANDOVER = "handover"


@dataclass(frozen=True, slots=True)
class Workspace:
    team: str
    enterprise: str
    name: str
    token: str
    bot: str
    bot_user: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A message of Slack's, which `ts` names within its channel."""

    team: str
    channel: str
    ts: str

    @property
    def values(self) -> dict[str, Any]:
        return {"team": self.team, "channel": self.channel, "ts": self.ts}


@dataclass(frozen=True, slots=True)
class Channel:
    """How Deskhand behaves in a channel; the defaults are quiet and public."""

    team: str
    channel: str
    auto: bool = False
    floor: float = 0.8
    audience: Audience = Audience.PUBLIC
    customer_id: int | None = None
    quiet_from: dt.time | None = None
    quiet_to: dt.time | None = None
    zone: str = "UTC"
    alerts: frozenset[Alert] = frozenset()

    def quiet(self, now: dt.datetime) -> bool:
        """Whether nothing is to be said unasked at this moment."""
        if self.quiet_from is None or self.quiet_to is None:
            return False
        try:
            local = now.astimezone(ZoneInfo(self.zone)).time()
        except (ZoneInfoNotFoundError, ValueError):
            local = now.astimezone(dt.UTC).time()
        if self.quiet_from <= self.quiet_to:
            return self.quiet_from <= local < self.quiet_to
        return local >= self.quiet_from or local < self.quiet_to


# ── workspaces ───────────────────────────────────────────────────────────────


def save_workspace(
    connection: Conn,
    settings: Settings,
    *,
    team: str,
    enterprise: str,
    name: str,
    token: str,
    bot: str,
    bot_user: str,
) -> None:
    values = {
        "team": team,
        "enterprise": enterprise,
        "name": name,
        "token": secrets.seal(settings, {"token": token}),
        "bot": bot,
        "bot_user": bot_user,
    }
    connection.execute(SQL["slack_workspace_save"], values)


def workspace(connection: Conn, settings: Settings, team: str) -> Workspace | None:
    """With its token. Raises `ConfigError` when that was encrypted with another key."""
    row = connection.execute(SQL["slack_workspace_get"], {"team": team}).fetchone()
    if row is None:
        return None
    token = secrets.unseal(settings, row["token"])["token"]
    return Workspace(**{name: row[name] for name in Workspace.__slots__ if name != "token"}, token=token)


def workspaces(connection: Conn) -> list[Row]:
    """Without their tokens."""
    return connection.execute(SQL["slack_workspace_all"]).fetchall()


def allow(connection: Conn, team: str) -> None:
    """Believe this workspace who its members are. Raises `NotThere` for one that is not installed."""
    _existing(connection, SQL["slack_workspace_allow"], team)


def remove(connection: Conn, team: str) -> None:
    """Forget its token; nothing is answered there any more. Raises `NotThere`."""
    _existing(connection, SQL["slack_workspace_remove"], team)


def _existing(connection: Conn, statement: bytes, team: str) -> None:
    if connection.execute(statement, {"team": team}).fetchone() is None:
        raise NotThere(f"No workspace «{team}» is installed; `deskhand slack list` shows them.")


# ── deliveries and questions ─────────────────────────────────────────────────


def claim(connection: Conn, team: str, key: str) -> bool:
    """Whether this delivery is the first of its kind."""
    return connection.execute(SQL["slack_claim"], {"team": team, "key": key[:200]}).fetchone() is not None


def forget(connection: Conn) -> None:
    """Drop what is too old to be delivered or edited again."""
    connection.execute(SQL["slack_forget"])


def claim_question(connection: Conn, message: Message, *, thread: str, user: str) -> bool:
    """Whether the caller is the one to answer it."""
    values = {**message.values, "thread": thread, "user": user}
    return connection.execute(SQL["slack_question_claim"], values).fetchone() is not None


def question(connection: Conn, message: Message) -> Row | None:
    return connection.execute(SQL["slack_question_get"], message.values).fetchone()


def stored(
    connection: Conn, message: Message, *, revision: int, conversation: UUID, question_id: int
) -> None:
    values = {
        **message.values,
        "revision": revision,
        "conversation": conversation,
        "question": question_id,
    }
    connection.execute(SQL["slack_question_stored"], values)


def alive(connection: Conn, message: Message, *, revision: int) -> bool:
    """Say that it is being answered still; False when it was edited or deleted since."""
    values = {**message.values, "revision": revision}
    return connection.execute(SQL["slack_question_alive"], values).fetchone() is not None


def end(
    connection: Conn, message: Message, *, revision: int, replies: Sequence[str], failed: bool = False
) -> bool:
    """It is answered by these messages; False when it was edited or deleted since, so that they have to go."""
    values = {
        **message.values,
        "revision": revision,
        "replies": list(replies),
        "state": "failed" if failed else "answered",
    }
    return connection.execute(SQL["slack_question_end"], values).fetchone() is not None


def again(connection: Conn, message: Message) -> Row | None:
    """It was edited: to be answered anew. None when it is no question, or deleted."""
    return connection.execute(SQL["slack_question_again"], message.values).fetchone()


def gone(connection: Conn, message: Message) -> Row | None:
    """It was deleted. None when it is no question."""
    return connection.execute(SQL["slack_question_gone"], message.values).fetchone()


def interrupted(connection: Conn) -> list[Row]:
    """Questions whose answer died with its process, each told once."""
    values = {"seconds": INTERRUPTED_SECONDS}
    return connection.execute(SQL["slack_question_interrupted"], values).fetchall()


# ── threads ──────────────────────────────────────────────────────────────────


def conversation(connection: Conn, team: str, channel: str, thread: str, principal: str) -> UUID | None:
    """Which conversation a thread goes on, of the channel's or of a person's own."""
    values = {"team": team, "channel": channel, "thread": thread, "principal": principal}
    row = connection.execute(SQL["slack_thread_get"], values).fetchone()
    return row["conversation_id"] if row else None


def go_on(connection: Conn, team: str, channel: str, thread: str, principal: str, conversation: UUID) -> None:
    values = {
        "team": team,
        "channel": channel,
        "thread": thread,
        "principal": principal,
        "conversation": conversation,
    }
    connection.execute(SQL["slack_thread_set"], values)


def owner(connection: Conn, conversation: UUID) -> str:
    """Id of whose conversation it is; empty for one that is no thread's."""
    row = connection.execute(SQL["slack_thread_owner"], {"conversation": conversation}).fetchone()
    return row["principal_id"] if row else ""


def last_asker(connection: Conn, team: str, channel: str, thread: str) -> str:
    """Slack's id of whoever asked last in a thread; empty where nobody did."""
    row = connection.execute(
        SQL["slack_last_asker"], {"team": team, "channel": channel, "thread": thread}
    ).fetchone()
    return row["user_id"] if row else ""


# ── channels ─────────────────────────────────────────────────────────────────


def channel(connection: Conn, team: str, name: str) -> Channel:
    row = connection.execute(SQL["slack_channel_get"], {"team": team, "channel": name}).fetchone()
    return Channel(team, name) if row is None else _channel(row)


def _channel(row: Row) -> Channel:
    return Channel(
        **{name: row[name] for name in Channel.__slots__ if name not in ("audience", "alerts")},
        audience=Audience(row["audience"]),
        alerts=frozenset(Alert(alert) for alert in row["alerts"]),
    )


def set_channel(connection: Conn, chosen: Channel) -> None:
    """Raises `ConfigError` for a time zone that is none. Alerts are set by `subscribe`."""
    try:
        ZoneInfo(chosen.zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(f"«{chosen.zone}» is no time zone. Nothing was changed.") from error
    values = {name: getattr(chosen, name) for name in Channel.__slots__}
    values |= {"audience": chosen.audience.value, "customer": chosen.customer_id}
    connection.execute(SQL["slack_channel_set"], values)


def subscribe(
    connection: Conn, team: str, name: str, alerts: Sequence[Alert], told: Mapping[str, Any]
) -> None:
    """Tell a channel of these from now on; `told`: where each begins that is new."""
    values = {
        "team": team,
        "channel": name,
        "alerts": [alert.value for alert in alerts],
        "told": json.dumps(dict(told)),
    }
    connection.execute(SQL["slack_subscribe"], values)


def subscribers(
    connection: Conn, alerts: Sequence[Alert], *, team: str | None = None
) -> list[tuple[str, str]]:
    """Team and channel of those that are told of any of these."""
    values = {"alerts": [alert.value for alert in alerts], "team": team}
    rows = connection.execute(SQL["slack_subscribers"], values)
    return [(row["team"], row["channel"]) for row in rows]


def subscriber(connection: Conn, team: str, name: str) -> tuple[Channel, dict[str, Any]] | None:
    """A channel with what it was told, locked; None when it wants nothing, or another process has it."""
    row = connection.execute(SQL["slack_subscriber"], {"team": team, "channel": name}).fetchone()
    return None if row is None else (_channel(row), row["told"])


def told(connection: Conn, team: str, name: str, up_to: Mapping[str, Any]) -> None:
    values = {"team": team, "channel": name, "told": json.dumps(dict(up_to))}
    connection.execute(SQL["slack_told"], values)


def failed_runs(connection: Conn, since: dt.datetime) -> list[Row]:
    """Jobs of sources that failed after they had worked."""
    return connection.execute(SQL["slack_failed_runs"], {"since": since}).fetchall()


def held(connection: Conn, since: dt.datetime) -> list[Row]:
    """Deletions that were held back."""
    return connection.execute(SQL["slack_held"], {"since": since}).fetchall()
