"""The block list: what was erased must not come back with the next sync.

It holds no names, but keyed hashes of documents' and customers' ids, people's addresses
and accounts. Whoever writes what a source says reads it first, in the same transaction;
that also holds erasures off until the transaction ends, and while one is at work, the
reader waits. So nothing comes back from a batch that was on its way.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.model import (
    Access,
    AccessChanged,
    Batch,
    Change,
    Delete,
    Failed,
    Member,
    Renamed,
    SourceDocument,
    Upsert,
)
from assistant.store import secrets
from assistant.store.db import Conn, clean
from assistant.store.sources import Source
from assistant.store.sql import SQL

Mark = tuple[str, ...]
"""something that may be blocked: its kind and what names it"""
USER = "user:"
AnyChange = TypeVar("AnyChange", bound=Change)


class Fingerprint:
    """Keyed hashes: without the installation's key they tell nobody what was erased."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _key(self) -> bytes:
        return hmac.digest(secrets.key(self._settings), b"deskhand.erasure", "sha256")

    @property
    def own(self) -> bytes:
        """By which another key is noticed."""
        return self(("key",))

    def __call__(self, mark: Mark) -> bytes:
        return hmac.digest(self._key, json.dumps(mark).encode(), "sha256")


def document(source: str, external_id: str) -> Mark:
    return ("document", source, clean(external_id))


def customer(realm: str, external_id: str) -> Mark:
    return ("customer", realm, clean(external_id))


def address(email: str) -> Mark:
    return ("address", clean(email).strip().lower())


def domain(name: str) -> Mark:
    return ("domain", clean(name).strip().lower())


def account(realm: str, name: str) -> Mark:
    return ("account", realm, clean(name))


def assignee(name: str) -> Mark:
    return ("assignee", clean(name).strip().lower())


def hold(connection: Conn) -> None:
    """Hold erasures off until the transaction ends; after one that was at work, go on."""
    connection.execute(SQL["erasure_keys"])


def check(connection: Conn, fingerprint: Fingerprint | None) -> bool:
    """Whether anything is blocked. Raises `ConfigError` when this key can't tell what."""
    keys = {bytes(row["key"]) for row in connection.execute(SQL["erasure_keys"])}
    if not keys:
        return False
    if fingerprint is None or keys != {fingerprint.own}:
        raise ConfigError(
            "What was erased is kept out by hashes that were made with another key than this installation has, "
            "so nothing was changed. Restore the key (DESKHAND_KEY, or secret.key in the state folder); if it is "
            "lost, `deskhand erase lift` lets in again what was erased with it."
        )
    return True


def without(connection: Conn, source: Source, batch: Batch, fingerprint: Fingerprint | None) -> Batch:
    """`batch` without what was erased."""
    changes = admitted(connection, source, batch.changes, fingerprint)
    return batch if changes is batch.changes else dataclasses.replace(batch, changes=tuple(changes))


def admitted(
    connection: Conn, source: Source, changes: Sequence[AnyChange], fingerprint: Fingerprint | None
) -> Sequence[AnyChange]:
    """Those of the changes that are about nothing erased, with no name of anybody erased in their facts.

    What is left out for its customer, its requester or the ticket it hangs on is deleted
    where it is stored, and blocked by its own id from now on.
    """
    found = _found(
        connection,
        fingerprint,
        (mark for change in changes for mark in (*_marks(source, change), *_facts(source, change))),
    )
    if not found:
        return changes
    out: dict[str, int] = {}
    for change in changes:
        why = [found[mark] for mark in _marks(source, change) if mark in found]
        if why:
            out |= dict.fromkeys(_ids(change), why[0])
    for change in changes:  # what hangs on something left out, or is an older state of it
        hangs = [out[name] for name in (*_ids(change), _parent(change)) if name in out]
        if hangs:
            out |= dict.fromkeys(_ids(change), hangs[0])
    kept = [change for change in changes if isinstance(change, Delete) or not out.keys() & set(_ids(change))]
    if out:
        _leave_out(connection, source, out, fingerprint)
    return [_nameless(source, change, found) for change in kept]


def members(
    connection: Conn, source: Source, members: Sequence[Member], fingerprint: Fingerprint | None
) -> list[Member]:
    """Those of a source's users who were not erased."""

    def marks(member: Member) -> list[Mark]:
        at = member.email.rpartition("@")[2]
        return [account(source.realm, member.user), address(member.email), domain(at)]

    found = _found(connection, fingerprint, (mark for member in members for mark in marks(member)))
    return [member for member in members if not found.keys() & set(marks(member))]


