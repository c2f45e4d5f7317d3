"""Who may read a queue's tickets and their comments, by the setting `rights`, and who those people are.

RT tells nobody over REST who was granted what, so an admin repeats it. What is not
written there is granted to nobody. Only names are repeated: who is in a group, who
watches a queue or a ticket, is read from RT.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from assistant.model import Access, Member
from connectors.request_tracker.api import Row, RtApi

NOBODY, SYSTEM = 6, 1
"""RT's own users: tickets without an owner belong to the first, its scrips act as the second"""
EVERY_QUEUE = "*"
_ENTRY = re.compile(r"group:.+|user:.+|role:(requestor|cc|admincc|owner)|privileged|everyone", re.S)
_ROLES = {"role:requestor": "Requestor", "role:cc": "Cc", "role:admincc": "AdminCc", "role:owner": "Owner"}


def _entry(value: str) -> str:
    value = value.strip()
    if value.lower().startswith("role:") or value.lower() in ("privileged", "everyone"):
        value = value.lower()
    if not _ENTRY.fullmatch(value):
        raise ValueError(
            f"«{value}» is none of group:NAME, user:NAME, role:requestor, role:cc, role:admincc, role:owner, "
            "privileged, everyone"
        )
    return value


Entry = Annotated[str, AfterValidator(_entry)]


class Readers(BaseModel):
    """Who RT grants rights on a queue: groups, users, roles, or all its (privileged) users."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tickets: tuple[Entry, ...] = Field(
        default=(),
        description="Who has ShowTicket: group:NAME, user:NAME, role:requestor, role:cc, role:admincc, "
        "role:owner, privileged or everyone (every user RT has).",
    )
    comments: tuple[Entry, ...] = Field(
        default=(), description="Who of these has ShowTicketComments too, written alike."
    )

    @model_validator(mode="after")
    def _comments_are_of_tickets(self) -> Readers:
        if extra := [entry for entry in self.comments if entry not in self.tickets]:
            raise ValueError(
                f"«{extra[0]}» may read comments but not tickets, which gives it nothing in RT; name it in "
                "`tickets` too"
            )
        return self


class Rights:
    """The setting `rights` for `queues`, ids and names; `visible`: names of all that can be seen."""

    def __init__(
        self, rules: Mapping[str, Readers], queues: Mapping[int, str], visible: Iterable[str]
    ) -> None:
        by_name = {name.casefold(): readers for name, readers in rules.items()}
        names = {name.casefold() for name in visible}
        self.unknown = sorted(name for name in rules if name != EVERY_QUEUE and name.casefold() not in names)
        """queues with rules that are not there"""
        # A queue that was renamed would fall under the rule for all: then that one is not believed.
        rest = by_name.get(EVERY_QUEUE) if not self.unknown else None
        self.of: dict[int, Readers] = {
            queue: by_name.get(name.casefold()) or rest or Readers() for queue, name in queues.items()
        }

    def ticket(self, queue: int, ticket: Row) -> Access:
        readers = self.of.get(queue, Readers())
        return _access(readers.tickets, f"queue:{queue}", ticket)

    def comments(self, queue: int, ticket: Row) -> Access:
        readers = self.of.get(queue, Readers())
        return _access(readers.comments, f"queue:{queue}:comments", ticket)

    def named(self, kind: str) -> set[str]:
        """Names of the groups or users in rules."""
        prefix = f"{kind}:"
        return {
            entry.removeprefix(prefix)
            for readers in self.of.values()
            for entry in readers.tickets
            if entry.startswith(prefix)
        }

    def uses(self, *entries: str) -> bool:
        return any(entry in readers.tickets for readers in self.of.values() for entry in entries)


def _access(entries: Iterable[str], group: str, ticket: Row) -> Access:
    """Members of the queue's group, and whoever has one of the roles on this ticket."""
    entries = tuple(entries)
    if not entries:
        return Access.nobody()
    users: set[str] = set()
    groups = {group}
    for entry in entries:
        for who in watchers(ticket, _ROLES.get(entry, "")):
            if who.get("type") == "group":
                groups.add(f"members:{who['id']}")
            else:
                users.add(str(who["id"]))
    return Access.of(users=tuple(sorted(users)), groups=tuple(sorted(groups)))


