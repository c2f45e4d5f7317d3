"""Commits a connector's batch: documents, access, the queue and the checkpoint in one transaction."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from assistant.errors import ItemError, SourceBusy
from assistant.model import (
    EVERYONE,
    Access,
    AccessChanged,
    Batch,
    Change,
    Delete,
    Failed,
    Kind,
    Member,
    Part,
    Renamed,
    SourceDocument,
    Upsert,
)
from assistant.store import blocked, breaker, customers, escalations
from assistant.store.blocked import Fingerprint
from assistant.store.db import Conn, Row
from assistant.store.db import clean as _clean
from assistant.store.sources import Source
from assistant.store.sql import SQL

FETCH_TRIES = 3
"""syncs that may end because the same file doesn't come; then it is left out"""
_PARTS = TypeAdapter(tuple[Part, ...])


class Stale(Exception):
    """A document that was moved is not here, since an inventory missed it meanwhile: read the source anew."""


@dataclass(slots=True)
class Counts:
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: int = 0


def token(realm: str, name: str) -> str:
    """A source's access token as the store keeps it; `everyone` is the same for all realms."""
    return EVERYONE if name == EVERYONE else f"{realm}/{name}"


def acl(source: Source, access: Access) -> list[str]:
    return sorted(token(source.realm, name) for name in access.tokens)


def pack(body: bytes | tuple[Part, ...]) -> tuple[str, bytes]:
    """Form and bytes of a body in the queue."""
    if isinstance(body, bytes):
        return "file", body
    return "parts", _PARTS.dump_json(
        tuple(dataclasses.replace(part, text=_clean(part.text), author=_clean(part.author)) for part in body),
        exclude_defaults=True,
    )


def unpack(form: str, body: bytes) -> bytes | tuple[Part, ...]:
    """What `pack` was given."""
    return body if form == "file" else _PARTS.validate_json(body)


def _plain(value: object) -> object:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def commit_batch(
    connection: Conn, source: Source, run_id: int, batch: Batch, fingerprint: Fingerprint | None = None
) -> Counts:
    """Apply `batch`, without what was erased, and its checkpoint; the caller's transaction makes them one.

    Raises `Stale`, and `ConfigError` when something was erased and `fingerprint` can't tell what.
    """
    batch = blocked.without(connection, source, batch, fingerprint)
    counts = Counts()
    upserts: dict[str, SourceDocument] = {}
    for change in batch.changes:  # In a batch, what comes later is newer.
        if isinstance(change, Upsert):
            upserts[change.document.external_id] = change.document
        elif isinstance(change, Delete):
            upserts.pop(change.external_id, None)
    _renames(connection, source, [c for c in batch.changes if isinstance(c, Renamed)])
    gone = [c.external_id for c in batch.changes if isinstance(c, Delete)]
    delete(connection, source, breaker.admitted(connection, source, run_id, gone), counts)
    _access(connection, source, [c for c in batch.changes if isinstance(c, AccessChanged)], counts)
    _upserts(connection, source, upserts, counts)
    for change in batch.changes:
        if isinstance(change, Failed):
            counts.failed += 1
            fail(connection, source.id, change.external_id, "read", change.reason, parent=change.parent)
    connection.execute(
        SQL["run_progressed"],
        {
            "id": run_id,
            "source": source.id,
            "checkpoint": json.dumps(batch.checkpoint),
            "total": batch.total,
            **dataclasses.asdict(counts),
        },
    )
    return counts


def fail(
    connection: Conn,
    source_id: int,
    external_id: str,
    stage: str,
    reason: str,
    attempts: int = 1,
    *,
    permanent: bool = False,
    parent: str = "",
) -> int:
    """Record it; returns how often it failed by now.

    `permanent`: the same bytes will fail again, so it is retried only when somebody asks.
    """
    row = connection.execute(
        SQL["failure_record"],
        {
            "source": source_id,
            "external": _clean(external_id),
            "stage": stage,
            "reason": _clean(reason)[:2000],
            "attempts": attempts,
            "permanent": permanent,
            "parent": _clean(parent),
        },
    ).fetchone()
    return int(row["attempts"]) if row else 1


