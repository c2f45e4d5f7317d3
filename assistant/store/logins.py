"""Who signs in, and what opens a door: passwords, sessions and tokens, of which only hashes are kept.

What a person may read their sources say (`principals`); a login's role says what they may
do in Deskhand. All of it is the writer's: no reader's transaction sees these tables.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from assistant.errors import ConfigError, LockedOut, NotThere
from assistant.model import EVERYONE, Principal
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL

SHORTEST, LONGEST = 10, 200
"""characters of a password"""
ATTEMPTS, LOCKED_MINUTES = 5, 15
"""so many wrong passwords for an address, and for so long none is looked at"""
SESSION_DAYS, IDLE_HOURS = 7, 12
"""A session ends so long after it began, or after the last request."""
PREFIX = "dh_"
"""how a token begins, so that one that was published by a slip is recognised"""
TOKEN_DAYS = 365
"""a token's longest life"""

_hasher = PasswordHasher()
_hashing = threading.BoundedSemaphore(2)
"""each takes 64 MiB; a flood of sign-ins waits instead of filling the memory"""
_NOBODY = _hasher.hash("nobody has this password")


class Role(StrEnum):
    """What a person may do; each may do what the ones before it may."""

    AGENT = "agent"
    OWNER = "owner"
    """of the knowledge: sees what people ask in vain, and what they say of answers"""
    ADMIN = "admin"

    def covers(self, other: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody who may sign in, with the access tokens they have at this moment."""

    principal: Principal
    name: str
    role: Role
    scopes: frozenset[str] | None = None
    """of the token they came with; None: they signed in"""


def normal(address: str) -> str:
    return address.strip().lower()


def hashed(secret: str) -> bytes:
    """What is stored of a session's or token's secret: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


# ── people ───────────────────────────────────────────────────────────────────


def add(connection: Conn, address: str, role: Role, *, name: str = "", password: str | None = None) -> None:
    """A new login. Raises `ConfigError` for one that exists, an address that is none, a weak password."""
    person = normal(address)
    if "@" not in person.strip("@") or len(person) > 254 or any(c.isspace() for c in person):
        raise ConfigError(f"«{address}» is not an e-mail address. Nothing was changed.")
    values = {
        "id": person,
        "role": role.value,
        "password": None if password is None else hash_password(password),
    }
    connection.execute(SQL["principal_upsert"], {"id": person, "name": name})
    if connection.execute(SQL["login_add"], values).fetchone() is None:
        raise ConfigError(
            f"{person} can sign in already. Nothing was changed; `deskhand login reset` gives a new password, "
            "`deskhand login role` another role."
        )


def everybody(connection: Conn) -> list[Row]:
    return connection.execute(SQL["login_all"]).fetchall()


def standing(connection: Conn, address: str) -> tuple[Role, bool] | None:
    """The role of somebody's login, and whether it is disabled; None for somebody without one."""
    row = connection.execute(SQL["login_standing"], {"id": normal(address)}).fetchone()
    return None if row is None else (Role(row["role"]), bool(row["disabled"]))


def set_role(connection: Conn, address: str, role: Role) -> None:
    """Raises `ConfigError` for somebody unknown, and where no admin would be left."""
    _change(connection, SQL["login_role"], address, role=role.value)


def set_disabled(connection: Conn, address: str, disabled: bool) -> None:
    """Shut somebody out, sessions and tokens included, or let them in again. Raises `ConfigError` as `set_role`."""
    _change(connection, SQL["login_disable"], address, disabled=disabled)
    if disabled:
        close_all(connection, normal(address))


def set_password(connection: Conn, address: str, password: str) -> None:
    """Also ends their sessions and a lock-out. Raises `ConfigError` for somebody unknown or a weak password."""
    _change(connection, SQL["login_password"], address, password=hash_password(password))
    close_all(connection, normal(address))
    forgive(connection, address)


def _change(connection: Conn, statement: bytes, address: str, **values: object) -> None:
    person = normal(address)
    if connection.execute(statement, {"id": person, **values}).fetchone() is None:
        raise NotThere(f"{person} has no login. Nothing was changed; `deskhand login list` shows them all.")
    left = connection.execute(SQL["login_admins"]).fetchone()
    if left is not None and left["lost"]:
        raise ConfigError(
            "That was the last admin, and there would be none left. Nothing was changed; make another one first."
        )


def hash_password(password: str) -> str:
    """Raises `ConfigError` for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(f"A password has {SHORTEST} to {LONGEST} characters. Nothing was changed.")
    with _hashing:
        return _hasher.hash(password)


def made_up() -> str:
    """A password to be told to somebody: 100 random bits in groups that can be read out."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(4))


# ── signing in ───────────────────────────────────────────────────────────────


def attempt(connection: Conn, address: str) -> str | None:
    """Count an attempt before the password is looked at; returns the hash to compare it with.

    Commit it, then `matches`. Raises `LockedOut` after too many, for known and unknown addresses alike.
    """
    person = normal(address)
    values = {"address": hashed(person), "attempts": ATTEMPTS, "minutes": LOCKED_MINUTES}
    connection.execute(SQL["login_attempts_forget"])
    if connection.execute(SQL["login_attempt"], values).fetchone() is None:
        raise LockedOut(
            f"Too many wrong passwords for this address. Wait {LOCKED_MINUTES} minutes, or ask an admin for a new "
            "password."
        )
    row = connection.execute(SQL["login_secret"], {"id": person}).fetchone()
    return row["password"] if row else None


def matches(password: str, stored: str | None) -> bool:
    """Takes as long for somebody who has no password, or doesn't exist."""
    with _hashing:
        try:
            return _hasher.verify(stored or _NOBODY, password[:LONGEST]) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def forgive(connection: Conn, address: str) -> None:
    connection.execute(SQL["login_attempt_clear"], {"address": hashed(normal(address))})


def linked(connection: Conn, issuer: str, subject: str) -> str | None:
    """Whom an identity provider's subject is taken for; None: never seen."""
    row = connection.execute(SQL["login_linked"], {"issuer": issuer, "subject": subject}).fetchone()
    return row["principal_id"] if row else None


def link(connection: Conn, issuer: str, subject: str, person: str, *, name: str, role: Role) -> None:
    """Take a subject for `person` from now on, who may sign in then if they could not before."""
    connection.execute(SQL["principal_upsert"], {"id": person, "name": name})
    connection.execute(SQL["login_add"], {"id": person, "role": role.value, "password": None})
    connection.execute(SQL["login_link"], {"issuer": issuer, "subject": subject, "id": person})


def has_link(connection: Conn, issuer: str, person: str) -> bool:
    """Whether some subject of this provider is taken for that person."""
    values = {"issuer": issuer, "id": person}
    return connection.execute(SQL["login_link_of"], values).fetchone() is not None


def unlink(connection: Conn, address: str) -> int:
    """Forget who somebody is at identity providers, so that another account may come with the address."""
    return connection.execute(SQL["login_unlink"], {"id": normal(address)}).rowcount


def follow(connection: Conn, person: str, role: Role) -> None:
    """The role that an identity provider's groups give: the provider decides, even about the last admin."""
    connection.execute(SQL["login_role"], {"id": person, "role": role.value})


# ── sessions ─────────────────────────────────────────────────────────────────


def open_session(connection: Conn, person: str) -> str:
    """A new session's secret, which is kept nowhere. Raises `ConfigError` for somebody who is shut out."""
    secret = secrets.token_urlsafe(32)
    values = {"hash": hashed(secret), "id": person, "days": SESSION_DAYS}
    if connection.execute(SQL["session_add"], values).fetchone() is None:
        raise ConfigError("This login is disabled. Ask an admin to enable it.")
    return secret


def of_session(connection: Conn, secret: str) -> Login | None:
    """Who this session is of; None when it ended or never was."""
    row = connection.execute(SQL["session_find"], {"hash": hashed(secret), "hours": IDLE_HOURS}).fetchone()
    return None if row is None else _login(connection, row)


def close_session(connection: Conn, secret: str) -> None:
    connection.execute(SQL["session_close"], {"hash": hashed(secret)})


def close_all(connection: Conn, person: str, *, but: str = "") -> None:
    """End all of somebody's sessions, except the one with this secret."""
    connection.execute(SQL["session_close_all"], {"id": person, "but": hashed(but)})


# ── tokens ───────────────────────────────────────────────────────────────────


def add_token(
    connection: Conn, person: str, name: str, scopes: Sequence[str], *, days: int
) -> tuple[UUID, str]:
    """A new token's id and secret, which is shown once and kept nowhere."""
    secret = PREFIX + secrets.token_urlsafe(32)
    values = {"hash": hashed(secret), "id": person, "name": name, "scopes": list(scopes), "days": days}
    row = connection.execute(SQL["token_add"], values).fetchone()
    assert row is not None, "an insert returns its row"  # noqa: S101 - states an invariant
    return row["id"], secret


def tokens(connection: Conn, person: str) -> list[Row]:
    return connection.execute(SQL["token_all"], {"id": person}).fetchall()


def drop_token(connection: Conn, person: str, token: UUID) -> bool:
    """False when that person has none of this id."""
    return connection.execute(SQL["token_drop"], {"id": person, "token": token}).fetchone() is not None


def of_token(connection: Conn, secret: str) -> Login | None:
    """Whose token this is, if it still holds."""
    row = connection.execute(SQL["token_find"], {"hash": hashed(secret)}).fetchone()
    return None if row is None else _login(connection, row)


def _login(connection: Conn, row: Row) -> Login:
    found = connection.execute(SQL["principal_tokens"], {"id": row["id"]}).fetchone()
    tokens = frozenset(found["tokens"] if found else ())
    scopes = row.get("scopes")
    return Login(
        Principal(row["id"], tokens | {EVERYONE}),
        row["name"] or row["id"],
        Role(row["role"]),
        None if scopes is None else frozenset(scopes),
    )
