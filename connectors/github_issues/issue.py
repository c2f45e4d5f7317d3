"""From what GitHub says about one issue to what Deskhand stores of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assistant.model import Access, Event, Kind, Link, Part, SourceDocument, Ticket
from connectors.revision import revision

Row = Mapping[str, Any]

AGENTS = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})


@dataclass(frozen=True, slots=True)
class Repository:
    id: int
    name: str
    """as it is called now"""
    access: Access

    @property
    def path(self) -> str:
        return f"repos/{self.name}"

    def item(self, number: int) -> str:
        return f"{self.id}/{number}"


def issue_document(
    repository: Repository, row: Row, comments: list[Row], history: list[Row]
) -> SourceDocument:
    """Raises `KeyError`, `TypeError` or `ValueError` where the issue is not shaped as documented."""
    number = int(row["number"])
    document = SourceDocument(
        external_id=repository.item(number),
        kind=Kind.TICKET,
        title=row["title"] or f"Issue {number}",
        body=(
            _part(row, row["body"] or row["title"]),
            *(_part(c, c["body"]) for c in comments if c.get("body")),
        ),
        revision="",
        access=repository.access,
        url=row["html_url"],
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
        ticket=_facts(repository, row, history),
    )
    # Who may read is no part of it: accesses() changes that alone. Reactions move `updated_at`, too.
    return replace(document, revision=revision(replace(document, access=Access.nobody(), updated_at=None)))


def _facts(repository: Repository, row: Row, history: list[Row]) -> Ticket:
    parent = _number_in(row.get("parent_issue_url") or "", repository)
    fields = {
        "reason": row.get("state_reason") or "",
        "type": (row.get("type") or {}).get("name") or "",
        "repository": repository.name,
    }
    return Ticket(
        status=row["state"],
        requester=_login(row),
        assignee=", ".join(user["login"] for user in row.get("assignees") or ()),
        version=(row.get("milestone") or {}).get("title") or "",
        tags=tuple(sorted(_label(label) for label in row["labels"])),
        solved_at=moment(row["closed_at"]) if row["closed_at"] else None,
        events=_events(row, history),
        custom_fields={name: value for name, value in fields.items() if value},
        links=(Link("parent", repository.item(parent)),) if parent else (),
    )


def _part(row: Row, text: str) -> Part:
    role = "agent" if row.get("author_association") in AGENTS else "customer"
    if (row.get("user") or {}).get("type") == "Bot":
        role = ""
    return Part(text, "text/markdown", author=_login(row), role=role, created_at=moment(row["created_at"]))


def _events(row: Row, history: list[Row]) -> tuple[Event, ...]:
    events = [Event(moment(row["created_at"]), "", "open")]
    for event in history:
        if event["event"] == "closed":
            events.append(Event(moment(event["created_at"]), "open", "closed"))
        elif event["event"] == "reopened":
            events.append(Event(moment(event["created_at"]), "closed", "open"))
    return tuple(events)


def _number_in(url: str, repository: Repository) -> int:
    """The number of an issue of this repository, from its address; else 0."""
    start, _, number = url.rpartition("/issues/")
    return int(number) if start.lower().endswith(f"/repos/{repository.name.lower()}") else 0


def _label(label: Row | str) -> str:
    return label if isinstance(label, str) else str(label.get("name") or "")


def _login(row: Row) -> str:
    """The account's name; `ghost` is what GitHub shows for one that is gone."""
    return (row.get("user") or {}).get("login") or "ghost"


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
