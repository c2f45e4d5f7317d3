"""From what Zendesk says about one ticket to what Deskhand stores of it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from assistant.model import Audience, Customer, Event, Kind, Link, Part, SourceDocument, Ticket
from connectors.revision import revision
from connectors.zendesk.people import Row, ticket_access

MERGED_TAG = "closed_by_merge"
_MERGED_INTO = re.compile(r"#(\d+)")
_ROLES = {"end-user": "customer", "agent": "agent", "admin": "agent"}


@dataclass(frozen=True, slots=True)
class Talk:
    """All that is read for one ticket: its comments with their authors, and its audits."""

    comments: list[Row]
    authors: dict[int, Row]
    audits: list[Row]


@dataclass(frozen=True, slots=True)
class Names:
    """What ids stand for: users, groups and organisations of a page, and the account's ticket fields."""

    users: dict[int, Row]
    organizations: dict[int, Row]
    fields: dict[int, str]


def ticket_document(ticket: Row, talk: Talk, names: Names) -> SourceDocument:
    """Raises `KeyError`, `TypeError` or `ValueError` where the ticket is not shaped as documented."""
    access, notes = ticket_access(ticket)
    shown = ticket.get("is_public") is True  # else it never was anything but notes, and no customer sees it
    parts: list[Part] = []
    for comment in talk.comments:
        author = talk.authors.get(comment["author_id"], {})
        public = comment["public"] is True
        html = comment.get("html_body") or ""
        parts.append(
            Part(
                html or comment.get("plain_body") or comment.get("body") or "",
                "text/html" if html else "text/plain",
                audience=Audience.PUBLIC if public else Audience.INTERNAL,
                author=author.get("name") or "",
                role=_ROLES.get(author.get("role") or "", ""),
                created_at=moment(comment["created_at"]),
                access=None if public else notes,
            )
        )
    subject = ticket.get("raw_subject") or ticket.get("subject") or ""
    document = SourceDocument(
        external_id=f"ticket/{ticket['id']}",
        kind=Kind.TICKET,
        title=ticket.get("subject") or f"Ticket {ticket['id']}",
        body=tuple(parts) or (Part(subject, role="customer"),),
        revision="",
        access=access if shown else notes,
        url=f"{ticket['url'].partition('/api/')[0]}/agent/tickets/{ticket['id']}",
        audience=Audience.PUBLIC if shown else Audience.INTERNAL,
        created_at=moment(ticket["created_at"]),
        updated_at=moment(ticket["updated_at"]),
        customer=_customer(ticket, names),
        ticket=_facts(ticket, talk, names),
    )
    # `updated_at` also moves when a trigger touched nothing that is stored.
    return replace(document, revision=revision(replace(document, updated_at=None)))


def attachment_documents(
    ticket: SourceDocument, notes: Row, comments: Iterable[Row], fetch: Callable[[str], Callable[[], bytes]]
) -> list[SourceDocument]:
    """A ticket's files as documents, with the rights of the comment they hang on."""
    internal = ticket_access(notes)[1]
    found: list[SourceDocument] = []
    for comment in comments:
        public = comment["public"] is True and ticket.audience is Audience.PUBLIC
        for file in files_of(comment):
            document = SourceDocument(
                external_id=f"attachment/{file['id']}",
                kind=Kind.DOCUMENT,
                title=file["file_name"] or f"Attachment {file['id']}",
                body=b"",
                revision="",
                access=ticket.access if public else internal,
                url=ticket.url,
                media_type=file.get("content_type") or "",
                audience=Audience.PUBLIC if public else Audience.INTERNAL,
                created_at=moment(comment["created_at"]),
                updated_at=moment(comment["created_at"]),
                customer=ticket.customer,
                parent=ticket.external_id,
                metadata={"path": file["file_name"] or "", "bytes": file.get("size") or 0},
            )
            found.append(replace(document, revision=revision(document), fetch=fetch(file["content_url"])))
    return found


def files_of(comment: Row) -> list[Row]:
    """A comment's attachments, without pictures within its text, deleted ones and malware."""
    return [
        file
        for file in comment.get("attachments") or ()
        if not file.get("deleted")
        and file.get("malware_scan_result") != "malware_found"
        and not (file.get("inline") and str(file.get("content_type")).startswith("image/"))
    ]


