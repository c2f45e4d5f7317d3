"""Which columns may hold something about people, and the search that proves that nothing is left.

Every column that can hold text is listed, a test compares the list with the schema:
whoever adds a column decides here what an erasure does about it. The search itself
asks the database for its columns, so it finds what the list forgot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from psycopg import sql

from assistant.store.db import Conn
from assistant.store.sql import SQL


class Fate(StrEnum):
    """What an erasure does about a column."""

    GOES = "goes"
    """its row goes, with the document, conversation, customer or person it belongs to"""
    MENTION = "mention"
    """the same; in another's row it is a mention, listed or erased with its document"""
    CLEARED = "cleared"
    """what names somebody is taken out of it, the row stays"""
    OPERATOR = "operator"
    """an admin wrote it, or it mirrors a list of the source: searched, never changed"""
    DERIVED = "derived"
    """numbers made of a text: they go with its row, or are counted anew"""
    PLAIN = "plain"
    """from a fixed set, or made by Deskhand: nothing about people; searched all the same"""


def _columns(fate: Fate, names: str) -> dict[str, Fate]:
    return dict.fromkeys(names.split(), fate)


COLUMNS: Mapping[str, Fate] = {
    **_columns(
        Fate.MENTION,
        "chunk.headings chunk.text digest.text document.external_id document.metadata document.number"
        " document.parent document.title document.url pending.body ticket.codes ticket.custom_fields"
        " ticket.events ticket.priority ticket.product ticket.requester ticket.requester_email"
        " ticket.satisfaction ticket.status ticket.tags ticket.version",
    ),
    **_columns(
        Fate.GOES,
        "citation.quote conversation.principal_id conversation.surface conversation.title customer.attributes"
        " customer.domains customer.external_id customer.name escalation.note escalation.principal_id"
        " escalation.question failure.external_id failure.parent failure.reason feedback.comment"
        " feedback.principal_id identity.name identity.principal_id membership.user_name message.content"
        " message.refusal message.searched principal.id principal.name principal_right.principal_id"
        " tombstone.external_id example.prompt example.completion api_token.name api_token.principal_id"
        " login.principal_id login_link.issuer login_link.principal_id login_link.subject session.principal_id"
        " slack_question.user_id slack_thread.principal_id",
    ),
    **_columns(
        Fate.CLEARED,
        "audit_log.actor audit_log.detail audit_log.object chunk.acl chunk.narrow customer.acl digest.acl"
        " digest.narrow document.acl erasure.actor escalation.changed_by held_prune.missing source.paused"
        " sync_run.error sync_run.note ticket.acl ticket.assignee ticket.links"
        " embedding_space.wanted_by version.promoted_by version.requested_by",
    ),
    **_columns(
        Fate.OPERATOR,
        "customer.realm evaluation.dataset evaluation.settings identity.realm membership.group_name"
        " membership.realm slack_workspace.name source.checkpoint source.name source.realm source.secrets"
        " source.settings",
    ),
    **_columns(
        Fate.DERIVED,
        "api_token.hash login.password login_attempt.address session.hash share.hash"
        " blocked.hash chunk.embedding_1 chunk.embedding_2 chunk.hash chunk.terms chunk.weights"
        " document.title_embedding_1 document.title_embedding_2 message.vector slack_workspace.token",
    ),
    **_columns(
        Fate.PLAIN,
        "alembic_version.version_num api_token.scopes"
        " audit_log.action chunk.audience chunk.kind chunk.language chunk.role"
        " digest.audience digest.kind digest.role document.audience document.kind document.language"
        " document.media_type document.revision embedding_space.name embedding_space.revision erasure.key"
        " dataset.counts dataset.hash dataset.settings example.kind example.origin example.part"
        " erasure.kind erasure.report escalation.packet escalation.state evaluation.kind evaluation.metrics"
        " citation.evidence evaluation.system failure.stage login.role feedback.kind feedback.verdict message.chunks"
        " message.documents message.model message.role message.timings"
        " pending.form pending.revision principal_right.name schedule.cron schedule.job schedule.zone"
        " slack_channel.alerts slack_channel.audience slack_channel.channel slack_channel.team slack_channel.told"
        " slack_channel.zone slack_delivery.key slack_delivery.team slack_question.channel slack_question.replies"
        " slack_question.state slack_question.team slack_question.thread slack_question.ts slack_thread.channel"
        " slack_thread.team slack_thread.thread slack_workspace.bot slack_workspace.bot_user"
        " slack_workspace.enterprise slack_workspace.team"
        " source.connector sync_run.job sync_run.state ticket.audience tombstone.kind"
        " example.documents version.base version.dataset_hash version.folder version.kind version.metrics version.name"
        " version.progress version.reason version.recipe version.state",
    ),
}
"""`table.column` → what an erasure does about it"""

