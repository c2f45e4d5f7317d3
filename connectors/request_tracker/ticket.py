"""A ticket of Request Tracker with its messages and attachments, as documents."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from assistant.model import (
    Access,
    Audience,
    Customer,
    Event,
    Failed,
    Kind,
    Link,
    Part,
    SourceDocument,
    Ticket,
    Upsert,
)
from connectors.customers import PROVIDERS
from connectors.request_tracker.api import MESSAGES, Row, RtApi
from connectors.request_tracker.rights import SYSTEM, Rights, watchers

TEXT_LIMIT = 20 * 2**20
"""bytes of one part of a message; a larger one is left out and told"""
_LINKS = {
    "depends-on": "blocked_by",
    "depended-on-by": "blocks",
    "parent": "parent",
    "child": "child",
    "refers-to": "related",
    "referred-to-by": "related",
}
_SOLVED = {"resolved", "solved", "closed", "done", "fixed"}


@dataclass(frozen=True, slots=True)
class Shape:
    """Settings that decide what a ticket becomes."""

    url: str
    customer_from: Literal["organisation", "domain"]
    custom_fields: frozenset[str]
    max_bytes: int


@dataclass(slots=True)
class History:
    """What a ticket consists of beside its own row."""

    transactions: list[Row] = field(default_factory=list[Row])
    parts: dict[int, list[Row]] = field(default_factory=dict[int, list[Row]])
    """a message's parts, by its transaction"""
    parents: Mapping[int, int] = field(default_factory=dict[int, int])
    texts: Mapping[int, str] = field(default_factory=dict[int, str])
    links: list[Row] = field(default_factory=list[Row])
    merged: list[int] = field(default_factory=list[int])
    """ids that came into this ticket"""


def histories(api: RtApi, tickets: Iterable[int]) -> dict[int, History]:
    """What was said on each of `tickets`, in a handful of requests for all of them."""
    found = {ticket: History() for ticket in tickets}
    if not found:
        return {}
    now = {ticket: ticket for ticket in found}
    for old, new in api.merged_into(list(found)).items():
        now[old] = new
        found[new].merged.append(old)
    for ticket, links in api.links(list(found)).items():
        found[ticket].links = links
    owner: dict[int, int] = {}
    for row in api.transactions(now):
        ticket = now[int(row["ObjectId"])]
        found[ticket].transactions.append(row)
        if row["Type"] in MESSAGES:
            owner[int(row["id"])] = ticket
    choices: set[int] = set()
    sizes: dict[int, int] = {}
    for row in api.attachments(owner):
        message = int(row["TransactionId"])
        found[owner[message]].parts.setdefault(message, []).append(row)
        if _type(row) == "multipart/alternative":
            choices.add(message)
        if is_text(row) and 0 < _size(row) <= TEXT_LIMIT:
            sizes[int(row["id"])] = _size(row)
    parents, texts = api.parents(choices), api.texts(sizes)
    for history in found.values():
        history.parents, history.texts = parents, texts
    return found


def is_text(row: Row) -> bool:
    """Whether a part belongs to what its message says."""
    return _type(row) in ("text/plain", "text/html") and not row.get("Filename") and not _attached(row)


def is_file(row: Row) -> bool:
    """Whether a part is an attachment to be read by itself; pictures without a name are decoration."""
    kind = _type(row)
    if kind.startswith(("multipart/", "message/")) and not _size(row):
        return False  # RT keeps what is in it as parts of their own
    signature = kind.startswith("application/p") and kind.endswith(("-signature", "-encrypted"))
    return bool(row.get("Filename")) or _attached(row) or (kind.startswith("application/") and not signature)