def watchers(row: Row, role: str) -> list[Row]:
    """Users and groups with a role on a ticket, RT's own users left out."""
    value: Any = row.get(role) or []
    found = cast(
        "list[Row]", [value] if isinstance(value, dict) else value if isinstance(value, list) else []
    )
    return [who for who in found if str(who.get("id")) not in (str(NOBODY), str(SYSTEM))]


class People:
    """RT's users, and who of them is in which group; groups are read when first needed."""

    def __init__(self, api: RtApi) -> None:
        self._api = api
        self._direct: dict[int, tuple[set[str], set[int]]] = {}
        self._groups: dict[str, int] | None = None
        self._users: dict[str, Row] | None = None

    @property
    def users(self) -> dict[str, Row]:
        """By their name in RT."""
        if self._users is None:
            self._users = {str(row["Name"]): row for row in self._api.users()}
        return self._users

    @property
    def groups(self) -> dict[str, int]:
        """Ids of enabled user-defined groups by their names in small letters."""
        if self._groups is None:
            self._groups = {
                str(row["Name"]).casefold(): int(row["id"]) for row in self._api.groups("UserDefined")
            }
        return self._groups

    def privileged(self) -> set[str]:
        rows = self._api.groups("SystemInternal")
        return set().union(*(self.within(int(r["id"])) for r in rows if r.get("Name") == "Privileged"))

    def within(self, group: int) -> set[str]:
        """Names of the users in a group or, through enabled groups, in groups of it."""
        found: set[str] = set()
        waiting, seen = [group], {group}
        while waiting:
            users, nested = self._members(waiting.pop())
            found |= users
            waiting += nested - seen
            seen |= nested
        return found

    def _members(self, group: int) -> tuple[set[str], set[int]]:
        if group not in self._direct:
            rows = self._api.members(group)
            self._direct[group] = (
                {str(row["id"]) for row in rows if row.get("type") == "user"},
                {int(row["id"]) for row in rows if row.get("type") == "group"},
            )
        return self._direct[group]

    def those(self, rows: Iterable[Row]) -> set[str]:
        """Names of the users that a list of users and groups comes to."""
        found: set[str] = set()
        for row in rows:
            found |= {str(row["id"])} if row.get("type") == "user" else self.within(int(row["id"]))
        return found


def members(api: RtApi, rights: Rights) -> Iterator[Member]:
    people = People(api)
    groups: dict[str, set[str]] = {}
    everyone = set(people.users)
    privileged = people.privileged() if rights.uses("privileged") else set[str]()
    by_folded = {name.casefold(): name for name in people.users}
    for queue, readers in rights.of.items():
        row: Row = {}
        if {"role:cc", "role:admincc"} & set(readers.tickets):
            row = api.queue(queue)  # its watchers have their role on each of its tickets
        for token, entries in (
            (f"queue:{queue}", readers.tickets),
            (f"queue:{queue}:comments", readers.comments),
        ):
            users: set[str] = set()
            for entry in entries:
                kind, _, name = entry.partition(":")
                if kind == "group":
                    group = people.groups.get(name.casefold())
                    users |= people.within(group) if group is not None else set()
                elif kind == "user":
                    users |= {by_folded[name.casefold()]} if name.casefold() in by_folded else set()
                elif entry in ("role:cc", "role:admincc"):
                    users |= people.those(watchers(row, _ROLES[entry]))
                elif entry in ("privileged", "everyone"):
                    users |= everyone if entry == "everyone" else privileged
            groups[token] = users
    if rights.uses(*_ROLES):
        groups |= {f"members:{group}": people.within(group) for group in people.groups.values()}
    of: dict[str, set[str]] = {}
    for token, users in groups.items():
        for user in users:
            of.setdefault(user, set()).add(token)
    for name, row in people.users.items():
        if int(row["id"]) not in (NOBODY, SYSTEM):
            yield Member(
                user=str(row["id"]),
                email=str(row.get("EmailAddress") or "").strip().lower(),
                name=str(row.get("RealName") or name),
                groups=frozenset(of.get(name, ())),
            )