_SEARCHED = ("text", "character varying", "ARRAY", "jsonb")


def words(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that can be looked for in a text: a number or two letters would be everywhere."""
    plain = (" ".join(name.split()).lower() for name in names)
    return tuple(sorted({name for name in plain if len(name) > 2 and not name.isdigit()}))


def pattern(found: Sequence[str]) -> str | None:
    """A regular expression of PostgreSQL for any of the words, as words of their own; None: nothing matches."""
    if not found:
        return None
    each = (r"\s+".join(re.escape(part) for part in word.split()) for word in found)
    return f"(?<![[:alnum:]])(?:{'|'.join(each)})(?![[:alnum:]])"


def columns(connection: Conn) -> list[tuple[str, str, str]]:
    """Table, column and type of whatever can hold a text, or numbers made of one."""
    rows = connection.execute(
        "select c.table_name, c.column_name, c.data_type from information_schema.columns c"
        " join information_schema.tables t using (table_schema, table_name)"
        " where c.table_schema = 'deskhand' and t.table_type = 'BASE TABLE'"
        " and c.data_type in ('text', 'character varying', 'ARRAY', 'jsonb', 'json', 'bytea', 'USER-DEFINED')"
        " order by 1, 2"
    )
    return [(row["table_name"], row["column_name"], row["data_type"]) for row in rows]


def search(
    connection: Conn, found: Sequence[str], *, mentions: Sequence[int], values: Mapping[str, Any]
) -> dict[str, int]:
    """By `table.column`, rows that hold one of the words or point to what was erased.

    `mentions`: documents left out, since they are listed; `values`: ids of what was erased.
    """
    tables: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in columns(connection):
        tables.setdefault(table, []).append((column, kind))
    left: dict[str, int] = {}
    for table, its in tables.items():
        row = connection.execute(
            _query(table, its), {"pattern": pattern(found), "mentions": list(mentions)}
        ).fetchone()
        left |= {f"{table}.{column}": count for column, count in (row or {}).items() if count}
    for row in connection.execute(SQL["erasure_left"], values):
        left[row["place"]] = left.get(row["place"], 0) + row["rows"]
    return left


def _query(table: str, its: Sequence[tuple[str, str]]) -> sql.Composed:
    """Rows of one table that match, column by column, outside of the listed documents."""
    counts: list[sql.Composable] = [
        sql.SQL("count(*) filter (where {how}) as {column}").format(
            how=(
                sql.SQL("{column}::text ~* %(pattern)s")
                if kind in _SEARCHED
                else sql.SQL("encode({column}, 'escape') ~* %(pattern)s")
            ).format(column=sql.Identifier(column)),
            column=sql.Identifier(column),
        )
        for column, kind in its
        if kind in (*_SEARCHED, "bytea")
    ]
    of = {"document": "id", "chunk": "document_id", "digest": "document_id", "ticket": "document_id"}
    of["pending"] = "document_id"
    outside: sql.Composable = sql.SQL("true")
    if table in of:
        outside = sql.SQL("{id} <> all (%(mentions)s)").format(id=sql.Identifier(of[table]))
    return sql.SQL("select {counts} from {table} where {outside}").format(
        counts=sql.SQL(", ").join(counts or [sql.SQL("0 as nothing")]),
        table=sql.Identifier(table),
        outside=outside,
    )
