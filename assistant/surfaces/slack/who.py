"""Who somebody in Slack is to Deskhand, and what may be said to them, or in a channel of them.

A member is the person of their confirmed address, if a source knows that person. Guests, people of
other companies and everybody else get public material, or nothing. A channel asks by itself: with
what everybody may read or, where its settings say so, with what each of its members may read.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import structlog

from assistant.app import Assistant
from assistant.errors import ConfigError, SignInRefused, SourceError
from assistant.model import Principal
from assistant.store import logins, principals, slack
from assistant.store.logins import Role
from assistant.surfaces.slack.place import FAILED, Where, problem

KEPT_SECONDS = 300
"""how long Slack is not asked again who somebody is"""
MEMBERS_SECONDS = 60
MEMBERS = 50
"""a channel of more people gets what everybody may read"""

PEOPLE, PAGES = 1_000, 50
"""of a channel, in one answer of Slack's, and how many of them are read to find somebody"""

log = structlog.get_logger()
T = TypeVar("T")
Run = Callable[..., Awaitable[Any]]
"""runs a function that blocks in a thread"""


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody in Slack."""

    slack: str
    principal: Principal
    known: bool
    """False: nobody in particular, who gets public material alone"""
    role: Role | None
    """of their login to Deskhand; None: they have none"""
    zone: str
    manages: bool
    """an owner or admin of the workspace"""

    @property
    def admin(self) -> bool:
        return self.role is Role.ADMIN


class People:
    """Asks Slack and the database who somebody is; of Slack's answers some are kept for a while."""

    def __init__(self, assistant: Assistant, run: Run) -> None:
        self._assistant = assistant
        self._run = run
        self._users = _Kept[Mapping[str, Any]](KEPT_SECONDS)
        self._members = _Kept[tuple[str, ...]](MEMBERS_SECONDS)

    async def find(self, where: Where) -> Who:
        """Raises `SignInRefused` for somebody who gets nothing, `SourceError` when Slack doesn't tell."""
        return await self._who(where, where.user)

    async def channel(self, where: Where, audience: slack.Audience) -> Principal:
        """What may be told to all in a channel. Undetermined means what everybody may read."""
        everyone = Principal(where.owner)
        if audience is slack.Audience.PUBLIC:
            return everyone
        try:
            members = await self._members.get((where.team, where.channel), partial(self._listed, where))
            if not 0 < len(members) <= MEMBERS:
                return everyone
            tokens: frozenset[str] | None = None
            for member in members:
                if member != where.workspace.bot_user:
                    theirs = (await self._who(where, member)).principal.tokens
                    tokens = theirs if tokens is None else tokens & theirs
                    if tokens == everyone.tokens:
                        break
        except (*FAILED, SignInRefused, SourceError) as error:
            log.info("slack.members", error=type(error).__name__)
            return everyone
        return Principal(where.owner, tokens or everyone.tokens)

    async def member(self, where: Where, channel: str) -> bool:
        """Whether whoever asks is in that channel; False when it can't be told."""
        try:
            pages = await where.client.conversations_members(channel=channel, limit=PEOPLE)
            read = 0
            async for page in pages:
                read += 1
                if where.user in (page["members"] or ()):
                    return True
                if read == PAGES:
                    break
        except FAILED as error:
            log.info("slack.members", error=problem(error))
        return False

    def forget_members(self, team: str, channel: str) -> None:
        self._members.drop((team, channel))

    def forget_user(self, team: str, user: str) -> None:
        self._users.drop((team, user))

    async def _who(self, where: Where, user: str) -> Who:
        try:
            found = await self._users.get((where.team, user), partial(self._asked, where, user))
        except FAILED as error:
            raise SourceError(
                f"Slack did not tell who you are ({problem(error)}), so nothing was answered. Nothing was lost; try "
                "again in a moment."
            ) from error
        email = _address(found, where.workspace)
        person = await self._run(self._person, email) if email else None
        if person is None and self._assistant.settings.slack_strangers == "nothing":
            raise SignInRefused(
                "Deskhand answers only people it knows, and did not find your address among them. Ask whoever runs "
                "Deskhand to add you."
            )
        principal, role = person or (Principal(f"slack:{where.team}:{user}".lower()), None)
        return Who(
            user,
            principal,
            person is not None,
            role,
            str(found.get("tz") or "UTC"),
            bool(email and (found.get("is_admin") or found.get("is_owner"))),
        )

    def _person(self, email: str) -> tuple[Principal, Role | None] | None:
        with self._assistant.database.writer() as connection:
            try:
                principal = principals.load(connection, email)
            except ConfigError:
                return None
            standing = logins.standing(connection, principal.id)
        if standing and standing[1]:
            raise SignInRefused("Your login to Deskhand is disabled. Ask an admin to enable it.")
        return principal, standing[0] if standing else None

    async def _asked(self, where: Where, user: str) -> Mapping[str, Any]:
        answer = await where.client.users_info(user=user)
        return answer["user"] or {}

    async def _listed(self, where: Where) -> tuple[str, ...]:
        """One page: a channel of more people is treated alike, however many they are."""
        answer = await where.client.conversations_members(channel=where.channel, limit=PEOPLE)
        return tuple(answer["members"] or ())


def _address(user: Mapping[str, Any], workspace: slack.Workspace) -> str:
    """The address that says who a full member of the workspace is; empty for everybody else.

    A workspace vouches for addresses of its own members alone, and is believed only once an admin said so.
    """
    enterprise: Mapping[str, Any] = user.get("enterprise_user") or {}
    own = user.get("team_id") == workspace.team or (
        bool(workspace.enterprise) and enterprise.get("enterprise_id") == workspace.enterprise
    )
    if not (workspace.allowed and own) or user.get("is_email_confirmed") is not True:
        return ""
    lesser = ("deleted", "is_bot", "is_restricted", "is_ultra_restricted", "is_stranger", "is_invited_user")
    if any(user.get(kind) for kind in lesser):
        return ""
    return logins.normal(str((user.get("profile") or {}).get("email") or ""))


class _Kept(Generic[T]):
    """What was asked, for some seconds."""

    def __init__(self, seconds: float, most: int = 5_000) -> None:
        self._seconds, self._most = seconds, most
        self._found: dict[Hashable, tuple[float, T]] = {}

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        found = self._found.get(key)
        if found and time.monotonic() - found[0] < self._seconds:
            return found[1]
        if len(self._found) >= self._most:
            self._found.clear()
        value = await ask()
        self._found[key] = (time.monotonic(), value)
        return value

    def drop(self, key: Hashable) -> None:
        self._found.pop(key, None)