def redacted(talk: Talk) -> list[str]:
    """External ids of attachments that were taken out of the ticket's comments."""
    gone = [
        event["attachment_id"]
        for audit in talk.audits
        for event in audit["events"]
        if event["type"] == "AttachmentRedactionEvent" and event.get("attachment_id")
    ]
    gone += [f["id"] for c in talk.comments for f in c.get("attachments") or () if f.get("deleted")]
    return [f"attachment/{number}" for number in dict.fromkeys(gone)]


def _facts(ticket: Row, talk: Talk, names: Names) -> Ticket:
    requester = names.users.get(ticket.get("requester_id") or 0, {})
    assignee = names.users.get(ticket.get("assignee_id") or 0, {})
    events = _events(talk.audits) or (Event(moment(ticket["created_at"]), "", "new"),)
    rating = ticket.get("satisfaction_rating") or {}
    values = {
        names.fields[field["id"]]: _text(field["value"])
        for field in ticket.get("custom_fields") or ()
        if field["id"] in names.fields and field["value"] not in (None, "", [], False)
    }
    solved = [event.at for event in events if event.new in ("solved", "closed")]
    return Ticket(
        status=ticket["status"],
        requester=requester.get("name") or "",
        requester_email=requester.get("email") or "",
        assignee=assignee.get("name") or "",
        priority=ticket.get("priority") or "",
        tags=tuple(sorted(ticket.get("tags") or ())),
        solved_at=_last_solved(events) if solved and ticket["status"] in ("solved", "closed") else None,
        satisfaction=rating.get("score") or "",
        events=events,
        custom_fields=values,
        links=_links(ticket, talk),
    )


def _events(audits: Iterable[Row]) -> tuple[Event, ...]:
    """Changes of status. The first, of a new ticket, has no old one."""
    found: list[Event] = []
    for audit in audits:
        for event in audit["events"]:
            if event.get("field_name") == "status" and event["type"] in ("Create", "Change"):
                old = event.get("previous_value") or ""
                found.append(Event(moment(audit["created_at"]), old, event["value"]))
    return tuple(sorted(found, key=lambda event: event.at))


def _last_solved(events: tuple[Event, ...]) -> dt.datetime | None:
    """When it was solved for the last time; closing a solved ticket, which Zendesk does days later, is none."""
    solved = None
    for event in events:
        if event.new in ("solved", "closed") and not (
            event.old == "solved" and event.new == "closed" and solved
        ):
            solved = event.at
    return solved


def _links(ticket: Row, talk: Talk) -> tuple[Link, ...]:
    links: list[Link] = []
    if ticket.get("problem_id"):
        links.append(Link("parent", f"ticket/{ticket['problem_id']}"))
    links += [Link("child", f"ticket/{number}") for number in ticket.get("followup_ids") or ()]
    source = (ticket.get("via") or {}).get("source") or {}
    origin = (source.get("from") or {}).get("ticket_id")
    if origin and source.get("rel") == "follow_up":
        links.append(Link("parent", f"ticket/{origin}"))
    if MERGED_TAG in (ticket.get("tags") or ()):
        target = _merge_target(talk)
        if target and target != ticket["id"]:
            links.append(Link("merged_into", f"ticket/{target}"))
    return tuple(dict.fromkeys(links))


def _merge_target(talk: Talk) -> int | None:
    """Where a merged ticket went: its last audit says so, or the comment that Zendesk leaves («… #123 …»)."""
    for audit in reversed(talk.audits):
        for via in (audit.get("via"), *(event.get("via") for event in audit["events"])):
            source = (via or {}).get("source") or {}
            if source.get("rel") == "merge" and (source.get("to") or {}).get("ticket_id"):
                return int(source["to"]["ticket_id"])
    for comment in reversed(talk.comments[-2:]):
        named = _MERGED_INTO.search(comment.get("plain_body") or comment.get("body") or "")
        if named:
            return int(named[1])
    return None


def _customer(ticket: Row, names: Names) -> Customer | None:
    organization = names.organizations.get(ticket.get("organization_id") or 0)
    if organization is not None:
        return Customer(
            external_id=f"organization/{organization['id']}",
            name=organization["name"],
            domains=tuple(sorted(organization.get("domain_names") or ())),
            attributes={str(k): _text(v) for k, v in _fields(organization) if v not in (None, "", [])},
        )
    requester = names.users.get(ticket.get("requester_id") or 0)
    if requester is None or requester.get("role") != "end-user":
        return None
    return Customer(f"user/{requester['id']}", requester.get("name") or "")


def _fields(organization: Row) -> list[tuple[str, Any]]:
    fields: Mapping[str, Any] = organization.get("organization_fields") or {}
    return sorted(fields.items())


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
