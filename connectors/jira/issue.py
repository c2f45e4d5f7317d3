"""A Jira issue, as REST v3 tells it, as a ticket and its attachments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

from assistant.model import Access, Audience, Kind, Part, SourceDocument
from connectors.jira.adf import to_markdown
from connectors.jira.values import Json, Reading, customer_of, get, rows_of, ticket_of, time

MARKDOWN = "text/markdown"


@dataclass(frozen=True, slots=True)
class Project:
    """A project; `roles`: ids of its roles by name. `service`: whether customers see it through a portal."""

    id: str
    key: str
    service: bool
    roles: Mapping[str, str]
    levels: bool
    """whether its issues can have security levels"""


@dataclass(frozen=True, slots=True)
class Whole:
    """An issue with all that is asked for in requests of its own."""

    issue: Json
    comments: Sequence[Json]
    histories: Sequence[Json]
    shared: frozenset[str]
    """ids of attachments that hang on a comment customers see"""


# ── rights ───────────────────────────────────────────────────────────────────


def token(project: str, level: str = "", roles: str = "", user: str = "") -> str:
    """The group of those who may read a project's issues (of a security level).

    With `roles` (`reporter`, `assignee` or `assignee+reporter`) it is one `user`'s own: for the
    issues where they are just that, should the project's rights or the level give it a say.
    """
    name = f"project:{project}" + (f":level:{level}" if level else "")
    return f"{name}:{roles}:{user}" if roles else name


def issue_access(project: Project, fields: Json) -> Access:
    level = str(get(fields, "security", "id") or "")
    if not level and (fields.get("security") or ("security" not in fields and project.levels)):
        return Access.nobody()  # the field is hidden from us, or has no id: it may have any level
    groups = [token(project.id, level)]
    people: dict[str, list[str]] = {}
    for role in ("assignee", "reporter"):
        if account := str(get(fields, role, "accountId") or ""):
            people.setdefault(account, []).append(role)
    groups += [token(project.id, level, "+".join(roles), user) for user, roles in people.items()]
    return Access.of(groups=tuple(groups))


def comment_access(project: Project, comment: Json) -> Access | None:
    """Who of the issue's readers may read a comment restricted to a role or a group."""
    visibility = comment.get("visibility")
    if not visibility:
        return None
    kind, name = get(visibility, "type"), str(get(visibility, "value") or "")
    if kind == "group" and (group := str(get(visibility, "identifier") or "")):
        return Access.of(groups=(f"group:{group}",))
    if kind == "role" and (role := project.roles.get(name)):
        return Access.of(groups=(f"project:{project.id}:role:{role}",))
    return Access.nobody()


# ── the ticket ───────────────────────────────────────────────────────────────


def documents(
    whole: Whole, project: Project, reading: Reading, fetch: Callable[[str], bytes], *, max_bytes: int
) -> list[SourceDocument]:
    """The ticket, then its attachments up to `max_bytes`. Raises `ItemError` saying what is wrong."""
    issue, fields = whole.issue, cast(Json, whole.issue.get("fields"))
    name, key = str(issue["id"]), str(issue["key"])
    access = issue_access(project, fields)
    customer = customer_of(fields, reading)
    body = _parts(whole, project, reading)
    ticket = SourceDocument(
        external_id=name,
        kind=Kind.TICKET,
        title=f"{key}: {fields.get('summary') or 'no summary'}",
        body=body,
        revision="",
        access=access,
        url=f"{reading.base_url}/browse/{key}",
        created_at=time(fields.get("created"), "created"),
        updated_at=time(fields.get("updated"), "updated"),
        customer=customer,
        ticket=ticket_of(fields, whole.histories, reading),
        metadata={
            "key": key,
            "project": project.key,
            "type": str(get(fields, "issuetype", "name") or ""),
            "resolution": str(get(fields, "resolution", "name") or ""),
        },
    )
    return [
        _with_revision(ticket),
        *(
            _attachment(row, ticket, project, whole.shared, reading, fetch)
            for row in rows_of(fields.get("attachment"))
            if int(row.get("size") or 0) <= max_bytes
        ),
    ]


def _with_revision(document: SourceDocument) -> SourceDocument:
    """Its revision: a hash of all that is handed over but who may read it and when it was touched."""
    content = asdict(replace(document, fetch=None, revision="", access=Access(), updated_at=None))
    text = json.dumps(content, sort_keys=True, default=_plain, ensure_ascii=False)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return replace(document, revision=digest)


def _parts(whole: Whole, project: Project, reading: Reading) -> tuple[Part, ...]:
    fields = cast(Json, whole.issue["fields"])
    reporter = str(get(fields, "reporter", "accountId") or "")
    text = to_markdown(fields.get("description")) or to_markdown(fields.get("summary")) or "(no description)"
    parts = [
        Part(
            text,
            MARKDOWN,
            author=str(get(fields, "reporter", "displayName") or ""),
            role="customer",
            created_at=time(fields.get("created"), "created"),
        )
    ]
    if environment := to_markdown(fields.get("environment")):
        parts.append(Part(f"Environment: {environment}", MARKDOWN, role="customer"))
    for comment in sorted(whole.comments, key=lambda c: (str(c.get("created")), int(c.get("id") or 0))):
        author = cast(Json, comment.get("author") or {})
        customer = author.get("accountType") == "customer" or (
            bool(reporter) and author.get("accountId") == reporter
        )
        parts.append(
            Part(
                to_markdown(comment.get("body")) or "(empty)",
                MARKDOWN,
                audience=_audience(comment, project),
                author=str(author.get("displayName") or ""),
                role="customer" if customer else "" if author.get("accountType") == "app" else "agent",
                created_at=time(comment.get("created"), "a comment's created"),
                access=comment_access(project, comment),
            )
        )
    return tuple(parts)


def _audience(comment: Json, project: Project) -> Audience:
    """Internal where Jira says so, and where a service project does not say that it is public."""
    for row in rows_of(comment.get("properties")):
        if row.get("key") == "sd.public.comment" and get(row, "value", "internal") not in (None, False):
            return Audience.INTERNAL
    public = comment.get("jsdPublic")
    unsaid = public is None and not project.service
    return Audience.PUBLIC if public is True or unsaid else Audience.INTERNAL


# ── attachments ──────────────────────────────────────────────────────────────


def attachment_id(row: Json) -> str:
    return f"attachment/{row['id']}"


def _attachment(
    row: Json,
    ticket: SourceDocument,
    project: Project,
    shared: frozenset[str],
    reading: Reading,
    fetch: Callable[[str], bytes],
) -> SourceDocument:
    name, size = str(row["id"]), int(row.get("size") or 0)
    title = str(row.get("filename") or name)
    public = not project.service or get(row, "author", "accountType") == "customer" or name in shared
    return _with_revision(
        SourceDocument(
            external_id=attachment_id(row),
            kind=Kind.DOCUMENT,
            title=title,
            body=b"",
            revision="",
            access=ticket.access,
            url=f"{reading.base_url}/rest/api/3/attachment/content/{name}",
            media_type=str(row.get("mimeType") or ""),
            audience=Audience.PUBLIC if public else Audience.INTERNAL,
            created_at=time(row.get("created"), "an attachment's created"),
            updated_at=time(row.get("created"), "an attachment's created"),
            customer=ticket.customer,
            parent=ticket.external_id,
            fetch=lambda: fetch(name),
            metadata={"path": title, "bytes": size},
        )
    )


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[str]", value))
    return str(value)
