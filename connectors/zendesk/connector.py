"""Tickets of Zendesk Support and articles of its help centre. Not yet run against the vendor.

**Account.** An administrator's e-mail address with an API token (Admin Center › Apps and
integrations › Zendesk API), or an OAuth token with the scope `read` of an administrator:
the incremental exports are open to admins only.

**What is read.** Every ticket with its comments, custom fields, satisfaction and tags, its
changes of status (from its audits), the organisation as the customer, links to problems,
follow-ups and the ticket it was merged into, and attachments as documents of their own.
Published articles, in the language they were written in; drafts never. Two requests a
ticket, at most 10 a minute to the exports.

**Changes and deletions.** The cursor-based ticket export names what changed, except in the
last minute; deleted tickets come with it. The inventory reads that export from its start,
since the list of tickets leaves out archived ones, and the comments of tickets that have
attachments. Articles come from their own export; archived ones are missed by the inventory.
A signed webhook calls for a sync at once.

**Who may read.** Agents as their role, or their own restriction, says: all tickets, those of
their groups, of their organisation, or those assigned to them; internal notes and what hangs
on them are for those agents alone, light agents included. End users read the public part of
tickets they requested, and of their organisation's where it is shared. Suspended people read
nothing. An article is for the members of its user segments; one without a segment for
everybody, or, with `public_articles` off, for everybody who has signed in. A person is known
by a verified e-mail address only; agents with the right to edit users can verify one.

**Limits.** People in copy don't read a ticket here. Restrictions of agents to brands are not
read: where there are some, name the brands that all agents may see in `brands`. Of a user
segment's criteria all must hold, and tags count only where they are the user's own. Tags are
stored with the ticket, for all its readers. Translations of articles and their attachments
are not read. Where a merge comment was rewritten, the link to the other ticket is missing.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from assistant.errors import ItemError, SourceBusy, SourceRefused
from assistant.model import (
    AccessChanged,
    Batch,
    Change,
    Delete,
    Failed,
    Member,
    SourceDocument,
    Upsert,
)
from connectors.base import BATCH_SIZE, Connector, ConnectorSettings
from connectors.http import Http
from connectors.network import PUBLIC, Network
from connectors.zendesk.articles import article_access, article_change, articles_now, sync_articles
from connectors.zendesk.people import Row, listing, members
from connectors.zendesk.ticket import Names, Talk, attachment_documents, files_of, redacted, ticket_document

PAGE = 100
"""tickets a page of the export while they are read; the checkpoint lists those of a page that are done"""
LIST_PAGE = 1000
"""tickets a page of the export while they are only counted; the most Zendesk gives"""
SETTLING_SECONDS = 3600
"""a ticket that changed this short ago may be unknown to Zendesk's search still"""
WEBHOOK_SECONDS = 300
SIDELOADS = "users,organizations"
ME = "api/v2/users/me.json"
EXPORT = "api/v2/incremental/tickets/cursor.json"


class ZendeskSettings(ConnectorSettings):
    url: str = Field(description="Address of the account, e.g. https://example.zendesk.com.")
    email: str = Field(default="", description="E-mail address of the administrator whose API token this is.")
    api_token: SecretStr = Field(default=SecretStr(""), description="API token of that administrator.")
    oauth_token: SecretStr = Field(
        default=SecretStr(""), description="OAuth access token, in place of e-mail address and API token."
    )
    tickets: bool = Field(default=True, description="Read tickets.")
    brands: tuple[int, ...] = Field(
        default=(), description="Numbers of the brands whose tickets to read; empty: all brands."
    )
    attachments: bool = Field(default=True, description="Read the files attached to tickets.")
    internal_fields: bool = Field(
        default=False,
        description="Also take fields of tickets and organisations that end users don't see in Zendesk; they are "
        "stored with the ticket, for all its readers.",
    )
    help_center: bool = Field(
        default=True, description="Read the published articles of the help centre; off where there is none."
    )
    public_articles: bool = Field(
        default=True,
        description="Articles without a user segment are for everyone; off: only for people of this Zendesk, "
        "as where the help centre asks for a sign-in.",
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="Signing secret of a webhook that calls for a sync; empty: none."
    )
    rate: int = Field(
        default=10, ge=1, description="Requests a minute to the exports; more only with a higher allowance."
    )
    max_file_mb: int = Field(default=50, ge=1, description="Attachments above this many MB are not read.")
    attachment_hosts: tuple[str, ...] = Field(
        default=("zdusercontent.com", "zendesk.com"),
        description="Hosts, with all below them, that attachments may come from; they get no credentials.",
    )


