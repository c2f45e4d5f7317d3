"""Erasing a customer or a person, and the proof that nothing is left.

All goes in one transaction, and with it comes what keeps it from coming back
(`blocked.py`). It begins when whoever writes texts has ended and holds them off until it
has: syncs, which read the table of erasures first, and by their own tables those who
join customers, store answers or index. Afterwards dead rows are vacuumed out of the tables, the vector
index and the planner's statistics, and all columns are searched (`personal.py`).

What else holds texts of customers one day (examples and models of fine-tuning) is to
be erased in `_remove`.

Only an admin may do this: it runs as the owner of the tables, so a surface that is not
the admin's own terminal has to ask who it is before calling anything here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from assistant.errors import ConfigError
from assistant.store import blocked, conversations, documents, personal, sources, versions
from assistant.store.blocked import Fingerprint, Mark
from assistant.store.db import Conn, Database, Row
from assistant.store.sql import SQL

CUSTOMER, PERSON = "customer", "person"
ERASED = "(erased)"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom it is about, in everything that names them here."""

    kind: str
    label: str
    customers: tuple[int, ...] = ()
    marks: tuple[Mark, ...] = ()
    """what is blocked, beside the documents"""
    requesters: tuple[str, ...] = ()
    """addresses whose tickets go"""
    people: tuple[str, ...] = ()
    """addresses whose conversations, accounts and rights go"""
    accounts: tuple[tuple[str, str], ...] = ()
    """realm and name in it"""
    assignees: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """what is looked for in texts"""


@dataclass(slots=True)
class Report:
    """What was removed, or would be; with names, for the eyes of whoever asked."""

    kind: str
    label: str
    words: tuple[str, ...]
    removed: dict[str, int]
    """by table; and `rights`: documents on which a right was taken away"""
    documents: list[Row]
    mentions: list[Row]
    """other documents that name them; erased as well where that was asked for"""
    mentions_erased: bool
    waiting: int
    """documents still to be indexed, in which mentions are not all found"""
    versions: list[str]
    """models that were trained on something of it; only a new training takes it out of them"""
    id: int | None = None
    left: dict[str, int] | None = None
    """what the search afterwards found, by column; None before it"""
    gone: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """ids, for the search afterwards"""

    def stored(self) -> str:
        """What is kept of it: counts and ids."""
        return json.dumps(
            {
                "removed": self.removed,
                "sources": sorted({row["source_id"] for row in self.documents}),
                "mentions": [{"document": m["id"], "source": m["source_id"]} for m in self.mentions],
                "mentions_erased": self.mentions_erased,
                "waiting": self.waiting,
                "versions": self.versions,
                "left": self.left,
            }
        )


def plan(
    database: Database, kind: str, name: str, *, also: Sequence[str] = (), mentions: bool = False
) -> Report:
    """What `erase` would remove: the same, taken back. Raises `ConfigError` as it does."""
    with database.owner() as connection:
        _alone(connection)
        report = _remove(connection, _subject(connection, kind, name, also), mentions=mentions)
        connection.rollback()
    return report


def erase(
    database: Database,
    fingerprint: Fingerprint,
    kind: str,
    name: str,
    *,
    actor: str,
    also: Sequence[str] = (),
    mentions: bool = False,
) -> Report:
    """Remove the customer or person `name` and everything about them, and search for what is left.

    also: other names they go by in texts; mentions: erase other documents that name them, too.
    Raises `ConfigError` for somebody unknown, or where several could be meant.
    """
    with database.owner() as connection:
        _alone(connection)
        blocked.check(connection, fingerprint)
        subject = _subject(connection, kind, name, also)
        report = _remove(connection, subject, mentions=mentions)
        _block(connection, fingerprint, subject, report, actor)
    _vacuum(database)
    with database.owner() as connection:
        report.left = personal.search(
            connection,
            subject.words,
            mentions=[] if mentions else [row["id"] for row in report.mentions],
            values=report.gone,
        )
        connection.execute(SQL["erasure_reported"], {"id": report.id, "report": report.stored()})
    return report


def listing(database: Database) -> list[Row]:
    """What was erased and lifted when, the latest first; no names."""
    with database.owner() as connection:
        return connection.execute(SQL["erasure_all"]).fetchall()


def lift(database: Database, erasure_id: int, *, actor: str) -> list[str]:
    """Let in again what was erased; its sources, by name, are read anew. What was removed comes from there only."""
    with database.owner() as connection:
        row = connection.execute(SQL["erasure_lift"], {"id": erasure_id}).fetchone()
        if row is None:
            raise ConfigError(
                f"There is no erasure {erasure_id}. Nothing was changed; `deskhand erase list` shows them."
            )
        conversations.audit(connection, actor=actor, action="erase.lift", object=str(erasure_id))
    names: list[str] = []
    with database.connect() as connection:
        for source_id in row["report"]["sources"]:
            source = sources.by_id(connection, source_id)
            if source is not None:
                sources.start_over(connection, source)
                names.append(source.name)
    return names


# ── whom it is about ─────────────────────────────────────────────────────────