def _renames(connection: Conn, source: Source, changes: list[Renamed]) -> None:
    for change in changes:
        values = {
            "source": source.id,
            "old": _clean(change.old_id),
            "new": _clean(change.new_id),
            "title": _clean(change.title),
            "url": _clean(change.url),
        }
        present = connection.execute(SQL["document_places"], values).fetchone()
        if present is None or not present["old"]:
            if present is None or not present["new"]:
                raise Stale
            continue  # it was moved already
        connection.execute(SQL["document_make_room"], values)
        connection.execute(SQL["document_rename"], values)


def delete(connection: Conn, source: Source, ids: list[str], counts: Counts) -> None:
    """Remove documents and what is attached to them; a tombstone without text stays of each."""
    if ids:
        ids = [_clean(i) for i in ids]
        connection.execute(SQL["pending_lock"], {"source": source.id, "ids": ids})
        counts.deleted += connection.execute(
            SQL["document_delete"], {"source": source.id, "ids": ids}
        ).rowcount
        connection.execute(SQL["failure_forget"], {"source": source.id, "ids": ids})


def _access(connection: Conn, source: Source, changes: Iterable[AccessChanged], counts: Counts) -> None:
    for change in changes:
        values = {
            "source": source.id,
            "external": _clean(change.external_id),
            "acl": acl(source, change.access),
        }
        row = connection.execute(SQL["document_set_access"], values).fetchone()
        if row:
            counts.changed += 1
            connection.execute(SQL["access_spread"], {"ids": [row["id"]]})


def commit_accesses(
    connection: Conn,
    source: Source,
    changes: Sequence[AccessChanged],
    fingerprint: Fingerprint | None = None,
) -> int:
    """Store who may read these documents now; returns for how many that is news."""
    changes = blocked.admitted(connection, source, changes, fingerprint)
    accesses = [{"id": _clean(c.external_id), "acl": acl(source, c.access)} for c in changes]
    rows = connection.execute(
        SQL["accesses_changed"], {"source": source.id, "accesses": json.dumps(accesses)}
    ).fetchall()
    if rows:
        connection.execute(SQL["access_spread"], {"ids": [row["id"] for row in rows]})
    return len(rows)


def load(connection: Conn, source: Source, batch: Batch, fingerprint: Fingerprint | None = None) -> Batch:
    """`batch` with the bodies that had to be fetched: only of revisions the store doesn't have.

    What can't be fetched becomes `Failed`. Raises `SourceError` when the source gives out, but
    not for ever because of the same document; give it a connection that commits by itself.
    """
    lazy = [
        c.document.external_id
        for c in batch.changes
        if isinstance(c, Upsert) and c.document.fetch is not None
    ]
    if not lazy:
        return batch
    with connection.transaction():
        batch = blocked.without(connection, source, batch, fingerprint)
    rows = connection.execute(
        SQL["document_known"], {"source": source.id, "ids": [_clean(i) for i in lazy]}
    ).fetchall()
    known = {row["external_id"]: row["revision"] for row in rows}

    def loaded(change: Change) -> Change:
        if not isinstance(change, Upsert) or (fetch := change.document.fetch) is None:
            return change
        document = change.document
        name, parent = document.external_id, document.parent
        if known.get(_clean(name)) == document.revision:
            return Upsert(dataclasses.replace(document, fetch=None))
        try:
            return Upsert(dataclasses.replace(document, body=fetch(), fetch=None))
        except ItemError as error:
            return Failed(name, str(error), parent)
        except SourceBusy as error:
            # One file that never comes must not hold up the rest for ever.
            with connection.transaction():  # it may have been erased while it was fetched
                if not blocked.admitted(connection, source, [change], fingerprint):
                    return Failed(name, "", parent)
                tries = fail(connection, source.id, name, "read", str(error), parent=parent)
            if error.retry_after is not None or tries < FETCH_TRIES:
                raise
            return Failed(name, str(error), parent)

    return dataclasses.replace(batch, changes=tuple(loaded(change) for change in batch.changes))