class ZendeskConnector(Connector):
    Settings: ClassVar[type[ConnectorSettings]] = ZendeskSettings

    def __init__(self, settings: ZendeskSettings, network: Network = PUBLIC) -> None:
        self._settings = settings
        oauth, token = settings.oauth_token.get_secret_value(), settings.api_token.get_secret_value()
        if not oauth and not (settings.email and token):
            raise SourceRefused(
                "Zendesk needs an e-mail address and an API token, or an OAuth token. Nothing was sent; give "
                "the source one of them."
            )
        self._http = Http(
            settings.url,
            network,
            headers={"Accept": "application/json"} | ({"Authorization": f"Bearer {oauth}"} if oauth else {}),
            auth=None if oauth else (f"{settings.email}/token", token),
        )
        self._exports: list[float] = []
        self._fields: dict[int, str] | None = None

    def check(self) -> str:
        self._require_admin()
        found: list[str] = []
        if self._settings.tickets:
            count = self._http.json("GET", "api/v2/tickets/count.json")["count"]["value"]
            found.append(f"about {count:,} tickets that are not archived")
        if self._settings.help_center:
            found.append(f"{sum(1 for _ in articles_now(self._http)):,} published articles")
        return f"{self._http.base_url.host} holds {' and '.join(found) or 'nothing that is to be read'}."

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        state = dict(checkpoint or {})
        if self._settings.tickets:
            yield from self._sync_tickets(state)
        if self._settings.help_center:
            yield from sync_articles(self._http, state, public=self._settings.public_articles)

    def inventory(self) -> Iterator[str]:
        ids: dict[str, None] = {}
        if self._settings.tickets:
            tickets = self._all_tickets()
            ids |= {f"ticket/{number}": None for number in tickets}
            if self._settings.attachments:
                ids |= dict.fromkeys(self._attachments(tickets))
        if self._settings.help_center:
            ids |= {f"article/{article['id']}": None for article in articles_now(self._http)}
        if not ids:
            raise SourceBusy(
                f"{self._http.base_url.host} shows neither tickets nor articles. Nothing was deleted. Has the "
                "account lost its rights? If they are really gone, remove this source."
            )
        yield from ids

    def read(self, ids: Collection[str]) -> Iterator[Change]:
        self._require_admin()  # else what is hidden would look gone
        for name in ids:
            try:
                yield from self._again(name)
            except ItemError as error:
                yield Failed(name, str(error))

    def memberships(self) -> Iterator[Member]:
        return members(self._http, help_center=self._settings.help_center)

    def accesses(self) -> Iterator[AccessChanged]:
        """Articles only: a change of a ticket's group, requester or organisation is a change of the ticket."""
        if self._settings.help_center:
            for article in articles_now(self._http):
                access = article_access(article, public=self._settings.public_articles)
                yield AccessChanged(f"article/{article['id']}", access)

    def hint(self, headers: Mapping[str, str], body: bytes) -> bool:
        """https://developer.zendesk.com/documentation/webhooks/verifying"""
        secret = self._settings.webhook_secret.get_secret_value()
        stamp = headers.get("x-zendesk-webhook-signature-timestamp", "")
        try:
            age = abs(time.time() - dt.datetime.fromisoformat(stamp).timestamp())
            given = base64.b64decode(headers.get("x-zendesk-webhook-signature", ""), validate=True)
        except ValueError:
            return False
        expected = hmac.new(secret.encode(), stamp.encode() + body, hashlib.sha256).digest()
        return bool(secret) and age <= WEBHOOK_SECONDS and hmac.compare_digest(expected, given)

    def close(self) -> None:
        self._http.close()

    def _require_admin(self) -> None:
        me = self._http.json("GET", ME)["user"]
        if me["role"] != "admin":
            raise SourceRefused(
                f"The account is a Zendesk {me['role'] or 'visitor'}, and the exports are open to administrators "
                "only. Nothing was read; use an administrator's token."
            )

    def _sync_tickets(self, state: dict[str, Any]) -> Iterator[Batch]:
        """Page by page; a batch that ends within a page says which of its tickets are done.

        They are known by the version of them that the export showed: one that changed
        since comes again further on, whatever else moved meanwhile. `part` is the one with
        more attachments than a batch holds, and how many of its changes are handed over.
        """
        while True:
            page = self._export(state.get("cursor"), include=SIDELOADS, per_page=str(PAGE))
            names = self._names(page)
            done: list[str] = list(state.get("done", ()))
            half, handed = state.get("part", ("", 0))
            pending: list[Change] = []
            for ticket in page["tickets"]:
                version = f"{ticket['id']}@{ticket['generated_timestamp']}"
                if version in done:
                    continue
                for number, change in enumerate(self._ticket_changes(ticket, names)):
                    if version == half and number < handed:
                        continue
                    if len(pending) == BATCH_SIZE:
                        yield Batch(tuple(pending), {**state, "done": list(done), "part": [version, number]})
                        pending = []
                    pending.append(change)
                done.append(version)
            moved = page["after_cursor"] or state.get("cursor")
            settled = {**{k: v for k, v in state.items() if k not in ("done", "part")}, "cursor": moved}
            if pending or settled != state:
                yield Batch(tuple(pending), dict(settled))
            state.clear()
            state.update(settled)
            if page["end_of_stream"]:
                return

    def _ticket_changes(self, ticket: Row, names: Names) -> list[Change]:
        name = f"ticket/{ticket['id']}"
        if not self._wanted(ticket):
            return [Delete(name)]
        try:
            with self._http.one_item(ME):
                talk = self._talk(ticket)
            document = ticket_document(ticket, talk, names)
            changes: list[Change] = [Upsert(document)]
            if self._settings.attachments:
                changes += [Delete(gone) for gone in redacted(talk)]
                files = attachment_documents(document, ticket, talk.comments, self._fetch)
                changes += [self._attachment(file) for file in files]
        except ItemError as error:
            return [Failed(name, str(error))]
        except (KeyError, TypeError, ValueError) as error:
            return [
                Failed(
                    name,
                    f"Zendesk describes it otherwise than documented ({type(error).__name__}). It was not read; "
                    "it is tried again by itself.",
                )
            ]
        return changes

    def _again(self, name: str) -> list[Change]:
        kind, _, number = name.partition("/")
        path = {
            "ticket": f"api/v2/tickets/{number}.json" if self._settings.tickets else "",
            "article": f"api/v2/help_center/articles/{number}.json" if self._settings.help_center else "",
        }.get(kind)
        if not path or not number.isdecimal():
            return [Delete(name)]
        params = {"include": SIDELOADS} if kind == "ticket" else {}
        with self._http.one_item(ME):
            found = self._http.json("GET", path, params=params, accept=(403, 404, 410))
        if found.get("error") == "RecordNotFound":
            return [Delete(name)]
        if kind not in found:
            raise ItemError(
                "Zendesk does not show it to the account. It was not read; it is tried again by itself."
            )
        if kind == "article":
            return [article_change(found["article"], public=self._settings.public_articles)]
        return self._ticket_changes(found["ticket"], self._names(found))

    def _wanted(self, ticket: Row) -> bool:
        brands = self._settings.brands
        return ticket["status"] != "deleted" and (not brands or ticket.get("brand_id") in brands)

    def _talk(self, ticket: Row) -> Talk:
        number = ticket["id"]
        comments: list[Row] = []
        authors: dict[int, Row] = {}
        for page in self._item_pages(f"api/v2/tickets/{number}/comments.json", include="users"):
            comments += page["comments"]
            authors |= _by_id(page["users"])
        audits: list[Row] = []
        if ticket["status"] != "new":  # which it never becomes again, so it had no other
            pages = self._item_pages(f"api/v2/tickets/{number}/audits.json")
            audits = [row for page in pages for row in page["audits"]]
        return Talk(comments, authors, audits)

    def _item_pages(self, path: str, **params: str) -> Iterator[Row]:
        """Pages of one ticket's list; `ItemError` where this ticket alone can't be read."""
        query = {"page[size]": "100", **params}
        while True:
            page = self._http.json("GET", path, params=query, accept=(403, 404, 410, 422))
            if "meta" not in page:
                raise ItemError(
                    "Zendesk does not show its comments. It was not read; see in Zendesk whether the account may "
                    "open it. It is tried again by itself."
                )
            yield page
            if not page["meta"]["has_more"]:
                return
            query["page[after]"] = page["meta"]["after_cursor"]

    def _attachment(self, file: SourceDocument) -> Change:
        size = int(file.metadata["bytes"])
        if size > self._settings.max_file_mb * 2**20:
            return Failed(
                file.external_id,
                f"It has {size / 2**20:,.0f} MB, more than max_file_mb allows ({self._settings.max_file_mb}). It "
                "was not read; raise the setting if it should be.",
                file.parent,
            )
        return Upsert(file)

    def _fetch(self, url: str) -> Callable[[], bytes]:
        limit = self._settings.max_file_mb * 2**20
        return lambda: self._http.download(url, hosts=self._settings.attachment_hosts, max_bytes=limit)

    def _export(self, cursor: str | None, **params: str) -> Row:
        """A page of the export, no sooner than its own limit of requests a minute allows."""
        self._exports = [at for at in self._exports if at > time.monotonic() - 60]
        if len(self._exports) >= self._settings.rate:
            time.sleep(max(self._exports[-self._settings.rate] + 60 - time.monotonic(), 0))
        self._exports.append(time.monotonic())
        start = {"cursor": cursor} if cursor else {"start_time": "0"}
        return self._http.json("GET", EXPORT, params={**start, **params})

    def _all_tickets(self) -> dict[int, int]:
        """Every ticket there is, archived ones too, with the time of its last change."""
        alive: dict[int, int] = {}
        cursor = None
        while True:
            page = self._export(cursor, per_page=str(LIST_PAGE))
            for ticket in page["tickets"]:
                alive.pop(ticket["id"], None)
                if self._wanted(ticket):
                    alive[ticket["id"]] = ticket["generated_timestamp"]
            cursor = page["after_cursor"] or cursor
            if page["end_of_stream"]:
                return alive

    def _attachments(self, tickets: Mapping[int, int]) -> Iterator[str]:
        """Attachments of the tickets that Zendesk's search says have some, and of those it may not know yet."""
        query = {"query": "has_attachment:true", "filter[type]": "ticket"}
        found = {
            row["id"]
            for row in listing(self._http, "api/v2/search/export.json", "results", size=1000, **query)
        }
        newest = max(tickets.values(), default=0)
        for number, changed in sorted(tickets.items()):
            if number not in found and changed < newest - SETTLING_SECONDS:
                continue
            path = f"api/v2/tickets/{number}/comments.json"
            try:
                comments = [row for page in self._item_pages(path) for row in page["comments"]]
            except ItemError as error:
                raise SourceBusy(
                    f"The comments of ticket {number} can't be read, so which attachments there are can't be told. "
                    "Nothing was deleted; it is tried again later."
                ) from error
            for comment in comments:
                yield from (f"attachment/{file['id']}" for file in files_of(comment))

    def _names(self, page: Row) -> Names:
        hidden: Row = {} if self._settings.internal_fields else {"organization_fields": {}}
        organizations: list[Row] = [{**row, **hidden} for row in page["organizations"]]
        return Names(_by_id(page["users"]), _by_id(organizations), self._field_names())

    def _field_names(self) -> dict[int, str]:
        if self._fields is None:
            rows = listing(self._http, "api/v2/ticket_fields.json", "ticket_fields")
            every = self._settings.internal_fields
            self._fields = {
                r["id"]: r["title"] for r in rows if r["active"] and (every or r["visible_in_portal"])
            }
        return self._fields


def _by_id(rows: list[Row]) -> dict[int, Row]:
    return {row["id"]: row for row in rows}
