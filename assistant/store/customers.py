"""Customers: every source names them its own way; here the names that mean the same come together.

A row is one source's name for a customer. Rows that share a domain of their own, or are
the same e-mail address, are one customer; an admin can join and part them, and then
domains no longer decide. Tickets and chunks keep the row they came with, so joining and
parting change nothing else and can be taken back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assistant.errors import ConfigError
from assistant.model import Customer
from assistant.store import history
from assistant.store.db import Conn, Row
from assistant.store.sql import SQL


@dataclass(frozen=True, slots=True)
class Known:
    """A customer as a reader may see it: all names of it that one of the reader's tickets bears."""

    ids: tuple[int, ...]
    """of the rows; the first stands for the customer"""
    name: str
    names: tuple[str, ...]
    domains: tuple[str, ...]
    accounts: tuple[str, ...]
    """realm and external id of each row"""
    attributes: Mapping[str, str]


def upsert(connection: Conn, realm: str, customer: Customer, acl: Sequence[str], clean: Any = str) -> int:
    """Id of the customer's row, whose readers are now at least `acl`."""
    row = connection.execute(
        SQL["customer_upsert"],
        {
            "realm": realm,
            "external": clean(customer.external_id),
            "name": clean(customer.name),
            "domains": sorted({domain.lower() for domain in customer.domains}),
            "attributes": json.dumps(dict(customer.attributes)),
            "acl": list(acl),
        },
    ).fetchone()
    assert row is not None, "an upsert returns its row"  # noqa: S101 - states an invariant
    return int(row["id"])


def resolve(connection: Conn) -> bool:
    """Compare one new customer with the others; False when there was none.

    One a transaction: syncs write customers too, and neither should wait for the other for long.
    """
    row = connection.execute(SQL["customer_unresolved"]).fetchone()
    if row is None:
        return False
    stands_for = row["stands_for"]
    values = {"domains": row["domains"], "external": row["external_id"]}
    while not row["fixed"]:
        alike = connection.execute(SQL["customer_alike"], {**values, "stands_for": stands_for}).fetchone()
        if alike is None:
            break
        stands_for, other = sorted((stands_for, alike["stands_for"]))  # the one known longest
        connection.execute(SQL["customer_follow"], {"into": stands_for, "id": other})
    connection.execute("update customer set resolved = true where id = %s", (row["id"],))
    return True


def known(connection: Conn, ids: Sequence[int]) -> Known | None:
    """The customer these rows belong to, as the open transaction's reader sees it; None: not at all."""
    rows = connection.execute(SQL["customer_group"], {"ids": list(ids)}).fetchall()
    if not rows:
        return None
    attributes: dict[str, str] = {}
    for row in rows:
        attributes |= {key: value for key, value in row["attributes"].items() if key not in attributes}
    return Known(
        ids=tuple(row["id"] for row in rows),
        name=rows[0]["name"] or rows[0]["external_id"],
        names=tuple(dict.fromkeys(row["name"] for row in rows if row["name"])),
        domains=tuple(sorted({domain for row in rows for domain in row["domains"]})),
        accounts=tuple(f"{row['realm']} {row['external_id']}" for row in rows),
        attributes=attributes,
    )


def listing(connection: Conn, *, limit: int = 100) -> list[Row]:
    """Customers with their names in the sources and numbers of tickets, the latest first."""
    return connection.execute(SQL["customer_all"], {"limit": limit}).fetchall()


def page(connection: Conn, query: str = "", *, limit: int = 30) -> list[Row]:
    """Customers to pick from, with numbers of tickets that the reader may see, the one with the latest first."""
    escaped = query.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    values = {"pattern": f"%{escaped}%" if escaped else None, "closed": list(history.CLOSED), "limit": limit}
    return connection.execute(SQL["customer_page"], values).fetchall()


def merge(connection: Conn, into: int, other: int) -> list[Row]:
    """Make `other`, with all its names, another name of `into`; returns the rows that changed.

    Raises `ConfigError` when they are one customer already. `split` takes it back, name by name.
    """
    into, other = _standing(connection, into), _standing(connection, other)
    if into == other:
        raise ConfigError("They are one customer already. Nothing was changed.")
    return connection.execute(SQL["customer_join"], {"into": into, "id": other}).fetchall()


def split(connection: Conn, one: int) -> None:
    """Make this name a customer of its own. Raises `ConfigError` when there is no such name."""
    connection.execute(SQL["customer_successor"], {"id": one})
    if connection.execute(SQL["customer_split"], {"id": one}).fetchone() is None:
        raise ConfigError(f"There is no customer with the number {one}. Nothing was changed.")


def _standing(connection: Conn, one: int) -> int:
    row = connection.execute(
        "select coalesce(same_as, id) as id from customer where id = %s", (one,)
    ).fetchone()
    if row is None:
        raise ConfigError(f"There is no customer with the number {one}. Nothing was changed.")
    return int(row["id"])
