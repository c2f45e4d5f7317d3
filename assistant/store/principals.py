"""Who somebody is: a person's address → the access tokens of all their identities."""

from __future__ import annotations

from assistant.errors import ConfigError, NotThere
from assistant.model import EVERYONE, Principal, Right
from assistant.store import sources
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
            "(`deskhand people list` shows them)."
        )
    return Principal(rows[0]["id"], frozenset({EVERYONE, *(t for row in rows for t in row["tokens"])}))


def meet(connection: Conn, person: str) -> None:
    """Know somebody whom no source knows, so that what they hand over has a sender. It gives them no right."""
    connection.execute(SQL["principal_upsert"], {"id": person, "name": ""})


def fix(connection: Conn, *, source: str, account: str, email: str) -> None:
    """Say whose account this is, whatever the source says. Raises `ConfigError` when there is none such."""
    person = email.strip().lower()
    connection.execute(SQL["principal_upsert"], {"id": person, "name": ""})
    _identity(connection, source, account, person, fixed=True)


def unfix(connection: Conn, *, source: str, account: str) -> None:
    """Believe the source again, from its next permission sync on; until then it is nobody's account."""
    _identity(connection, source, account, None, fixed=False)


def allow(connection: Conn, email: str, right: Right) -> None:
    """Give a person a right; giving it twice is harmless. Raises `ConfigError` for somebody unknown."""
    connection.execute(SQL["right_give"], {"principal": load(connection, email).id, "name": right.value})


def deny(connection: Conn, email: str, right: Right) -> None:
    """Take it back; it holds at once."""
    connection.execute(SQL["right_take"], {"principal": load(connection, email).id, "name": right.value})


def has(connection: Conn, right: Right) -> bool:
    """Whether the reader of the open transaction has it."""
    row = connection.execute("select has_right(%s) as has", (right.value,)).fetchone()
    return bool(row and row["has"])


def accounts(connection: Conn, *, source: str | None = None) -> list[Row]:
    """Accounts of the sources and whom they are taken for."""
    return connection.execute(SQL["identity_all"], {"source": source}).fetchall()


def _identity(connection: Conn, source: str, account: str, person: str | None, *, fixed: bool) -> None:
    values = {
        "source": sources.get(connection, source).id,
        "name": account,
        "principal": person,
        "fixed": fixed,
    }
    if connection.execute(SQL["identity_fix"], values).fetchone() is None:
        raise NotThere(
            f"«{source}» has no account «{account}». Nothing was changed; `deskhand people list` shows them."
        )


def everybody(connection: Conn) -> list[Row]:
    return list(connection.execute(SQL["principal_all"]))
