"""Redmine 5: issues with their notes, attachments and relations, and wikis, with everybody's rights.

**Account.** Make an account of its own with the administrator's box ticked, switch on
*Administration > Settings > API > Enable REST web service*, and give its API key (*My account*).
Only an administrator's key shows everything and tells who may read it; any other is refused.
Nothing is changed in Redmine, except where `notes` is on: then private notes are added.

**What is read.** Every issue of the named projects (subprojects have to be named too), or of all:
description, all notes, status with each of its changes, priority, tracker and category (as tags),
project (as product), target version, custom fields, parent and relations, and attachments as
documents of their own; wiki pages with their attachments. Projects that are archived, and modules
that are switched off, are left out, as nobody sees into them. Whoever has a role that may edit
issues in a project, or is an administrator, writes as an agent there; all others as customers. The
last public note that came with closing a closed issue counts as its solution.

**Changes** are found by the time of an issue's last change, and by the versions of wiki pages.
Redmine keeps no such time for some: a note that was edited, deleted or made private, a relation, a
file added to a wiki page, and new names of people, versions and states. Therefore issues that
changed within a day are looked at again every ten minutes, and everything is read anew after
`reread_hours`; each issue takes one request. Redmine has no webhooks of its own; a plugin or a script
may call Deskhand's, with `X-Deskhand-Signature` being the HMAC-SHA256 of the body under
`webhook_secret`. **Deletions** leave no trace: they are found by listing all that is there.

**Who may read.** Exactly whom Redmine lets: members by their roles (*all*, *non private* or *own*
issues; trackers a role is restricted to; inherited and group memberships), everybody with an account
on public projects by the role *Non member* or what the project sets in its place, administrators
everything, locked people nothing. Private notes are internal, and for their authors and roles with
*View private notes*; custom fields that only some roles see are internal and for these. Files that
came with a private note are internal too, though Redmine shows them to all who see the issue. The
trackers of a role are not told, so Redmine is asked as somebody who has the role
(`X-Redmine-Switch-User`); what isn't proven by that, nobody gets. Anonymous visitors get nothing
unless `anonymous_is_everyone` is set: then what they see is for everyone.

**People** are recognised by the e-mail address of their account. Redmine lets people change theirs
without checking it. Whoever enters another's address gives that person his own rights and gains
none in Redmine; still, set `trust_email` to false if people must not edit their accounts in your
view, and link them by hand.

**Limits.** The number of a related issue is kept even where the reader may not see that issue.
Rights that plugins change are not known. Time entries, news, forums, files and repositories are not
read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, ClassVar, cast
from urllib.parse import quote

import structlog

from assistant.errors import ItemError, SourceBusy, SourceRefused
from assistant.model import Access, AccessChanged, Batch, Change, Delete, Failed, Member
from connectors.base import BATCH_SIZE, Connector, ConnectorSettings
from connectors.http import Http, signed
from connectors.network import PUBLIC, Network
from connectors.redmine.api import Filters, Json, RedmineApi, seconds
from connectors.redmine.issue import (
    MEDIA_TYPES,
    Context,
    digest,
    issue_changes,
    page_version,
    state_of,
    ticket_id,
    wiki_changes,
    wiki_id,
)
from connectors.redmine.rights import Rights, Visitors, issue_access, wiki_access
from connectors.redmine.settings import RedmineSettings
from connectors.redmine.state import State

RECHECK = 600
"""seconds between two looks at the issues that changed lately"""
Step = tuple[list[Change], Callable[[], None]]
"""changes, and what notes in the state that they were handed over"""

log = structlog.get_logger(__name__)


class RedmineConnector(Connector):
    Settings: ClassVar[type[ConnectorSettings]] = RedmineSettings

    def __init__(self, settings: RedmineSettings, network: Network = PUBLIC) -> None:
        self._settings = settings
        self._network = network
        self.notes = settings.notes
        key = {"X-Redmine-API-Key": settings.api_key.get_secret_value()}
        self._api = RedmineApi(
            Http(settings.url, network, headers=key, each_second=settings.requests_per_second)
        )
        self._known_empty = False

    def check(self) -> str:
        self._api.require_admin()
        issues = self._api.count(self._selection)
        wikis = sum(self._has(project, "wiki") for project in self._projects.values())
        people = self._api.get("users.json", {"limit": 1}).get("total_count", 0)
        found = f"{issues:,} issues in {len(self._projects):,} projects, {wikis:,} of them with a wiki"
        missing = f"; there is no {', '.join(sorted(self._missing))}" if self._missing else ""
        return f"Redmine at {self._api.http.base_url.host} has {found}, and {people:,} people{missing}."

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        self._api.require_admin()
        state = State(checkpoint, self._scope())
        state.begin(self._api.now, self._settings.reread_hours * 3600)
        state.expect(self._tracked, [int(project["id"]) for project in self._wikis])
        pending: list[Change] = []
        last = dict(checkpoint or {})
        for changes, note in self._steps(state):
            while changes:
                if pending and len(pending) + len(changes) > BATCH_SIZE:
                    yield Batch(tuple(pending), last := state.checkpoint())
                    pending = []
                elif len(changes) > BATCH_SIZE:
                    yield Batch(tuple(changes[:BATCH_SIZE]), last := state.checkpoint())
                    changes = changes[BATCH_SIZE:]
                else:
                    pending += changes
                    break
            note()
        if pending or state.checkpoint() != last:
            yield Batch(tuple(pending), state.checkpoint())
        self._known_empty = not state.seen and not checkpoint

    def inventory(self) -> Iterator[str]:
        self._api.require_admin()
        if self._missing:
            raise SourceBusy(
                f"Redmine has no project {', '.join(sorted(self._missing))} any more, or it is archived, so what "
                "is gone can't be told. Nothing was deleted. Correct the setting «projects»."
            )
        empty = True
        for name, _ in self._all():
            empty = False
            yield name
        self._api.require_admin()
        if empty and not self._known_empty:
            raise SourceBusy(
                "Redmine shows no issue and no wiki page at all, which looks like a fault rather than a cleaning. "
                "Nothing was deleted. If they are gone for good, remove this source."
            )

    def memberships(self) -> Iterator[Member]:
        self._api.require_admin()
        users = self._api.everything("users.json", "users", status=1)
        yield from self._rights.memberships(users, trust_email=self._settings.trust_email)

    def accesses(self) -> Iterator[AccessChanged]:
        """Only what is open to anonymous visitors changes without its item; all else is memberships."""
        if self._settings.anonymous_is_everyone:
            for name, access in self._all():
                yield AccessChanged(name, access)

    def note(self, external_id: str, text: str, marker: str) -> None:
        self._api.require_admin()  # of anybody else Redmine may ignore that a note is to be private
        number = int(external_id.removeprefix("ticket/"))
        issue = self._api.issue(number)
        if issue is None:
            raise ItemError(f"Redmine has no issue {number} any more. Nothing was written there.")
        if not any(marker in (journal.get("notes") or "") for journal in issue.get("journals", ())):
            self._api.private_note(number, text)

    def hint(self, headers: Mapping[str, str], body: bytes) -> bool:
        secret = self._settings.webhook_secret.get_secret_value()
        return signed(secret, body, headers.get("x-deskhand-signature", ""))

    def close(self) -> None:
        self._api.http.close()
        if "_visitors" in self.__dict__:
            self._visitors.close()

    # what there is

    @cached_property
    def _listed(self) -> list[Json]:
        return self._api.projects()

    @cached_property
    def _projects(self) -> dict[int, Json]:
        wanted = set(self._settings.projects)
        found = {int(p["id"]): p for p in self._listed if not wanted or p.get("identifier") in wanted}
        if wanted and not found:
            raise SourceRefused(
                f"Redmine has none of the projects {', '.join(sorted(wanted))}, or they are archived. Nothing was "
                "read or deleted. Correct the setting «projects»; it wants identifiers, as in a project's address."
            )
        return found

    @property
    def _missing(self) -> set[str]:
        return set(self._settings.projects) - {p["identifier"] for p in self._projects.values()}

    def _has(self, project: Json, module: str) -> bool:
        return any(entry["name"] == module for entry in project.get("enabled_modules", ()))

    @property
    def _tracked(self) -> list[int]:
        return [number for number, project in self._projects.items() if self._has(project, "issue_tracking")]

    @property
    def _wikis(self) -> list[Json]:
        return [p for p in self._projects.values() if self._settings.wiki and self._has(p, "wiki")]

    @property
    def _selection(self) -> Filters:
        return {"project_id": ("=", tuple(self._projects))} if self._settings.projects else {}

    @cached_property
    def _fields(self) -> dict[int, Json]:
        fields = self._api.get("custom_fields.json")["custom_fields"]
        return {int(f["id"]): f for f in fields if f.get("customized_type") == "issue"}

    @cached_property
    def _rights(self) -> Rights:
        return Rights(self._api, self._projects.values(), self._fields.values())

    @cached_property
    def _users(self) -> dict[int, Json]:
        return {int(user["id"]): user for user in self._api.everything("users.json", "users", status="")}

    @property
    def _links(self) -> str:
        return (self._settings.link_url or self._settings.url).rstrip("/") + "/"

    def _scope(self) -> str:
        """What the documents are made by, besides the source's content: another one means reading anew."""
        made_by = {"projects", "wiki", "attachments", "max_attachment_mb", "customer_from", "text_format"}
        own = self._settings.model_dump(mode="json", include=made_by)
        fields = {number: (f.get("visible"), f.get("roles")) for number, f in self._fields.items()}
        return digest(own, self._links, fields)

    @cached_property
    def _context(self) -> Context:
        settings = self._settings
        statuses = self._api.get("issue_statuses.json")["issue_statuses"]
        return Context(
            base_url=self._links,
            media_type=MEDIA_TYPES[settings.text_format],
            customer_from=settings.customer_from,
            attachments=settings.attachments,
            max_bytes=settings.max_attachment_mb * 2**20,
            statuses={int(s["id"]): (str(s["name"]), bool(s.get("is_closed"))) for s in statuses},
            fields=self._fields,
            users=lambda user: self._users.get(user, {}),
            is_agent=lambda user, project: self._rights.is_agent(self._users.get(user, {}), project),
            everyone=self._visitors.see,
            download=self._api.download,
        )

    @cached_property
    def _visitors(self) -> Visitors:
        if not self._settings.anonymous_is_everyone:
            return Visitors(None, ())
        http = Http(self._settings.url, self._network, each_second=self._settings.requests_per_second)
        return Visitors(RedmineApi(http), self._projects.values())

    # reading

    def _all(self) -> Iterator[tuple[str, Access]]:
        """External ids of everything there is, and who may read it."""
        files = self._settings.attachments
        for page in self._api.issues_by_id(self._selection, include="attachments" if files else ""):
            for row in page:
                access = issue_access(row, everyone=self._visitors.see(row))
                yield ticket_id(row["id"]), access
                yield from ((f"attachment/{f['id']}", access) for f in row.get("attachments", ()) if files)
        for project in self._wikis:
            number = int(project["id"])
            access = wiki_access(number, everyone=self._visitors.read_wiki(number))
            for row in self._api.wiki(number):
                yield wiki_id(number, row["title"]), access
                page = self._page(number, row["title"]) if files else None
                yield from ((f"attachment/{f['id']}", access) for f in (page or {}).get("attachments", ()))

    def _page(self, project: int, title: str) -> Json | None:
        path = f"projects/{project}/wiki/{quote(title, safe='')}.json"
        answer = self._api.item(path, {"include": "attachments"})
        return answer["wiki_page"] if answer else None

    def _steps(self, state: State) -> Iterator[Step]:
        yield from self._changed(state)
        yield from (self._read(number, state) for number in sorted(state.due))
        if self._api.now - state.checked >= RECHECK:
            yield from (self._read(number, state) for number in state.recent(self._api.now))
            yield [], partial(state.was_checked, self._api.now)
        yield from self._unread(state)
        for project in self._wikis:
            yield from self._wiki(project, state)

    def _changed(self, state: State) -> Iterator[Step]:
        # All projects: an issue that was moved out of the chosen ones must go at once.
        for page in self._api.issues_since({}, state.since):
            for row in page:
                number, updated = int(row["id"]), seconds(row["updated_on"])
                if state.lacks(number, updated):
                    if row.get("project", {}).get("id") in self._projects:
                        yield self._read(number, state, listed=updated)
                    else:
                        note = partial(state.note, number, updated, "", self._api.now, listed=updated)
                        yield [Delete(ticket_id(number))], note

    def _unread(self, state: State) -> Iterator[Step]:
        looked = time.monotonic()
        while state.todo:
            project, after = state.todo[0]
            only = {"project_id": ("=", (project,))} if project else self._selection
            for page in self._api.issues_by_id(cast(Filters, only), after):
                for row in page:
                    number = int(row["id"])
                    if not state.read_lately(number, seconds(row["updated_on"])):
                        yield self._read(number, state)
                    yield [], partial(state.reached, number)
                if time.monotonic() - looked > 60:  # reading everything may take hours
                    yield from self._changed(state)
                    looked = time.monotonic()
            yield [], state.done

    def _read(self, number: int, state: State, *, listed: int = 0) -> Step:
        """One issue anew; no changes when it is as it was handed over last."""
        try:
            issue = self._api.issue(number)
        except ItemError as error:
            changes: list[Change] = [] if number in state.due else [Failed(ticket_id(number), str(error))]
            return changes, partial(state.failed, number, listed=listed)
        now = self._api.now
        if issue is None:
            self._api.require_admin()  # else it is hidden from us rather than gone
            return [], partial(state.note, number, listed, "", now, listed=listed)
        if issue.get("project", {}).get("id") not in self._projects:
            return [Delete(ticket_id(number))], partial(state.note, number, listed, "", now, listed=listed)
        found = issue_changes(issue, self._context)
        as_is = state_of(found)
        changes = list(found) if state.differs(number, as_is) else []
        return changes, partial(state.note, number, seconds(issue["updated_on"]), as_is, now, listed=listed)

    def _wiki(self, project: Json, state: State) -> Iterator[Step]:
        number = int(project["id"])
        present = {page_version(row): str(row["title"]) for row in self._api.wiki(number)}
        for version, title in present.items():
            if state.has_page(number, version):
                continue
            try:
                page = self._page(number, title)
                changes: Iterable[Change] = (
                    wiki_changes(page, project, self._context, self._visitors.read_wiki(number))
                    if page
                    else ()
                )
                if page is None:
                    self._api.require_admin()
            except ItemError as error:
                changes = [Failed(wiki_id(number, title), str(error))]
            yield list(changes), partial(state.page, number, version)
        yield [], partial(state.pages, number, frozenset(present))
