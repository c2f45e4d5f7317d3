"""Whom a question is about: a ticket it names, an address in it, or a customer's name.

A guess is only made where one customer fits. What the reader may not see is never
among the guesses, so a ticket of somebody else and one that does not exist look alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.errors import ConfigError, NotThere
from assistant.model import Audience, Principal
from assistant.retrieve.mask import COMMON
from assistant.retrieve.scope import Scope
from assistant.store import customers, history, search
from assistant.store.customers import Known
from assistant.store.db import Conn, Row
from assistant.store.search import Filters

_TICKET = re.compile(
    r"(?:(?<!\w)#|\b(?:ticket|case|issue|request|incident)s? (?:no\.? |number |id )?#?)(\d{1,12})\b"
    r"|\b([A-Z][A-Z0-9_]{1,9}-\d{1,9})\b",
    re.I,
)
"""#4521, ticket 4521, DESK-17"""
_URL = re.compile(r"https?://[^\s<>\"')\]]+")
_EMAIL = re.compile(r"[\w.+%-]+@([\w-]+(?:\.[\w-]+)+)")
_WORD = re.compile(r"[^\W_][\w'’-]*")


@dataclass(frozen=True, slots=True)
class About:
    """`customer` and `ticket` as far as they are clear; `others` when several customers fit."""

    customer: Known | None = None
    ticket: Row | None = None
    how: str = ""
    """what told, in words to be shown"""
    others: tuple[str, ...] = ()

    def scope(
        self, principal: Principal, audience: Audience = Audience.INTERNAL, filters: Filters | None = None
    ) -> Scope:
        """What may be found for a question about it."""
        return Scope(
            principal,
            audience,
            filters or Filters(),
            customer=self.customer.ids if self.customer else None,
            ticket=self.ticket["id"] if self.ticket else None,
        )


def detect(connection: Conn, question: str, *, ticket: str = "") -> About:
    """As the reader of the open transaction. `ticket`: a number or address that was given apart.

    Raises `ConfigError` when that ticket is not among those the reader may see.
    """
    if ticket:
        found = _tickets(connection, ticket if "://" in ticket else f"#{ticket.lstrip('#')}") or _tickets(
            connection, ticket
        )
        if not found:
            raise NotThere(
                f"There is no ticket «{ticket}» among those you may read. Check its number or address."
            )
        if len(found) > 1:
            listed = ", ".join(f"{row['url'] or row['external_id']} ({row['source']})" for row in found)
            raise ConfigError(f"«{ticket}» may be several tickets: {listed}. Give one's address.")
        return _of_ticket(connection, found[0], "the ticket given")
    found = _tickets(connection, question)
    if len(found) == 1:
        return _of_ticket(connection, found[0], f"ticket {found[0]['number']} in the question")
    groups = _named(connection, question)
    if len(groups) == 1:
        (known, how), *_ = groups
        return About(known, None, how)
    return About(others=tuple(known.name for known, _ in groups))


def _of_ticket(connection: Conn, row: Row, how: str) -> About:
    of = customers.known(connection, [row["customer_id"]]) if row["customer_id"] else None
    return About(of, row, how)


def _tickets(connection: Conn, text: str) -> list[Row]:
    urls = [url.rstrip(".,;:!?") for url in _URL.findall(text)]
    numbers = [plain or key for plain, key in _TICKET.findall(_URL.sub(" ", text))]
    return history.find(connection, numbers=numbers, urls=urls) if urls or numbers else []


def _named(connection: Conn, question: str) -> list[tuple[Known, str]]:
    """Customers that the question names, each once."""
    emails = [(m.group(0).lower(), m.group(1).lower()) for m in _EMAIL.finditer(question)]
    words = {w for w in _WORD.findall(question) if len(w) > 3 and w[0].isupper() and w.lower() not in COMMON}
    rows = search.customers_named(
        connection,
        question,
        words=[word.lower() for word in words],
        domains=[domain for _, domain in emails],
        addresses=[address for address, _ in emails],
    )
    whole = [row for row in rows if _has(question, row["name"]) or _address(row, emails)]
    found: dict[int, tuple[Known, str]] = {}
    for row in whole or rows:
        if row["stands_for"] not in found and (known := customers.known(connection, [row["id"]])):
            how = "an address in the question" if _address(row, emails) else "named in the question"
            found[row["stands_for"]] = (known, how)
    return list(found.values())


def _has(question: str, name: str) -> bool:
    return len(name) > 3 and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", question, re.I) is not None


def _address(row: Row, emails: Sequence[tuple[str, str]]) -> bool:
    return any(address == row["external_id"] or domain in row["domains"] for address, domain in emails)
