"""Jira Cloud and Jira Service Management: issues with their comments, attachments and rights.

Not yet run against Atlassian's own servers: it was written after their documentation, and is
tested against a server that enforces it and against their OpenAPI description.

**Account.** Make an account of its own, give it an API token
(https://id.atlassian.com/manage-profile/security/api-tokens), and give it: access to Jira,
*Browse projects* in each project, a place in each security level, role and group whose issues and
comments are to be read, and the global permission *Administer Jira*, without which Jira does not
tell who is in which group, role and level. In service projects it needs an agent's licence to see
internal comments. Give it new rights before you add a project; what it starts to see later is
found when it changes, or when the source is read anew.

**What is read.** Every issue of the named projects: description, all comments, status with each
of its changes, resolution, priority, labels, components (as product), fix versions (as version),
custom fields by their names, links, and attachments as documents of their own. The reporter is
the requester; the customer is the request's organisation or the domain of the reporter's
address. An issue keeps its document when it moves to another of the projects.

**Changes** are found by `updated`, with half an hour of overlap because Jira's search lags behind
its data. What changes without touching the issue (the name of a version, a person or a status, a
new sub-task) is taken over when the issue changes next. A webhook made by an admin (System >
WebHooks, with a secret) makes it faster. **Deletions** are found by listing all ids; nothing is
deleted while the account can't browse one of the projects. Issues that the account loses sight
of otherwise (by a security level) are removed too.

**Who may read.** Those whom the project's permission scheme lets browse (users, groups, roles,
the lead, product access, and reporter or assignee for their own issues) and who can log in to
Jira; under a security level, those among them who are in it. Comments restricted to a role or a
group are for it alone; internal comments never reach customers, nor do attachments of a service
project unless a customer sent them or they hang on a public comment. «Anyone on the web» means
the people of this Jira. Grants to custom fields can't be worked out and give nobody anything;
the check names them. Customers of a portal are no readers. People are recognised by the e-mail
address of their Atlassian account, if its visibility lets this account see it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, cast

import structlog
from pydantic import BeforeValidator, Field, SecretStr, field_validator

from assistant.errors import ItemError, SourceBusy
from assistant.model import Batch, Change, Delete, Failed, Member, Upsert
from connectors.base import BATCH_SIZE, Connector, ConnectorSettings
from connectors.http import Http, signed
from connectors.jira.api import ME, PAGE, JiraApi
from connectors.jira.issue import Whole, attachment_id, documents
from connectors.jira.rights import Rights, decoded
from connectors.jira.values import Json, Reading, fields_of, time
from connectors.network import PUBLIC, Network

MINUTE = 60_000
OVERLAP = 30 * MINUTE
"""milliseconds; Atlassian speaks of «a few seconds to minutes» until the search knows of a change"""
_EMPTY: Json = {}

log = structlog.get_logger(__name__)


def _keys(value: object) -> object:
    pieces = value.split(",") if isinstance(value, str) else value
    if not isinstance(pieces, list | tuple):
        return value
    return tuple(str(key).strip().upper() for key in cast("list[object]", pieces) if str(key).strip())


class JiraSettings(ConnectorSettings):
    url: str = Field(
        description="Address of the site, such as https://example.atlassian.net; for a token with scopes "
        "https://api.atlassian.com/ex/jira/ and the site's cloud id."
    )
    email: str = Field(min_length=3, description="E-mail address of the account that reads.")
    api_token: SecretStr = Field(description="API token of that account.")
    projects: Annotated[tuple[str, ...], BeforeValidator(_keys)] = Field(
        min_length=1, description="Keys of the projects to read, such as SUP, HELP."
    )
    jql: str = Field(
        default="",
        description='JQL that issues must meet too, such as: issuetype != "Sub-task". No ORDER BY.',
    )
    service_management: bool = Field(
        default=True,
        description="Jira Service Management is in use: ask it which attachments customers see.",
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="Secret of the webhook that an admin made for Deskhand, if any."
    )
    attachments: bool = Field(default=True, description="Read attachments too.")
    max_attachment_mb: int = Field(
        default=50, ge=1, description="Attachments above this many MB are not read."
    )
    customer_from: Literal["organisation", "email_domain"] = Field(
        default="organisation",
        description="Whose tickets they are: the organisation of the request (Jira Service Management), or "
        "the domain of the reporter's e-mail address.",
    )

    @field_validator("jql")
    @classmethod
    def _no_order(cls, value: str) -> str:
        if re.search(r"\border\s+by\b", value, re.IGNORECASE):
            raise ValueError("the order is set by Deskhand; leave ORDER BY out")
        return value.strip()


class _Memory:
    """The checkpoint: how far was read, and which states of the issues since then were handed over."""

    def __init__(self, checkpoint: Mapping[str, Any] | None, scope: str) -> None:
        known = checkpoint if checkpoint and checkpoint.get("scope") == scope else {}
        self.scope = scope
        self.at = int(known.get("at", 0))
        self.seen: dict[str, int] = dict(known.get("seen", {}))

    @property
    def since(self) -> int:
        return max(self.at - OVERLAP, 0) // MINUTE * MINUTE

    def lacks(self, name: str, updated: int) -> bool:
        return updated > self.seen.get(name, -1)

    def note(self, name: str, listed: int, state: int) -> None:
        """That `state` was handed over of an issue which the search has as of `listed`."""
        self.at = max(self.at, listed)
        self.seen[name] = max(state, listed)

    def checkpoint(self) -> dict[str, Any]:
        since = self.since
        self.seen = {name: state for name, state in self.seen.items() if state >= since}
        return {"scope": self.scope, "at": self.at, "seen": dict(self.seen)}


class JiraConnector(Connector):
    Settings: ClassVar[type[ConnectorSettings]] = JiraSettings

    def __init__(self, settings: JiraSettings, network: Network = PUBLIC) -> None:
        self._settings = settings
        self._api = JiraApi(
            Http(
                settings.url,
                network,
                auth=(settings.email, settings.api_token.get_secret_value()),
                headers={"Accept": "application/json"},
            )
        )

    # ── the contract ─────────────────────────────────────────────────────────

    def check(self) -> str:
        me = decoded(self._api.http.json("GET", ME))
        projects = self._api.browsable(self._settings.projects)
        rights = Rights(self._api.http)
        people = list(rights.members(projects))
        hidden = sum(not member.email for member in people)
        notes = rights.undetermined(projects)
        keys = ", ".join(sorted(str(project["key"]) for project in projects))
        said = (
            f"«{me.get('displayName')}» sees about {self._api.count(self._jql(projects)):,} issues in {keys}, and "
            f"{len(people):,} people"
        )
        if hidden:
            said += f", {hidden:,} of them without an e-mail address to know them by"
        if notes:
            said += f"; not worked out, so that they let nobody in: {'; '.join(notes)}"
        return f"{said}."

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        projects = self._api.browsable(self._settings.projects)
        memory = _Memory(checkpoint, self._scope(projects))
        total = None if memory.at else self._api.count(self._jql(projects))
        pending: list[Change] = []
        try:
            for name, listed, state, changes in self._due(memory, self._jql(projects)):
                if pending and len(pending) + len(changes) > BATCH_SIZE:
                    yield Batch(tuple(pending), memory.checkpoint(), total)
                    pending = []
                rest = changes
                while len(rest) > BATCH_SIZE:  # the issue is only noted with its last attachment
                    yield Batch(tuple(rest[:BATCH_SIZE]), memory.checkpoint(), total)
                    rest = rest[BATCH_SIZE:]
                pending += rest
                memory.note(name, listed, state)
        except SourceBusy:
            if pending:  # so that even a source that often breaks off is read to its end
                yield Batch(tuple(pending), memory.checkpoint(), total)
            raise
        if pending:
            yield Batch(tuple(pending), memory.checkpoint(), total)

    def inventory(self) -> Iterator[str]:
        scope = self._jql(self._api.browsable(self._settings.projects))
        ids = self._api.all_ids(scope)
        if not ids:
            raise SourceBusy(
                f"{self._api.http.base_url.host} shows no issue of {', '.join(self._settings.projects)}. Nothing was "
                "deleted. Has the account lost its rights? If they are really gone, remove this source."
            )
        attached: list[str] = []
        if self._settings.attachments:
            # An attachment that was handed over a moment ago may be unknown to the search still.
            recent = f"updated >= -{2 * OVERLAP // MINUTE}m"
            holders = self._api.all_ids(f"{scope} AND (attachments IS NOT EMPTY OR {recent})")
            attached = list(self._attachments_of(sorted(holders)))
        # The rights that the lists rest on were not lost meanwhile.
        self._api.browsable(self._settings.projects)
        yield from sorted(ids, key=int)
        yield from attached

    def read(self, ids: Collection[str]) -> Iterator[Change]:
        scope = self._jql(self._api.browsable(self._settings.projects))
        present = self._api.within([name for name in ids if name.isdecimal()], scope)
        yield from (Delete(name) for name in ids if name not in present)
        for name, changes, _ in self._read({name: 0 for name in ids if name in present}):
            yield from changes or [Delete(name)]

    def memberships(self) -> Iterator[Member]:
        yield from Rights(self._api.http).members(self._api.browsable(self._settings.projects))

    def hint(self, headers: Mapping[str, str], body: bytes) -> bool:
        secret = self._settings.webhook_secret.get_secret_value()
        return signed(secret, body, headers.get("x-hub-signature", ""))

    def close(self) -> None:
        self._api.http.close()

    # ── what to read ─────────────────────────────────────────────────────────

    def _jql(self, projects: Iterable[Json]) -> str:
        scope = f"project in ({', '.join(sorted(str(project['id']) for project in projects))})"
        return f"{scope} AND ({self._settings.jql})" if self._settings.jql else scope

    def _scope(self, projects: Iterable[Json]) -> str:
        """Stands for the settings that shape what is handed over: when they change, all is read anew."""
        settings = self._settings
        shape = (
            self._jql(projects),
            settings.service_management,
            settings.attachments,
            settings.max_attachment_mb,
            settings.customer_from,
        )
        return hashlib.blake2b(json.dumps(shape).encode(), digest_size=8).hexdigest()

    def _changed(self, memory: _Memory, scope: str) -> Iterator[list[tuple[str, int]]]:
        """Ids and times of what is due, the longest unchanged first, a page at a time.

        Each page starts from the minute where the one before ended, by value and not by
        position, since every edit moves an issue to the end. Only where one minute fills a page
        Jira's own paging has to do, and then until a whole reading of the minute finds nothing new.
        JQL compares to the minute; a bare number is milliseconds, in nobody's time zone.
        """
        since = memory.since
        while True:
            page, found, paged, following = "", False, False, 0
            jql = f"{scope} AND updated >= {since} ORDER BY updated ASC, created ASC"
            while True:
                rows, page = self._api.search(jql, ["updated"], PAGE, page)
                times = [(str(row["id"]), _listed(row)) for row in rows]
                due = [(name, updated) for name, updated in times if memory.lacks(name, updated)]
                if due:
                    found = True
                    yield due
                reached = times[-1][1] // MINUTE * MINUTE if times else since
                if not page:
                    break
                if reached > since:
                    following = reached
                    break
                paged = True
            if paged and found:
                continue
            if not following:
                return
            since = following

    def _attachments_of(self, ids: Sequence[str]) -> Iterator[str]:
        for start in range(0, len(ids), PAGE):
            asked = ids[start : start + PAGE]
            found = self._api.issues(asked, ["attachment"])
            for name in asked:
                if name not in found and self._api.exists(name):
                    raise SourceBusy(
                        f"Jira can't load the issue with the id {name}, so its attachments can't be told. Nothing "
                        "was deleted. Open it in Jira; if it can't be repaired, delete it there."
                    )
                for row in (found.get(name, _EMPTY).get("fields") or {}).get("attachment") or []:
                    if int(row.get("size") or 0) <= self._max_bytes:
                        yield attachment_id(row)

    # ── reading issues ───────────────────────────────────────────────────────

    def _due(self, memory: _Memory, scope: str) -> Iterator[tuple[str, int, int, list[Change]]]:
        """Issues that are due: id, the time the search has, the time of what was read, its changes."""
        for due in self._changed(memory, scope):
            for start in range(0, len(due), BATCH_SIZE):
                listed = dict(due[start : start + BATCH_SIZE])
                for name, changes, state in self._read(listed):
                    yield name, listed[name], state, changes

    def _read(self, listed: Mapping[str, int]) -> Iterator[tuple[str, list[Change], int]]:
        """Each issue's changes and the state they are of, in the order of `listed`."""
        found = self._api.issues(list(listed), ["*all"])
        histories = self._api.histories(list(found))
        for name, updated in listed.items():
            changes: list[Change] = []
            state = updated
            try:
                if name in found:
                    changes = self._changes(found[name], histories.get(name, []))
                    state = max(updated, _milliseconds(found[name]))
                else:
                    with self._api.http.one_item(ME):
                        if self._api.exists(name):  # else deleted, or hidden, since the search told of it
                            changes = [Failed(name, _UNREADABLE)]
            except ItemError as error:
                changes = [Failed(name, str(error))]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                log.warning("an issue has an unexpected shape", issue=name, error=type(error).__name__)
                changes = [Failed(name, _UNREADABLE)]
            yield name, changes, state

    def _changes(self, issue: Json, histories: Sequence[Json]) -> list[Change]:
        fields = cast(Json, issue["fields"])
        project = self._api.project(str(fields["project"]["id"]))
        attachments = cast("list[Json]", fields.get("attachment") or [])
        if not self._settings.attachments:
            issue = {**issue, "fields": {**fields, "attachment": []}}
            attachments = []
        shared: frozenset[str] = frozenset()
        with self._api.http.one_item(ME):
            if project.service and self._settings.service_management and attachments:
                shared = frozenset(self._api.shared(str(issue["id"])))
            comments = list(self._api.comments(issue))
        whole = Whole(issue, comments, histories, shared)
        found = documents(whole, project, self._reading, self._content, max_bytes=self._max_bytes)
        changes: list[Change] = [Upsert(document) for document in found]
        for row in attachments:
            if int(row.get("size") or 0) > self._max_bytes:
                reason = (
                    f"It has {int(row['size']) / 2**20:,.0f} MB, more than max_attachment_mb allows "
                    f"({self._settings.max_attachment_mb}). It was not read; raise the setting."
                )
                changes.append(Failed(attachment_id(row), reason, str(issue["id"])))
        return changes

    def _content(self, attachment: str) -> bytes:
        return self._api.content(attachment, self._max_bytes)

    # ── what is asked once ───────────────────────────────────────────────────

    @property
    def _max_bytes(self) -> int:
        return self._settings.max_attachment_mb * 2**20

    @cached_property
    def _reading(self) -> Reading:
        return Reading(
            self._api.site(),
            fields_of(cast("list[Json]", self._api.http.json("GET", "rest/api/3/field"))),
            self._settings.customer_from,
        )


_UNREADABLE = (
    "Jira lists this issue, but does not give it out as it should. Open it in Jira; it is tried again by "
    "itself."
)


def _milliseconds(issue: Json) -> int:
    moment = time((issue.get("fields") or {}).get("updated"), "updated")
    return int(moment.timestamp() * 1000 + 0.5) if moment else 0


def _listed(issue: Json) -> int:
    """As `_milliseconds`; a time that can't be read is found to be so when the issue itself is."""
    with suppress(ItemError):
        return _milliseconds(issue)
    return 0
