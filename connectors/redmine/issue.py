"""An issue of Redmine, and a page of its wikis, as documents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote

from assistant.model import (
    Access,
    Audience,
    Customer,
    Delete,
    Event,
    Failed,
    Kind,
    Link,
    Part,
    SourceDocument,
    Ticket,
    Upsert,
)
from connectors.customers import by_address
from connectors.redmine.api import Json, moment
from connectors.redmine.rights import field_access, issue_access, note_access, wiki_access

RELATIONS = {"duplicates": "duplicate", "blocks": "blocks"}
REVERSED = {"duplicates": "duplicate", "blocks": "blocked_by"}
"""as the second of the two issues sees it; all others are `related`"""

MEDIA_TYPES = {"textile": "text/x-textile", "markdown": "text/markdown", "common_mark": "text/markdown"}


@dataclass(frozen=True, slots=True)
class Context:
    """What the conversion has to ask the source for."""

    base_url: str
    media_type: str
    customer_from: str
    attachments: bool
    max_bytes: int
    statuses: Mapping[int, tuple[str, bool]]
    """name, and whether it means closed"""
    fields: Mapping[int, Json]
    users: Callable[[int], Json]
    is_agent: Callable[[int, int], bool]
    """user, project"""
    everyone: Callable[[Json], bool]
    """whether anonymous visitors see the public issues of this one's tracker"""
    download: Callable[[int, int], bytes]


def ticket_id(number: object) -> str:
    return f"ticket/{number}"


def wiki_id(project: int, title: str) -> str:
    return f"wiki/{project}/{title}"