def _upserts(connection: Conn, source: Source, documents: dict[str, SourceDocument], counts: Counts) -> None:
    if not documents:
        return
    ids = sorted(_clean(i) for i in documents)
    connection.execute(SQL["pending_lock"], {"source": source.id, "ids": ids})
    rows = connection.execute(SQL["document_known"], {"source": source.id, "ids": ids})
    known: dict[str, Row] = {row["external_id"]: row for row in rows}
    # Customers are shared between sources: one order of locking for all writers.
    by_customer = sorted(documents.values(), key=lambda d: d.customer.external_id if d.customer else "")
    for document in by_customer:
        old = known.get(_clean(document.external_id))
        tokens = acl(source, document.access)
        if old and old["revision"] == document.revision and old["acl"] == tokens:
            counts.unchanged += 1
            continue
        customer = (
            customers.upsert(connection, source.realm, document.customer, tokens, _clean)
            if document.customer
            else None
        )
        row = connection.execute(
            SQL["document_upsert"], _document_values(source, document, tokens, customer)
        ).fetchone()
        assert row is not None, "an upsert returns its row"  # noqa: S101 - states an invariant
        if old and (old["acl"] != tokens or old["audience"] != document.audience):
            connection.execute(SQL["access_spread"], {"ids": [row["id"]]})
        if document.ticket is not None:
            connection.execute(SQL["ticket_upsert"], _ticket_values(int(row["id"]), document, tokens))
        if old and old["revision"] == document.revision:
            counts.changed += 1
            continue
        form, body = pack(escalations.without_notes(document.body))
        connection.execute(
            SQL["pending_put"],
            {
                "document": row["id"],
                "source": source.id,
                "revision": document.revision,
                "form": form,
                "body": body,
                "size": len(body),
            },
        )
        if old:
            counts.changed += 1
        else:
            counts.added += 1
    connection.execute(SQL["failure_outlived"], {"source": source.id, "ids": ids})


def _document_values(
    source: Source, document: SourceDocument, tokens: list[str], customer: int | None
) -> dict[str, Any]:
    return {
        "source": source.id,
        "external": _clean(document.external_id),
        "kind": document.kind.value,
        "audience": document.audience.value,
        "acl": tokens,
        "title": _clean(document.title)[:1000],
        "url": _clean(document.url),
        "media_type": document.media_type,
        "language": document.language,
        "customer": customer,
        "created_at": document.created_at,
        "updated_at": document.updated_at,
        "revision": document.revision,
        "metadata": json.dumps(dict(document.metadata), default=_plain).replace("\\u0000", ""),
        "parent": _clean(document.parent),
    }


def _ticket_values(document_id: int, document: SourceDocument, tokens: list[str]) -> dict[str, Any]:
    ticket = document.ticket
    assert document.kind is Kind.TICKET, "only tickets have ticket facts"  # noqa: S101 - states an invariant
    assert ticket is not None, "the caller looked"  # noqa: S101 - states an invariant
    values = {k: _clean(v) for k, v in dataclasses.asdict(ticket).items()}
    values["tags"] = [_clean(tag) for tag in ticket.tags]
    for name in ("events", "custom_fields", "links"):
        values[name] = json.dumps(values[name], default=_plain).replace("\\u0000", "")
    return {**values, "id": document_id, "acl": tokens, "audience": document.audience.value}


def count(connection: Conn, run_id: int, counts: Counts) -> None:
    """Add what a permission sync or an inventory changed to its run's row."""
    connection.execute(
        SQL["run_counted"], {"id": run_id, "deleted": counts.deleted, "changed": counts.changed}
    )


def commit_memberships(
    connection: Conn, source: Source, members: Iterable[Member], fingerprint: Fingerprint | None = None
) -> int:
    """Replace the source's users and groups by `members`; returns how many users there are.

    A user with a verified e-mail address becomes (or joins) the person of that address. Read
    from the source first, written afterwards: no transaction waits for a network.
    """
    members = blocked.members(connection, source, list(members), fingerprint)
    connection.execute("select pg_advisory_xact_lock(hashtext(%s))", (f"members {source.id}",))
    seen: list[str] = []
    for member in members:
        seen.append(member.user)
        email = member.email.strip().lower()
        if email:
            connection.execute(SQL["principal_upsert"], {"id": email, "name": member.name})
        connection.execute(
            SQL["identity_upsert"],
            {"source": source.id, "realm": source.realm, "name": member.user, "principal": email or None},
        )
        connection.execute(
            SQL["membership_replace"],
            {
                "source": source.id,
                "realm": source.realm,
                "user": member.user,
                "groups": sorted(member.groups),
            },
        )
    connection.execute(SQL["membership_forget"], {"source": source.id, "seen": seen})
    return len(seen)
