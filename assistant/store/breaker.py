"""The circuit breaker of deletions: what disappears in large numbers is held back until it is certain.

An expired right, an unmounted share and a server that answers with an empty page
look just like a great many deletions. So deletions above a share of the source are
not carried out until an admin confirms them, or until another complete inventory,
some time later, misses the very same documents.
"""

from __future__ import annotations

from collections.abc import Sequence

from assistant.store import blocked
from assistant.store.db import Conn, Row
from assistant.store.sources import Source
from assistant.store.sql import SQL

LEAST_HELD = 50
"""so many documents may always go"""
APART_SECONDS = 600.0
"""between two inventories that confirm each other, at least"""


def admitted(connection: Conn, source: Source, run_id: int, ids: Sequence[str]) -> list[str]:
    """Those of the deletions a sync reports that may be carried out; the rest awaits the inventory."""
    if not ids:
        return []
    row = connection.execute(SQL["deletions"], {"run": run_id}).fetchone()
    assert row is not None, "the run exists"  # noqa: S101 - states an invariant
    if row["prune_all"]:
        return list(ids)
    room = _limit(source, row["documents"] + row["deleted"]) - row["deleted"]
    return list(ids[: max(0, room)])


def missing(connection: Conn, source: Source, run: Row, present: set[str]) -> tuple[list[str], str]:
    """What a complete inventory shows to be gone and may be deleted, and what to tell the admin, if anything."""
    blocked.hold(connection)
    rows = connection.execute(
        SQL["document_before"], {"source": source.id, "before": run["started_at"]}
    ).fetchall()
    gone = sorted(row["external_id"] for row in rows if row["external_id"] not in present)
    held = connection.execute(SQL["held_get"], {"source": source.id, "apart": APART_SECONDS}).fetchone()
    if run["prune_all"] or (len(gone) <= _limit(source, len(rows)) and (present or not gone)):
        connection.execute(SQL["held_drop"], {"source": source.id})
        return gone, ""
    # An empty inventory never confirms another: that is how a lost right looks.
    agreed = set(held["missing"]) & set(gone) if held and held["old"] and present else set[str]()
    doubtful = [name for name in gone if name not in agreed]
    if len(doubtful) <= _limit(source, len(rows)) and agreed:
        connection.execute(SQL["held_drop"], {"source": source.id})
        return gone, ""
    if held is None or not set(doubtful) <= set(held["missing"]):
        connection.execute(
            SQL["held_put"],
            {"source": source.id, "run": run["id"], "missing": doubtful, "documents": len(rows)},
        )
    return sorted(agreed), (
        f"{len(doubtful):,} of {len(rows):,} documents are missing from its listing, which looks like a fault of "
        "the source. Nothing of them was deleted: they are deleted once another complete inventory misses "
        f"them too, or when you confirm with `deskhand source sync {source.name} --prune-all`."
    )


def held(connection: Conn) -> list[Row]:
    """Deletions that wait for confirmation, one row a source."""
    return connection.execute(SQL["held_all"]).fetchall()


def _limit(source: Source, documents: int) -> int:
    return max(LEAST_HELD, int(source.prune_share * documents))
