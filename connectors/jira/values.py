"""What Jira's fields say, as a ticket's facts: people, links, status changes, custom fields."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from assistant.errors import ItemError
from assistant.model import Customer, Event, Link, Ticket
from connectors.customers import by_address
from connectors.jira.adf import to_markdown

Json = Mapping[str, Any]

_SERVICE = "com.atlassian.servicedesk:"
ORGANISATIONS = f"{_SERVICE}sd-customer-organizations"
REQUEST_TYPE = f"{_SERVICE}vp-origin"
FEEDBACK = f"{_SERVICE}sd-request-feedback"
MOVING = re.compile(
    rf"{_SERVICE}(?:sd-sla-field|sd-request-feedback|sd-request-feedback-date|sd-customer-organizations)$"
    r"|.*(?:gh-lexo-rank|devsummarycf|devsummary)$"
)
"""types of custom fields that are told elsewhere, or move by themselves, like the time left to answer"""


@dataclass(frozen=True, slots=True)
class Field:
    """A custom field: its name, unique here, and the type of the app that made it."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What all issues of a run share."""

    base_url: str
    fields: Mapping[str, Field]
    customer_from: Literal["organisation", "email_domain"]


def fields_of(answer: Iterable[Json]) -> dict[str, Field]:
    """Custom fields by id. Two of one name are told apart by their ids."""
    custom = [row for row in answer if row.get("custom")]
    names = [str(row.get("name")) for row in custom]
    return {
        str(row["id"]): Field(
            name if names.count(name) == 1 else f"{name} ({row['id']})",
            str((row.get("schema") or {}).get("custom") or ""),
        )
        for row, name in zip(custom, names, strict=True)
    }


def ticket_of(fields: Json, histories: Iterable[Json], reading: Reading) -> Ticket:
    return Ticket(
        status=str(get(fields, "status", "name") or ""),
        requester=str(get(fields, "reporter", "displayName") or ""),
        requester_email=str(get(fields, "reporter", "emailAddress") or ""),
        assignee=str(get(fields, "assignee", "displayName") or ""),
        priority=str(get(fields, "priority", "name") or ""),
        product=_joined(fields.get("components")),
        version=_joined(fields.get("fixVersions")) or _joined(fields.get("versions")),
        tags=tuple(str(label) for label in cast("list[Any]", fields.get("labels") or [])),
        solved_at=time(fields.get("resolutiondate"), "resolutiondate"),
        satisfaction=_satisfaction(fields, reading),
        events=_events(histories),
        custom_fields=_custom(fields, reading),
        links=_links(fields),
    )


def _events(histories: Iterable[Json]) -> tuple[Event, ...]:
    events: dict[tuple[str, int], Event] = {}
    for history in histories:
        at = time(history.get("created"), "a change's created")
        for number, item in enumerate(rows_of(history.get("items"))):
            if item.get("fieldId", item.get("field")) == "status" and at is not None:
                change = Event(at, str(item.get("fromString") or ""), str(item.get("toString") or ""))
                events[str(history.get("id")), number] = change
    return tuple(sorted(events.values(), key=lambda event: event.at))


def _links(fields: Json) -> tuple[Link, ...]:
    links: list[Link] = []
    if parent := get(fields, "parent", "id"):
        links.append(Link("parent", str(parent)))
    links += [Link("child", str(row["id"])) for row in rows_of(fields.get("subtasks")) if row.get("id")]
    for row in rows_of(fields.get("issuelinks")):
        outward, inward = get(row, "outwardIssue", "id"), get(row, "inwardIssue", "id")
        words = str(get(row, "type", "outward" if outward else "inward") or "").lower()
        if other := outward or inward:
            links.append(Link(_relation(words, outward=bool(outward)), str(other)))
    return tuple(sorted(set(links), key=lambda link: (link.relation, link.external_id)))


def _relation(words: str, *, outward: bool) -> str:
    if "duplicate" in words:
        return "duplicate"
    if "merged" in words and outward:
        return "merged_into"
    if "blocked by" in words:
        return "blocked_by"
    return "blocks" if "blocks" in words else "related"


def customer_of(fields: Json, reading: Reading) -> Customer | None:
    if reading.customer_from == "email_domain":
        address = str(get(fields, "reporter", "emailAddress") or "")
        return by_address(address, str(get(fields, "reporter", "displayName") or ""))
    for name, field in reading.fields.items():
        if field.type == ORGANISATIONS:
            for row in rows_of(fields.get(name)):
                if row.get("id"):
                    return Customer(f"organisation/{row['id']}", str(row.get("name") or row["id"]))
    return None


def _satisfaction(fields: Json, reading: Reading) -> str:
    for name, field in reading.fields.items():
        if field.type == FEEDBACK and (rating := get(fields, name, "rating")) is not None:
            return f"{rating}/5"
    return ""


def _custom(fields: Json, reading: Reading) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, field in reading.fields.items():
        value = fields.get(name)
        if value is None or MOVING.match(field.type):
            if value is None or field.type != ORGANISATIONS:
                continue
        elif field.type == REQUEST_TYPE:
            value = get(value, "requestType", "name")
        if text := value_text(value):
            found[field.name] = text
    return found


def value_text(value: object) -> str:
    """A field's value as words: an option by its value, a person, version or group by name."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(filter(None, map(value_text, cast("list[Any]", value))))
    if not isinstance(value, dict):
        return str(value).strip()
    row = cast("dict[str, Any]", value)
    if row.get("type") == "doc":
        return to_markdown(row)
    words = next(
        (
            str(row[k])
            for k in ("value", "displayName", "name", "title", "key")
            if isinstance(row.get(k), str)
        ),
        "",
    )
    child = value_text(row.get("child"))
    return f"{words} / {child}" if words and child else words


# ── small ones ───────────────────────────────────────────────────────────────


def time(value: object, name: str) -> dt.datetime | None:
    """ISO 8601 as Jira writes it (`…+0000`) or milliseconds, in UTC. Raises `ItemError`."""
    if value is None:
        return None
    try:
        if isinstance(value, int | float):
            # Documented as a date, delivered by some endpoints as milliseconds, and by old ones as seconds.
            return dt.datetime.fromtimestamp(value / 1000 if value > 1e11 else value, dt.UTC)
        return dt.datetime.fromisoformat(re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", str(value))).astimezone(
            dt.UTC
        )
    except (ValueError, OverflowError, OSError):
        raise ItemError(
            f"Its field «{name}» is no date that is understood. Look at the issue in Jira; it is tried again "
            "by itself."
        ) from None


def get(value: object, *path: str) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = cast(Json, value).get(name)
    return value


def rows_of(value: object) -> list[Json]:
    if not isinstance(value, list):
        return []
    return [cast(Json, row) for row in cast("list[Any]", value) if isinstance(row, dict)]


def _joined(value: object) -> str:
    return ", ".join(str(row["name"]) for row in rows_of(value) if row.get("name"))
