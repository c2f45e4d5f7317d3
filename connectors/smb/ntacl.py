"""Who may read, by Windows' access control lists, in tokens that only ever add.

A token is the SID that a list names: `group:S-1-5-…`, for users as well as for groups,
and a person holds all SIDs the server puts them under. Tokens can't express a deny, nor
that two lists must both agree. There the people the server knows are gone through one by
one, and those who pass get their own SID as a token. What can't be decided is withheld:
a deny whose members are unknown ends the list.

Read from [MS-DTYP] 2.4 (layout) and 2.5.3 (evaluation): entries count in their order, the
first that names the person decides, entries that are only inherited on do not count here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from assistant.model import EVERYONE, Access
from connectors.smb.msrpc import sid_text

READ_DATA = 0x1
TRAVERSE = 0x20
WORLD, AUTHENTICATED, OVER_NETWORK = "S-1-1-0", "S-1-5-11", "S-1-5-2"
EVERY_USER = frozenset({WORLD, AUTHENTICATED, OVER_NETWORK})
GUEST = frozenset({WORLD, OVER_NETWORK, "S-1-5-32-546"})
_OWNER_RIGHTS = "S-1-3-4"
_NEVER_A_PERSON = frozenset(
    # System, services, logons that are not over the network, and placeholders for heirs.
    f"S-1-{rest}"
    for rest in [
        "3-0",
        "3-1",
        "3-2",
        "3-3",
        "5-1",
        "5-3",
        "5-4",
        "5-6",
        "5-7",
        "5-13",
        "5-14",
        "5-18",
        "5-19",
        "5-20",
    ]
)
_ALLOW, _DENY = 0, 1
_OTHER_DENIES = {6, 10, 12}
_INHERIT_ONLY = 0x08
_GENERIC = ((0x80000000, 0x120089), (0x20000000, 0x1200A0), (0x10000000, 0x1F01FF), (0x40000000, 0x120116))


@dataclass(frozen=True, slots=True)
class Acl:
    """Whom a list allows or denies one right, in its order; a deny of "" is one nobody can evaluate."""

    entries: tuple[tuple[bool, str], ...]

    @property
    def for_all(self) -> bool:
        """Whether every user passes, before anything else is looked at."""
        return bool(self.entries) and self.entries[0][0] and self.entries[0][1] in EVERY_USER


ANYBODY = Acl(((True, WORLD),))
NOBODY = Acl(())


def read_acl(descriptor: bytes, right: int, *, coarse: bool = False) -> Acl:
    """The list in a self-relative security descriptor, as far as it is about `right`; raises `ValueError`.

    `coarse`: the server checks Unix permissions too, which it made from the list when that was
    set and does not show. They know neither «Authenticated Users» nor generic rights, somebody's
    own entry goes before those of their groups, and a deny is spread over whoever it met then.
    """
    try:
        control, owner, _, _, start = struct.unpack_from("<2xHIIII", descriptor)
        if not control & 0x4 or not start:
            return ANYBODY  # no list at all protects nothing
        count = struct.unpack_from("<H", descriptor, start + 4)[0]
        owner_sid = sid_text(descriptor[owner:]) if owner else ""
        entries: list[tuple[bool, str]] = []
        at = start + 8
        for _ in range(count):
            kind, flags, size, mask = struct.unpack_from("<BBHI", descriptor, at)
            if size < 8 or at + size > len(descriptor):
                raise ValueError("an entry ends outside its list")
            if not flags & _INHERIT_ONLY and (mask if coarse else _mapped(mask)) & right:
                if coarse and kind != _ALLOW:
                    return NOBODY
                if kind in (_ALLOW, _DENY):
                    sid = sid_text(descriptor[at + 8 : at + size])
                    sid = owner_sid if sid == _OWNER_RIGHTS else sid
                    if sid not in _NEVER_A_PERSON:
                        entries.append((kind == _ALLOW, sid))
                elif kind in _OTHER_DENIES:
                    entries.append((False, ""))
            elif coarse and kind == _ALLOW and not flags & _INHERIT_ONLY:
                entries.append((False, sid_text(descriptor[at + 8 : at + size])))
            elif coarse and kind != _ALLOW:
                return NOBODY
            at += size
    except struct.error as error:
        raise ValueError("a security descriptor is cut off") from error
    if coarse:
        slighted = [e for e in entries if not e[0] and e[1] not in EVERY_USER | _NEVER_A_PERSON]
        entries = slighted + [e for e in entries if e[0] and e[1] not in (AUTHENTICATED, OVER_NETWORK)]
    first = next((n for n, entry in enumerate(entries) if entry[1] == WORLD), len(entries))
    return Acl(tuple(dict.fromkeys(entries[: first + 1])))


def _mapped(mask: int) -> int:
    for generic, rights in _GENERIC:
        if mask & generic:
            mask |= rights
    return mask


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody the server knows. `sids` are all that stand for them when they are signed in over the network."""

    sid: str
    name: str
    sids: frozenset[str]
    full_name: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class People:
    """Everybody, and the domains of which all users and groups are among them."""

    persons: tuple[Person, ...] = ()
    domains: frozenset[str] = frozenset()
    singles: frozenset[str] = frozenset()
    """SIDs outside `domains` whose members are known all the same"""

    def knows(self, sid: str) -> bool:
        return sid in EVERY_USER or sid in self.singles or sid.rpartition("-")[0] in self.domains


class Evaluator:
    """Each combination of lists is evaluated once; the people are asked for when first needed."""

    def __init__(self, people: Callable[[], People], *, guests: bool) -> None:
        self._people = people
        self._guests = guests
        self._known: dict[frozenset[Acl], Access] = {}

    def access(self, acls: Iterable[Acl]) -> Access:
        """Who passes all of `acls`."""
        key = frozenset(acls)
        if key not in self._known:
            self._known[key] = self._evaluate(key)
        return self._known[key]

    def _evaluate(self, acls: frozenset[Acl]) -> Access:
        if not acls or any(not acl.entries for acl in acls):
            return Access.nobody()
        closed = [acl for acl in acls if not acl.for_all] or [ANYBODY]
        shared = set.intersection(*(_before_a_deny(acl) for acl in closed))
        tokens = {f"group:{sid}" for sid in shared}
        if len(closed) > 1 or any(not allowed for acl in closed for allowed, _ in acl.entries):
            people = self._people()
            for person in people.persons:
                if not person.sids & shared and all(_passes(person.sids, acl, people) for acl in closed):
                    tokens.add(f"group:{person.sid}")
        if self._guests and all(_passes(GUEST, acl, People(singles=GUEST)) for acl in acls):
            tokens.add(EVERYONE)
        return Access(frozenset(tokens))


def _before_a_deny(acl: Acl) -> set[str]:
    found: set[str] = set()
    for allowed, sid in acl.entries:
        if not allowed:
            break
        found.add(sid)
    return found


def _passes(sids: frozenset[str], acl: Acl, people: People) -> bool:
    for allowed, sid in acl.entries:
        if sid in sids:
            return allowed
        if not allowed and not people.knows(sid):
            return False
    return False