class TicketReader:
    """Makes documents of rows. Equal rows under equal settings have equal revisions."""

    def __init__(self, shape: Shape, rights: Rights, privileged: set[str], api: RtApi) -> None:
        self._shape = shape
        self._rights = rights
        self._privileged = privileged
        self._api = api

    def changes(self, row: Row, history: History) -> list[Upsert | Failed]:
        """The ticket, then its attachments; a reason alone where RT doesn't show what was said."""
        if not history.transactions:
            return [
                Failed(
                    str(row["id"]),
                    "RT lists this ticket but shows nothing of its history to the account. What is known of it "
                    "is kept as it was; give the account ShowTicket on its queue. It is tried again by itself.",
                )
            ]
        ticket = self._ticket(row, history)
        found: list[Upsert | Failed] = [Upsert(ticket)]
        for transaction in history.transactions:
            for part in history.parts.get(int(transaction["id"]), ()):
                if is_file(part) and _size(part):
                    found.append(self._attachment(part, transaction, ticket, row))
                elif is_text(part) and _size(part) > TEXT_LIMIT:
                    found.append(_too_large(part, TEXT_LIMIT, ticket))
        return found

    def _ticket(self, row: Row, history: History) -> SourceDocument:
        queue = cast(Row, row["Queue"])
        number = int(row["id"])
        title = str(row.get("Subject") or "").strip() or f"Ticket {number}"
        customer, (name, email) = self._customer(row)
        created = _time(row.get("Created"))
        parts = tuple(p for t in history.transactions for p in self._parts(t, history, row))
        events = _events(history)
        status = str(row["Status"])
        document = SourceDocument(
            external_id=str(number),
            kind=Kind.TICKET,
            title=title,
            body=parts or (Part(title, role="customer", author=name, created_at=created),),
            revision="",
            access=self._rights.ticket(int(queue["id"]), row),
            url=f"{self._shape.url}/Ticket/Display.html?id={number}",
            created_at=created,
            updated_at=_time(row.get("LastUpdated")) or created,
            customer=customer,
            ticket=Ticket(
                status=status,
                requester=name,
                requester_email=email,
                assignee=next((_name(owner) for owner in watchers(row, "Owner")), ""),
                priority=str(row.get("Priority") or ""),
                solved_at=_time(row.get("Resolved")) if status.lower() in _SOLVED else None,
                events=events,
                custom_fields=self._fields(row),
                links=_links(row, history),
            ),
            metadata={
                "queue": str(queue.get("Name") or queue["id"]),
                "requesters": [_name(who) for who in watchers(row, "Requestor")],
            },
        )
        # LastUpdated also moves for what is not kept.
        return replace(document, revision=_revision(replace(document, access=Access(), updated_at=None)))

    def _parts(self, transaction: Row, history: History, row: Row) -> list[Part]:
        if transaction["Type"] not in MESSAGES:
            return []
        internal = transaction["Type"] == "Comment"
        access = self._rights.comments(_queue(row), row) if internal else None
        creator = cast(Row, transaction.get("Creator") or {})
        return [
            Part(
                text,
                _type(part),
                audience=Audience.INTERNAL if internal else Audience.PUBLIC,
                author=_name(creator),
                role=self._role(creator, row, internal=internal),
                created_at=_time(transaction.get("Created")),
                access=access,
            )
            for part in _said(history.parts.get(int(transaction["id"]), []), history.parents)
            if (text := history.texts.get(int(part["id"]), "")).strip()
        ]

    def _role(self, creator: Row, row: Row, *, internal: bool) -> str:
        number = str(creator.get("id", ""))
        if number == str(SYSTEM):
            return ""
        agent = str(creator.get("Name", "")) in self._privileged
        if not (internal and agent) and number in {str(who["id"]) for who in watchers(row, "Requestor")}:
            return "customer"
        if agent or number in {str(who["id"]) for who in watchers(row, "Owner")}:
            return "agent"
        return "customer" if number in {str(who["id"]) for who in watchers(row, "Cc")} else ""

    def _attachment(self, part: Row, transaction: Row, ticket: SourceDocument, row: Row) -> Upsert | Failed:
        if _size(part) > self._shape.max_bytes:
            return _too_large(part, self._shape.max_bytes, ticket)
        number = int(part["id"])
        internal = transaction["Type"] == "Comment"
        queue = _queue(row)
        document = SourceDocument(
            external_id=attachment_id(number),
            kind=Kind.DOCUMENT,
            title=str(part.get("Filename") or "").strip() or f"Attachment {number}",
            body=b"",
            revision="",
            access=self._rights.comments(queue, row) if internal else ticket.access,
            url=f"{self._shape.url}/Ticket/Attachment/{int(transaction['id'])}/{number}/",
            media_type=_type(part),
            audience=Audience.INTERNAL if internal else Audience.PUBLIC,
            created_at=_time(transaction.get("Created")),
            customer=ticket.customer,
            parent=ticket.external_id,
            metadata={"ticket": ticket.external_id},
        )
        revision = _revision((replace(document, access=Access()), _size(part)))
        return Upsert(replace(document, revision=revision, fetch=self._fetch(number, _size(part))))

    def _fetch(self, attachment: int, size: int) -> Callable[[], bytes]:
        # Base64 makes four bytes of three, and RT breaks its lines.
        return lambda: base64.b64decode(self._api.content(attachment, max_bytes=size * 3 // 2 + 2**20))

    def _customer(self, row: Row) -> tuple[Customer | None, tuple[str, str]]:
        """The requestor's organisation or domain, else the person; with the first one's name and address."""
        who = next((w for w in watchers(row, "Requestor") if w.get("type") == "user"), None)
        if who is None:
            return None, ("", "")
        name, email = _name(who), str(who.get("EmailAddress") or "").strip().lower()
        _, _, domain = email.rpartition("@")
        own = (domain,) if domain and domain not in PROVIDERS else ()
        organisation = str(who.get("Organization") or "").strip()
        if self._shape.customer_from == "organisation" and organisation:
            return Customer(organisation.casefold(), organisation, domains=own), (name, email)
        if self._shape.customer_from == "domain" and own:
            return Customer(domain, domain, domains=own), (name, email)
        return Customer(email or f"user:{who['id']}", email or name), (name, email)

    def _fields(self, row: Row) -> dict[str, str]:
        wanted = self._shape.custom_fields
        found: dict[str, str] = {}
        for entry in cast("list[Row]", row.get("CustomFields") or []):
            name = str(entry.get("name", ""))
            values = [_value(v) for v in cast("list[Any]", entry.get("values") or [])]
            if any(values) and (name.casefold() in wanted or "*" in wanted):
                found[name] = ", ".join(filter(None, values))
        return dict(sorted(found.items()))


def attachment_id(number: int) -> str:
    return f"attachment/{number}"


def _said(parts: list[Row], parents: Mapping[int, int]) -> list[Row]:
    """The parts to be read: of alternatives the plain text, where it says anything."""
    rows = {int(part["id"]): part for part in parts}
    plain: set[int] = set()
    for number, part in rows.items():
        if is_text(part) and _type(part) == "text/plain" and _size(part):
            plain |= {c for c in _containers(number, parents) if _is_choice(rows.get(c))}
    return [
        part
        for number, part in rows.items()
        if is_text(part) and not (_type(part) == "text/html" and plain & _containers(number, parents))
    ]


def _containers(number: int, parents: Mapping[int, int]) -> set[int]:
    found: set[int] = set()
    while (number := parents.get(number, 0)) and number not in found:
        found.add(number)
    return found


def _is_choice(row: Row | None) -> bool:
    return row is not None and _type(row) == "multipart/alternative"


def _events(history: History) -> tuple[Event, ...]:
    return tuple(
        Event(at, str(row.get("OldValue") or ""), str(row.get("NewValue") or ""))
        for row in history.transactions
        if row["Type"] == "Status" and (at := _time(row.get("Created"))) is not None
    )


def _links(row: Row, history: History) -> tuple[Link, ...]:
    """`merged_into` names an id that was merged into this ticket: what still refers to it is found by that."""
    found = {Link("merged_into", str(old)) for old in history.merged}
    for entry in history.links:
        relation = _LINKS.get(str(entry.get("ref")))
        if relation and entry.get("type") == "ticket" and str(entry["id"]) != str(row["id"]):
            found.add(Link(relation, str(entry["id"])))
    return tuple(sorted(found, key=lambda link: (link.relation, link.external_id)))


def _too_large(part: Row, limit: int, ticket: SourceDocument) -> Failed:
    return Failed(
        attachment_id(int(part["id"])),
        f"It is larger than {limit / 2**20:,.0f} MB. It was not read; raise max_attachment_mb if it is wanted.",
        ticket.external_id,
    )


def _queue(row: Row) -> int:
    return int(cast(Row, row["Queue"])["id"])


def _name(who: Row) -> str:
    return str(
        who.get("RealName") or who.get("Name") or who.get("EmailAddress") or who.get("id") or ""
    ).strip()


def _type(row: Row) -> str:
    return str(row.get("ContentType") or "").lower()


def _size(row: Row) -> int:
    return int(row.get("ContentLength") or 0)


def _attached(row: Row) -> bool:
    return any(
        line.lower().startswith("content-disposition: attachment")
        for line in str(row.get("Headers") or "").splitlines()
    )


def _value(value: Any) -> str:
    """A custom field's value; of a file its name."""
    if isinstance(value, dict):
        return str(cast(Row, value).get("filename") or "")
    return str(value or "").strip()


def _time(value: object) -> dt.datetime | None:
    """None for RT's «not set», which is 1970 or empty."""
    try:
        moment = dt.datetime.fromisoformat(str(value or "")).astimezone(dt.UTC)
    except ValueError:
        return None
    return moment if moment.year > 1970 else None


def _revision(value: object) -> str:
    content = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[str]", value))
    return {name: getattr(value, name) for name in value.__dataclass_fields__ if name != "fetch"}