def _subject(connection: Conn, kind: str, name: str, also: Sequence[str]) -> Subject:
    wanted = name.strip().lower()
    return (_customer if kind == CUSTOMER else _person)(connection, wanted, also)


def _customer(connection: Conn, name: str, also: Sequence[str]) -> Subject:
    rows = connection.execute(SQL["erasure_customers"], {"name": name}).fetchall()
    if not rows:
        raise ConfigError(
            f"No customer has exactly the name, number, id or domain «{name}». Nothing was changed; "
            "`deskhand customer list` shows them."
        )
    if len({row["stands_for"] for row in rows}) > 1:
        listed = ", ".join(f"«{r['name']}» (number {r['id']}, {r['realm']} {r['external_id']})" for r in rows)
        raise ConfigError(
            f"«{name}» may be several customers: {listed}. Nothing was changed. Give one's account, such as "
            f"«{rows[0]['realm']} {rows[0]['external_id']}»."
        )
    rows = connection.execute(SQL["customer_group"], {"ids": [rows[0]["id"]]}).fetchall()
    ids = [row["id"] for row in rows]
    domains = [row["domain"] for row in connection.execute(SQL["erasure_domains"], {"ids": ids})]
    known = [row["external_id"].lower() for row in rows]
    people = connection.execute(
        SQL["erasure_people_of_customer"],
        {"ids": ids, "domains": domains, "accounts": [x for x in known if "@" in x]},
    ).fetchall()
    addresses = tuple(sorted({row["email"] for row in people}))
    accounts = _accounts(connection, addresses)
    named = [*known, *domains, *addresses, *also, *(row["name"] for row in (*rows, *people))]
    return Subject(
        kind=CUSTOMER,
        label=rows[0]["name"] or rows[0]["external_id"],
        customers=tuple(ids),
        marks=(
            *(blocked.customer(row["realm"], row["external_id"]) for row in rows),
            *(blocked.domain(domain) for domain in domains),
            *(blocked.account(*one) for one in accounts),
        ),
        people=addresses,
        accounts=accounts,
        words=personal.words(named),
    )


def _person(connection: Conn, email: str, also: Sequence[str]) -> Subject:
    if "@" not in email.strip("@"):
        raise ConfigError(
            f"A person is known by an e-mail address, and «{email}» is none. Nothing was changed."
        )
    rows = connection.execute(SQL["erasure_names_of_person"], {"email": email}).fetchall()
    customers = connection.execute(SQL["erasure_customers_of_person"], {"email": email}).fetchall()
    accounts = _accounts(connection, (email,))
    assignees = {email, *(name.lower() for _, name in accounts), *(row["name"].lower() for row in rows)}
    assignees = tuple(sorted(assignees - {""}))
    return Subject(
        kind=PERSON,
        label=email,
        customers=tuple(row["id"] for row in customers),
        marks=(
            blocked.address(email),
            *(blocked.account(*one) for one in accounts),
            *(blocked.assignee(name) for name in assignees),
        ),
        requesters=(email,),
        people=(email,),
        accounts=accounts,
        assignees=assignees,
        words=personal.words([email, *also, *(row["name"] for row in rows)]),
    )


def _accounts(connection: Conn, people: Sequence[str]) -> tuple[tuple[str, str], ...]:
    rows = connection.execute(SQL["erasure_accounts"], {"people": list(people)})
    return tuple(sorted((row["realm"], row["name"]) for row in rows))


# ── the transaction ──────────────────────────────────────────────────────────


def _alone(connection: Conn) -> None:
    """Nobody who writes texts is at work from here on, until the transaction ends."""
    connection.execute(SQL["erasure_lock"])
    connection.execute(SQL["erasure_lock_writers"])


def _remove(connection: Conn, subject: Subject, *, mentions: bool) -> Report:
    """Everything but the block list. Raises `ConfigError` when there is nothing at all."""
    values = _values(subject)
    gone = _documents(connection, values)
    values["ids"] = [row["id"] for row in gone]
    named = [row["id"] for row in connection.execute(SQL["erasure_mentions"], values)]
    mentioned = connection.execute(SQL["erasure_told"], {"ids": named}).fetchall()
    if mentions and named:
        gone = _documents(connection, {**values, "more": named})
    values |= {
        "ids": [row["id"] for row in gone],
        "sources": [row["source_id"] for row in gone],
        "names": [row["external_id"] for row in gone],
    }
    values["trail"] = [row["object"] for row in connection.execute(SQL["erasure_trail"], values)]
    values["chunks"] = [row["id"] for row in connection.execute(SQL["erasure_chunks"], values)]
    values["talks"] = [row["id"] for row in connection.execute(SQL["erasure_conversations"], values)]
    values["messages"] = [row["id"] for row in connection.execute(SQL["erasure_messages"], values)]
    removed = dict(connection.execute(SQL["erasure_counts"], values).fetchone() or {})
    waiting = connection.execute(SQL["erasure_waiting"], values).fetchone() or {"documents": 0}
    for table, statement in (
        ("example", SQL["erasure_drop_examples"]),
        ("escalation", SQL["erasure_drop_escalations"]),
        ("conversation", SQL["erasure_drop_conversations"]),
        ("document", SQL["erasure_drop_documents"]),
        ("failure", SQL["erasure_drop_failures"]),
        ("tombstone", SQL["erasure_drop_tombstones"]),
    ):
        removed[table] = connection.execute(statement, values).rowcount
    removed |= _people(connection, subject, values)
    removed |= _names(connection, values)
    removed = {table: count for table, count in sorted(removed.items()) if count}
    if not (removed or mentioned):
        raise ConfigError(f"Nothing is stored about «{subject.label}». Nothing was changed.")
    return Report(
        kind=subject.kind,
        label=subject.label,
        words=subject.words,
        removed=removed,
        documents=gone,
        mentions=mentioned,
        mentions_erased=mentions,
        waiting=int(waiting["documents"]),
        versions=versions.trained_on(connection, values["ids"], values["messages"]),
        gone=values,
    )


