"""A record of an export, read through a mapping, as a ticket."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from assistant.errors import ItemError
from assistant.model import Access, Audience, Customer, Event, Kind, Part, SourceDocument, Ticket
from connectors.ticket_export.mapping import Expression, TicketMapping, compile_expression

_TRUE = {"true", "yes", "y", "t", "1", "public", "external"}
_ROLES = {
    **dict.fromkeys(("customer", "requester", "end-user", "end_user", "user", "client"), "customer"),
    **dict.fromkeys(("agent", "admin", "staff", "support", "operator"), "agent"),
}
_SOLVED = {"solved", "closed", "resolved", "done", "fixed"}
_LIST_LIMIT = 5000
"""replies or events of one ticket; more is a broken export"""

Row = Mapping[str, Any]


class _Fields:
    """The compiled expressions of one part of the mapping."""

    def __init__(self, mapping: BaseModel | Mapping[str, str], prefix: str = "") -> None:
        self.prefix = prefix
        pairs = mapping.items() if isinstance(mapping, Mapping) else dict(mapping).items()
        self.expressions: dict[str, Expression] = {
            name: compile_expression(source) for name, source in pairs if isinstance(source, str) and source
        }

    def __contains__(self, name: str) -> bool:
        return name in self.expressions

    def value(self, name: str, record: Row) -> Any:
        expression = self.expressions.get(name)
        return None if expression is None else expression(record)

    def text(self, name: str, record: Row) -> str:
        return as_text(self.value(name, record))

    def rows(self, name: str, record: Row) -> list[Row]:
        """A list of objects; one that a CSV cell spells in JSON is read too."""
        value = _decoded(self.value(name, record))
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in cast("list[Any]", value)):
            raise ItemError(f"its «{self.prefix}{name}» is no list of objects")
        rows = cast("list[Row]", value)
        if len(rows) > _LIST_LIMIT:
            raise ItemError(f"its «{self.prefix}{name}» has more than {_LIST_LIMIT} elements")
        return rows


class TicketReader:
    """Makes tickets of records. Equal records under equal settings have equal revisions.

    `salt` stands for the settings that shape a ticket; `status_values` and
    `role_values` translate what the record says, compared without regard to case.
    """

    def __init__(
        self,
        mapping: TicketMapping,
        *,
        access: Access,
        text_media_type: str,
        timezone: str,
        date_format: str,
        status_values: Mapping[str, str],
        role_values: Mapping[str, str],
        drop_if: str,
        salt: str,
    ) -> None:
        self.ticket = _Fields(mapping)
        self.customer = _Fields(mapping.customer)
        self.replies = _Fields(mapping.replies, "replies.")
        self.events = _Fields(mapping.events, "events.")
        self.attributes = _Fields(mapping.customer.attributes)
        self.metadata = _Fields(mapping.metadata)
        self._access = access
        self._media_type = text_media_type
        self._zone = ZoneInfo(timezone)
        self._date_format = date_format
        self._statuses = {key.lower(): value for key, value in status_values.items()}
        self._roles = _ROLES | {key.lower(): value for key, value in role_values.items()}
        self._drop_if = compile_expression(drop_if) if drop_if else None
        self._salt = salt

    def dropped(self, record: Row) -> bool:
        return self._drop_if is not None and _is_true(self._drop_if(record))

    def id(self, record: Row) -> str:
        """Raises `ItemError` where the record has none."""
        name = self.ticket.text("id", record)
        if not name:
            raise ItemError("it has no id")
        return name

    def document(self, record: Row) -> SourceDocument:
        """Raises `ItemError` saying which field can't be used, never its content."""
        fields = self.ticket
        created = self._date(fields, "created", record)
        title = fields.text("title", record)
        parts = self._parts(record, created)
        if not title and not parts:
            raise ItemError("it has neither a title nor a text")
        return SourceDocument(
            external_id=self.id(record),
            kind=Kind.TICKET,
            title=title,
            body=parts or (Part(title, role="customer", created_at=created),),
            revision=self._revision(record),
            access=self._access,
            url=fields.text("url", record),
            language=fields.text("language", record),
            created_at=created,
            updated_at=self._date(fields, "updated", record) or created,
            customer=self._customer(record),
            ticket=self._facts(record, parts),
            metadata={name: self.metadata.text(name, record) for name in self.metadata.expressions},
        )

    def _parts(self, record: Row, created: dt.datetime | None) -> tuple[Part, ...]:
        fields, replies = self.ticket, self.replies
        requester = fields.text("requester", record)
        email = fields.text("requester_email", record)
        question = fields.text("text", record)
        parts: list[Part] = []
        if question:
            author = requester or email
            parts.append(Part(question, self._media_type, author=author, role="customer", created_at=created))
        for reply in replies.rows("list", record):
            text = replies.text("text", reply)
            if not text or _is_true(replies.value("drop_if", reply)):
                continue
            author = replies.text("author", reply)
            public = "public" not in replies or _is_true(replies.value("public", reply))
            role = self._roles.get(replies.text("role", reply).lower(), "")
            if "role" not in replies and {author, replies.text("email", reply)} & ({requester, email} - {""}):
                role = "customer"
            parts.append(
                Part(
                    text,
                    self._media_type,
                    audience=Audience.PUBLIC if public else Audience.INTERNAL,
                    author=author or replies.text("email", reply),
                    role=role,
                    created_at=self._date(replies, "created", reply),
                    is_solution=_is_true(replies.value("is_solution", reply)),
                )
            )
        return tuple(parts)

    def _customer(self, record: Row) -> Customer | None:
        name = self.customer.text("id", record)
        if not name:
            return None
        attributes = {key: self.attributes.text(key, record) for key in self.attributes.expressions}
        return Customer(
            external_id=name,
            name=self.customer.text("name", record) or name,
            domains=tuple(domain.lower() for domain in _texts(self.customer.value("domains", record))),
            attributes={key: value for key, value in attributes.items() if value},
        )

    def _facts(self, record: Row, parts: tuple[Part, ...]) -> Ticket:
        fields = self.ticket
        status = self._status(fields.text("status", record))
        events = self._events(record)
        solved = self._date(fields, "solved_at", record)
        if solved is None:
            solved = _solved_at(status, events, parts)
        return Ticket(
            status=status,
            requester=fields.text("requester", record),
            requester_email=fields.text("requester_email", record),
            assignee=fields.text("assignee", record),
            priority=fields.text("priority", record),
            product=fields.text("product", record),
            version=fields.text("version", record),
            tags=_texts(fields.value("tags", record)),
            solved_at=solved,
            satisfaction=fields.text("satisfaction", record),
            events=events,
        )

    def _events(self, record: Row) -> tuple[Event, ...]:
        events: list[Event] = []
        for row in self.events.rows("list", record):
            at = self._date(self.events, "at", row)
            if at is None:
                raise ItemError("an event has no time")
            old, new = self.events.text("old", row), self.events.text("new", row)
            events.append(Event(at, self._status(old), self._status(new)))
        return tuple(sorted(events, key=lambda event: event.at))

    def _status(self, value: str) -> str:
        return self._statuses.get(value.lower() or "null", value)

    def _date(self, fields: _Fields, name: str, record: Row) -> dt.datetime | None:
        value = fields.value(name, record)
        if value is None:
            return None
        try:
            return parse_date(value, self._zone, self._date_format)
        except (TypeError, ValueError, OverflowError, OSError):
            raise ItemError(
                f"its «{fields.prefix}{name}» is no date that is understood; see the setting «date_format»"
            ) from None

    def _revision(self, record: Row) -> str:
        content = json.dumps(record, sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(
            (self._salt + content).encode("utf-8", "surrogatepass"), digest_size=16
        ).hexdigest()


def parse_date(value: object, zone: ZoneInfo, date_format: str) -> dt.datetime:
    """UTC time of `date_format`, ISO 8601, RFC 5322 or a Unix time; `zone` where none is told.

    Raises TypeError, ValueError, OverflowError or OSError. Nothing is guessed: 03/04/25 needs a format.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("no date")
    if isinstance(value, str):
        value = value.strip()
        parsed = _parse_text(value, date_format)
        if parsed is not None:
            return (parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)).astimezone(dt.UTC)
        if not re.fullmatch(r"\d{9,13}(\.\d+)?", value):
            return _aware(parsedate_to_datetime(value), zone)
    seconds = float(value)
    return dt.datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, dt.UTC)


def _parse_text(value: str, date_format: str) -> dt.datetime | None:
    if date_format:
        try:
            return dt.datetime.strptime(value, date_format)
        except ValueError:
            pass
    if not re.match(r"\d{4}-\d", value):
        return None
    return dt.datetime.fromisoformat(re.sub(r"\s*(UTC|[+-]\d\d:?\d\d)$", _offset, value))


def _offset(match: re.Match[str]) -> str:
    return match[1].replace("UTC", "+00:00")


def _aware(moment: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(dt.UTC)


def as_text(value: Any) -> str:
    """A value as one text: lists joined, an object by its name, address or id."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(filter(None, map(as_text, cast("list[Any]", value))))
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return as_text(
            next((fields[key] for key in ("name", "email", "id", "value") if fields.get(key)), None)
        )
    return str(value).strip()


def _texts(value: Any) -> tuple[str, ...]:
    value = _decoded(value)
    items = cast("list[Any]", value) if isinstance(value, list) else re.split(r"[,;|]", as_text(value))
    return tuple(filter(None, (as_text(item) for item in items)))


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _is_true(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _TRUE
    return bool(value)


def _solved_at(status: str, events: tuple[Event, ...], parts: tuple[Part, ...]) -> dt.datetime | None:
    """When a solved ticket was last moved from an unsolved status, else when its solution was written."""
    if status.lower() not in _SOLVED:
        return None
    for event in reversed(events):
        if event.new.lower() in _SOLVED and event.old.lower() not in _SOLVED:
            return event.at
    return next((part.created_at for part in parts if part.is_solution), None)