def _found(connection: Conn, fingerprint: Fingerprint | None, marks: Iterable[Mark]) -> dict[Mark, int]:
    """The erasure of each mark that is on the list. Nothing is hashed, and no key read, for an empty one."""
    if not check(connection, fingerprint) or fingerprint is None:
        return {}
    hashes = {fingerprint(mark): mark for mark in set(marks)}
    rows = connection.execute(SQL["blocked_among"], {"hashes": list(hashes)})
    return {hashes[bytes(row["hash"])]: int(row["erasure_id"]) for row in rows}


def _marks(source: Source, change: Change) -> list[Mark]:
    """What may keep a whole change out."""
    found = [document(source.name, name) for name in (*_ids(change), _parent(change)) if name]
    if isinstance(change, Upsert):
        whose, ticket = change.document.customer, change.document.ticket
        if whose is not None:
            found += [customer(source.realm, whose.external_id), address(whose.external_id)]
            found += [domain(name) for name in whose.domains]
        if ticket is not None:
            # A requester without an address may be named by one, or by an account.
            found += [address(ticket.requester_email or ticket.requester)]
            found += [] if ticket.requester_email else [account(source.realm, ticket.requester)]
    return found


def _facts(source: Source, change: Change) -> list[Mark]:
    """What is taken out of a change that stays."""
    if isinstance(change, AccessChanged):
        return _accounts(source, change.access)
    if not isinstance(change, Upsert):
        return []
    found = _accounts(source, change.document.access)
    if isinstance(change.document.body, tuple):
        found += [mark for part in change.document.body for mark in _accounts(source, part.access)]
    if (ticket := change.document.ticket) is not None:
        found += [assignee(ticket.assignee)]
        found += [document(source.name, link.external_id) for link in ticket.links]
    return found


def _accounts(source: Source, access: Access | None) -> list[Mark]:
    tokens = access.tokens if access else ()
    return [account(source.realm, token.removeprefix(USER)) for token in tokens if token.startswith(USER)]


def _ids(change: Change) -> tuple[str, ...]:
    match change:
        case Upsert():
            return (change.document.external_id,)
        case Renamed():
            return (change.old_id, change.new_id)
        case Delete() | AccessChanged() | Failed():
            return (change.external_id,)


def _parent(change: Change) -> str:
    if isinstance(change, Upsert):
        return change.document.parent
    return change.parent if isinstance(change, Failed) else ""


def _leave_out(
    connection: Conn, source: Source, out: Mapping[str, int], fingerprint: Fingerprint | None
) -> None:
    assert fingerprint is not None, "something was found with it"  # noqa: S101 - states an invariant
    values = {"source": source.id, "ids": [clean(name) for name in out]}
    connection.execute(SQL["pending_lock"], values)
    connection.execute(SQL["document_leave_out"], values)
    connection.execute(SQL["failure_forget"], values)
    with connection.cursor() as cursor:
        cursor.executemany(
            SQL["blocked_add"],
            [
                {"hash": fingerprint(document(source.name, name)), "erasure": erasure, "source": source.id}
                for name, erasure in sorted(out.items())
            ],
        )


def _nameless(source: Source, change: AnyChange, found: Mapping[Mark, int]) -> AnyChange:
    if not found.keys() & set(_facts(source, change)):
        return change
    if isinstance(change, AccessChanged):
        return dataclasses.replace(change, access=_access(source, change.access, found))
    assert isinstance(change, Upsert), "no other change has facts"  # noqa: S101 - states an invariant
    return dataclasses.replace(change, document=_document(source, change.document, found))


def _document(source: Source, whole: SourceDocument, found: Mapping[Mark, int]) -> SourceDocument:
    body, ticket = whole.body, whole.ticket
    if isinstance(body, tuple):
        body = tuple(
            dataclasses.replace(part, access=_access(source, part.access, found)) if part.access else part
            for part in body
        )
    if ticket is not None:
        links = tuple(x for x in ticket.links if document(source.name, x.external_id) not in found)
        known = assignee(ticket.assignee) in found
        ticket = dataclasses.replace(ticket, links=links, assignee="" if known else ticket.assignee)
    return dataclasses.replace(whole, access=_access(source, whole.access, found), body=body, ticket=ticket)


def _access(source: Source, access: Access, found: Mapping[Mark, int]) -> Access:
    gone = {USER + mark[-1] for mark in _accounts(source, access) if mark in found}
    return Access(access.tokens - gone)