def _values(subject: Subject) -> dict[str, Any]:
    return {
        "customers": list(subject.customers),
        "requesters": list(subject.requesters),
        "people": list(subject.people),
        "accounts": [f"{realm} {name}".lower() for realm, name in subject.accounts if subject.requesters],
        "realms": [realm for realm, _ in subject.accounts],
        "logins": [name for _, name in subject.accounts],
        "tokens": [f"{realm}/{blocked.USER}{name}" for realm, name in subject.accounts],
        "assignees": list(subject.assignees),
        "pattern": personal.pattern(subject.words),
        "more": [],
    }


def _documents(connection: Conn, values: dict[str, Any]) -> list[Row]:
    """The documents that go."""
    ids = [row["id"] for row in connection.execute(SQL["erasure_documents"], values)]
    return connection.execute(SQL["erasure_told"], {"ids": ids}).fetchall()


def _people(connection: Conn, subject: Subject, values: dict[str, Any]) -> dict[str, int]:
    if subject.kind == PERSON:  # a customer goes with all its names
        for customer in subject.customers:
            connection.execute(SQL["customer_successor"], {"id": customer})
    removed = {
        table: connection.execute(statement, values).rowcount
        for table, statement in (
            ("customer", SQL["erasure_drop_customers"]),
            ("membership", SQL["erasure_drop_memberships"]),
            ("identity", SQL["erasure_drop_identities"]),
            ("principal", SQL["erasure_drop_people"]),
        )
    }
    rights = connection.execute(SQL["erasure_clear_rights"], values).fetchone() or {"documents": 0}
    return {**removed, "rights": rights["documents"]}


def _names(connection: Conn, values: dict[str, Any]) -> dict[str, int]:
    """Names taken out of rows that stay."""
    return {
        f"{table} (cleared)": connection.execute(statement, values).rowcount
        for table, statement in (
            ("held_prune", SQL["erasure_clear_held"]),
            ("ticket links", SQL["erasure_clear_links"]),
            ("ticket assignee", SQL["erasure_clear_assignees"]),
            ("sync_run", SQL["erasure_clear_runs"]),
            ("source", SQL["erasure_clear_pauses"]),
            ("audit_log", SQL["erasure_clear_trail"]),
            ("erasure", SQL["erasure_clear_actors"]),
            ("escalation", SQL["erasure_clear_escalations"]),
            ("embedding_space", SQL["erasure_clear_spaces"]),
        )
    }


def _block(connection: Conn, fingerprint: Fingerprint, subject: Subject, report: Report, actor: str) -> None:
    if actor.lower() in subject.people:
        actor = ERASED
    row = connection.execute(
        SQL["erasure_add"],
        {"actor": actor, "kind": subject.kind, "key": fingerprint.own, "report": report.stored()},
    ).fetchone()
    assert row is not None, "an insert returns its row"  # noqa: S101 - states an invariant
    report.id = int(row["id"])
    own = [
        (blocked.document(row["source"], row["external_id"]), row["source_id"]) for row in report.documents
    ]
    marks: Iterable[tuple[Mark, int | None]] = (*own, *((mark, None) for mark in subject.marks))
    with connection.cursor() as cursor:
        cursor.executemany(
            SQL["blocked_add"],
            [{"hash": fingerprint(mark), "erasure": report.id, "source": source} for mark, source in marks],
        )
    conversations.audit(
        connection,
        actor=actor,
        action=f"erase.{subject.kind}",
        object=str(report.id),
        detail={"removed": report.removed},
    )


def _vacuum(database: Database) -> None:
    """Dead rows out of tables and indexes, and names out of the counts of words and the planner's statistics."""
    with database.owner() as connection:
        documents.recount(connection)
    connection = database.connect("deskhand_owner")
    try:
        tables = sorted({table for table, _, _ in personal.columns(connection)} | {"term_stat"})
        connection.execute(
            sql.SQL("vacuum (analyze, index_cleanup on) {}").format(
                sql.SQL(", ").join(map(sql.Identifier, tables))
            )
        )
    finally:
        connection.close()
