"""Who somebody is: a person's address → the access tokens of all their identities."""

from __future__ import annotations

from assistant.errors import ConfigError
from assistant.model import EVERYONE, Principal
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL


def load(connection: Conn, email: str) -> Principal:
    """The person with their tokens as of this transaction.

    Raises `ConfigError` for somebody no source knows: an unknown person has no
    rights, and a mistyped address should say so rather than find nothing.
    """
    rows = connection.execute(SQL["principal_tokens"], {"id": email.strip().lower()}).fetchall()
    if not rows:
        raise ConfigError(
            f"No source knows «{email}». Sync a source that lists its users, or check the address "
            "(`deskhand status --people` lists them)."
        )
    return Principal(rows[0]["id"], frozenset({EVERYONE, *(t for row in rows for t in row["tokens"])}))


def everybody(connection: Conn) -> list[Row]:
    return list(connection.execute(SQL["principal_all"]))