def digest(*things: object) -> str:
    def plain(value: object) -> object:
        return sorted(map(str, value)) if isinstance(value, frozenset | set) else str(value)

    text = json.dumps(things, default=plain, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def page_version(row: Json) -> str:
    """A digest of a wiki page as listed."""
    return digest(row["title"], row.get("version"), row.get("updated_on"), row.get("parent"))[:10]


def with_revision(document: SourceDocument) -> SourceDocument:
    """`access` is left out: it is handed over whether or not the text is new."""
    stored = asdict(replace(document, fetch=None, revision="", access=Access.nobody()))
    return replace(document, revision=digest(stored))


def state_of(changes: list[Upsert | Failed | Delete]) -> str:
    """A digest that changes whenever the changes should be handed over again."""
    return digest(
        [
            (c.document.external_id, c.document.revision, c.document.access.tokens)
            if isinstance(c, Upsert)
            else repr(c)
            for c in changes
            if not isinstance(c, Delete)
        ]
    )[:12]


def issue_changes(issue: Json, context: Context) -> list[Upsert | Failed | Delete]:
    """The ticket, then its attachments, then those it lost."""
    ticket = _ticket(issue, context)
    changes: list[Upsert | Failed | Delete] = [Upsert(ticket)]
    if not context.attachments:
        return changes
    present = {int(file["id"]) for file in issue.get("attachments", ())}
    hidden = _files_of_private_notes(issue)
    for file in issue.get("attachments", ()):
        audience = Audience.INTERNAL if int(file["id"]) in hidden else Audience.PUBLIC
        changes.append(attachment(file, ticket, audience, context))
    for journal in issue.get("journals", ()):
        for detail in journal.get("details", ()):
            if detail.get("property") == "attachment" and not detail.get("new_value"):
                number = int(detail["name"])
                if number not in present:
                    changes.append(Delete(f"attachment/{number}"))
    return changes


def attachment(file: Json, parent: SourceDocument, audience: Audience, context: Context) -> Upsert | Failed:
    number, size = int(file["id"]), int(file.get("filesize") or 0)
    name = f"attachment/{number}"
    if size > context.max_bytes:
        return Failed(
            name,
            f"It has {size / 2**20:,.1f} MB, more than max_attachment_mb allows "
            f"({context.max_bytes / 2**20:,.0f}). It was not read; raise the setting if it is worth it.",
        )
    document = SourceDocument(
        external_id=name,
        kind=Kind.DOCUMENT,
        title=str(file.get("filename") or name),
        body=b"",
        revision="",
        access=parent.access,
        url=f"{context.base_url}attachments/{number}",
        media_type=str(file.get("content_type") or ""),
        audience=audience,
        created_at=moment(file.get("created_on")),
        updated_at=moment(file.get("created_on")),
        customer=parent.customer,
        parent=parent.external_id,
        metadata={
            "path": file.get("filename", ""),
            "bytes": size,
            "description": file.get("description") or "",
        },
    )
    fetch = partial(context.download, number, context.max_bytes)
    return Upsert(replace(with_revision(document), fetch=fetch))


def _files_of_private_notes(issue: Json) -> set[int]:
    """Ids of attachments that were uploaded together with a private note.

    Redmine shows them to all who see the issue: it splits such an edit into the private
    note and an entry of the same second and author that holds the files.
    """

    def key(journal: Json) -> tuple[object, object]:
        return journal.get("created_on"), journal.get("user", {}).get("id")

    journals = issue.get("journals", ())
    private = {key(journal) for journal in journals if journal.get("private_notes")}
    return {
        int(detail["name"])
        for journal in journals
        if key(journal) in private and not journal.get("notes")
        for detail in journal.get("details", ())
        if detail.get("property") == "attachment"
    }


def _ticket(issue: Json, context: Context) -> SourceDocument:
    project = int(issue.get("project", {}).get("id") or 0)
    author = issue.get("author", {})
    fields, restricted = _fields(issue, context)
    status, closed = _status(issue, context)
    category = issue.get("category", {}).get("name", "")
    user = context.users(int(author.get("id") or 0))
    document = SourceDocument(
        external_id=ticket_id(issue["id"]),
        kind=Kind.TICKET,
        title=str(issue.get("subject") or f"#{issue['id']}"),
        body=(*_conversation(issue, project, closed, context), *_restricted(restricted, project)),
        revision="",
        access=issue_access(issue, everyone=context.everyone(issue)),
        url=f"{context.base_url}issues/{issue['id']}",
        created_at=moment(issue.get("created_on")),
        updated_at=moment(issue.get("updated_on")),
        customer=_customer(issue, user, context),
        ticket=Ticket(
            status=status,
            requester=str(author.get("name", "")),
            requester_email=str(user.get("mail") or ""),
            assignee=str(issue.get("assigned_to", {}).get("name", "")),
            priority=str(issue.get("priority", {}).get("name", "")),
            product=str(issue.get("project", {}).get("name", "")),
            version=str(issue.get("fixed_version", {}).get("name", "")),
            tags=tuple(tag for tag in (issue.get("tracker", {}).get("name", ""), category) if tag),
            solved_at=moment(issue.get("closed_on")) if closed else None,
            events=_events(issue, context),
            custom_fields=fields,
            links=_links(issue),
        ),
    )
    return with_revision(document)


def _status(issue: Json, context: Context) -> tuple[str, bool]:
    status = issue.get("status", {})
    name, closed = context.statuses.get(int(status.get("id") or 0), (str(status.get("name", "")), False))
    return name, closed


def _conversation(issue: Json, project: int, closed: bool, context: Context) -> list[Part]:
    def role(user: int | None) -> str:
        if not user:
            return ""
        return "agent" if context.is_agent(user, project) else "customer"

    author = issue.get("author", {})
    parts = [
        Part(
            text=str(issue.get("description") or issue.get("subject") or f"#{issue['id']}"),
            media_type=context.media_type,
            author=str(author.get("name", "")),
            role=role(author.get("id")),
            created_at=moment(issue.get("created_on")),
        )
    ]
    solution = _closing_note(issue, context) if closed else None
    for journal in issue.get("journals", ()):
        if not (text := journal.get("notes")):
            continue
        user = journal.get("user", {})
        private = journal.get("private_notes", True)
        parts.append(
            Part(
                text=text,
                media_type=context.media_type,
                audience=Audience.INTERNAL if private else Audience.PUBLIC,
                author=str(user.get("name", "")),
                role=role(user.get("id")),
                created_at=moment(journal.get("created_on")),
                is_solution=journal["id"] == solution,
                access=note_access(project, user.get("id")) if private else None,
            )
        )
    return parts


def _closing_note(issue: Json, context: Context) -> int | None:
    """The last public note that was written while closing the issue."""
    found = None
    for journal in issue.get("journals", ()):
        for detail in journal.get("details", ()):
            closes = context.statuses.get(_number(detail.get("new_value")), ("", False))[1]
            if detail.get("name") == "status_id" and closes and journal.get("notes"):
                found = int(journal["id"])
    return found


def _number(value: object) -> int:
    return int(value) if isinstance(value, str) and value.isdigit() else 0


def _events(issue: Json, context: Context) -> tuple[Event, ...]:
    def name(value: object) -> str:
        return context.statuses.get(_number(value), (str(value or ""), False))[0]

    return tuple(
        Event(at, name(detail.get("old_value")), name(detail.get("new_value")))
        for journal in issue.get("journals", ())
        if (at := moment(journal.get("created_on")))
        for detail in journal.get("details", ())
        if detail.get("property") == "attr" and detail.get("name") == "status_id"
    )


def _links(issue: Json) -> tuple[Link, ...]:
    links = [Link("parent", ticket_id(issue["parent"]["id"]))] if issue.get("parent") else []
    for relation in issue.get("relations", ()):
        kind, first = relation.get("relation_type"), relation.get("issue_id") == issue["id"]
        other = relation["issue_to_id"] if first else relation["issue_id"]
        links.append(Link((RELATIONS if first else REVERSED).get(kind, "related"), ticket_id(other)))
    return tuple(sorted(links, key=lambda link: (link.relation, link.external_id)))


def _fields(issue: Json, context: Context) -> tuple[dict[str, str], dict[str, tuple[str, list[int]]]]:
    """Custom fields everybody sees, and those for some roles only, with their roles."""
    open_ones: dict[str, str] = {}
    restricted: dict[str, tuple[str, list[int]]] = {}
    for field in issue.get("custom_fields", ()):
        definition = context.fields.get(int(field["id"]))
        labels = {v["value"]: v["label"] for v in (definition or {}).get("possible_values", ())}
        given = field.get("value")
        values: list[Any] = given if isinstance(given, list) else [given]
        text = ", ".join(str(labels.get(value, value)) for value in values if value not in (None, ""))
        if not text:
            continue
        if definition and definition.get("visible"):
            open_ones[field["name"]] = text
        else:
            roles = [int(role["id"]) for role in (definition or {}).get("roles", ())]
            restricted[field["name"]] = text, roles
    return open_ones, restricted


def _restricted(fields: Mapping[str, tuple[str, list[int]]], project: int) -> list[Part]:
    return [
        Part(text=f"{name}: {text}", audience=Audience.INTERNAL, access=field_access(project, roles))
        for name, (text, roles) in sorted(fields.items())
    ]


def _customer(issue: Json, user: Json, context: Context) -> Customer | None:
    if context.customer_from == "project":
        project = issue.get("project", {})
        return Customer(str(project["id"]), str(project.get("name", ""))) if project.get("id") else None
    if context.customer_from == "email_domain":
        return by_address(str(user.get("mail") or ""))
    open_ones, restricted = _fields(issue, context)
    name = context.customer_from.removeprefix("field:").strip()
    value = open_ones.get(name) or restricted.get(name, ("", ()))[0]
    return Customer(value, value) if value else None


def wiki_changes(page: Json, project: Json, context: Context, everyone: bool) -> list[Upsert | Failed]:
    """The page, then its attachments."""
    number, title = int(project["id"]), str(page["title"])
    document = with_revision(
        SourceDocument(
            external_id=wiki_id(number, title),
            kind=Kind.DOCUMENT,
            title=title.replace("_", " "),
            body=(
                Part(
                    text=str(page.get("text") or title.replace("_", " ")),
                    media_type=context.media_type,
                    author=str(page.get("author", {}).get("name", "")),
                    created_at=moment(page.get("updated_on")),
                ),
            ),
            revision="",
            access=wiki_access(number, everyone=everyone),
            url=f"{context.base_url}projects/{project['identifier']}/wiki/{quote(title, safe='')}",
            created_at=moment(page.get("created_on")),
            updated_at=moment(page.get("updated_on")),
            metadata={"project": project["name"], "version": page.get("version")},
        )
    )
    changes: list[Upsert | Failed] = [Upsert(document)]
    if context.attachments:
        for file in page.get("attachments", ()):
            changes.append(attachment(file, document, Audience.PUBLIC, context))
    return changes
