"""Request Tracker 5, over its REST 2 interface.

**Account.** A user of its own in RT, «Let this user be granted rights», with an
authentication token (Settings → Auth tokens; the right ManageAuthTokens). It reads what
it may see, so grant it, globally or on the queues wanted: SeeQueue, ShowTicket,
ShowTicketComments, SeeCustomField; and globally AdminUsers (to list users) and SeeGroup
(to read groups). It changes nothing in RT, except where `notes` is on: then it also needs
CommentOnTicket, and adds comments, which requestors never see. An account with SuperUser works too and lets RT
answer some lists faster. Without ShowTicketComments internal notes are simply not there.

**What is read.** Tickets with every message (public replies, and comments as internal
notes), requestors, owner, status and its changes, priority, links, the custom fields
named in `custom_fields`, and attachments as documents of their own. Reminders and
approvals are left out. A ticket's customer is its first requestor's organisation, or
e-mail domain; persons with a mailbox at Gmail and the like are their own customer.

**Changes** are found in RT's transactions, not by dates, so that nothing is missed while
tickets move: new ones since the last sync, and for half an hour those whose number was
passed over, because a transaction may be committed after one with a higher number. A
deleted ticket is deleted; of merged ones the id that is left has all messages and a link
`merged_into` for each id that went into it. A queue that becomes visible, or whose
readers in `rights` change, is read anew. Every sync ends with a list of what exists; what
the account no longer sees (a ticket moved to a queue it may not see) goes then.

**Who may read what.** RT doesn't tell over REST who holds which right, so `rights` repeats
it for each queue: `{"Support": {"tickets": ["group:Agents", "role:requestor"], "comments":
["group:Agents"]}}` where Agents have ShowTicket and ShowTicketComments, requestors
ShowTicket. Write down what RT's «Group Rights» and «User Rights» pages say, of the queue
and global ones together. `*` stands for each queue that isn't named, those created later
too. A queue without readers is read by nobody; so is anything while a group's members
can't be seen. While a queue named in `rights` isn't there (it was renamed), `*` gives
nothing. Custom roles, and superusers who are in no group named, get nothing. Members of
groups, of nested groups, and the watchers of queues are read from RT at each sync, and a
disabled user or group loses access. Persons are known by the e-mail address RT has for
them: whoever may change that (AdminUsers; ModifySelf for one's own) says who gets in.

**Webhook.** A scrip on any transaction can call for a sync at once: POST anything to this
source's webhook with a header `X-Deskhand-Signature: sha256=<hex>`, the HMAC-SHA256 of the
body with `webhook_secret`. As a user-defined action (custom action commit code):

    use LWP::UserAgent; use Digest::SHA 'hmac_sha256_hex';
    my $body = $self->TicketObj->id;
    LWP::UserAgent->new(timeout => 5)->post('https://deskhand.example/…', Content => $body,
        'X-Deskhand-Signature' => 'sha256=' . hmac_sha256_hex($body, 'the secret'));

**Known limits.** Needs RT 5.0.3 or newer. A ticket whose ShowTicket the account is given
later, in a queue it saw before, is read when it next changes. A transaction committed
more than half an hour after its number was drawn is noticed when its ticket next changes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr

from assistant.errors import ItemError, SourceBusy, SourceRefused
from assistant.model import Batch, Change, Delete, Failed, Member
from connectors.base import BATCH_SIZE, Connector, ConnectorSettings, NotesSettings
from connectors.http import signed
from connectors.network import PUBLIC, Network
from connectors.request_tracker import rights as rt_rights
from connectors.request_tracker.api import Row, RtApi
from connectors.request_tracker.rights import People, Readers, Rights
from connectors.request_tracker.state import VERSION, State
from connectors.request_tracker.ticket import Shape, TicketReader, attachment_id, histories, is_file

INVENTORY_PAGE = 400


class RequestTrackerSettings(NotesSettings):
    url: str = Field(description="Address of RT's start page, such as https://rt.example.com")
    link_url: str = Field(
        default="", description="Start page as people reach it, for links to tickets; empty: the same."
    )
    token: SecretStr = Field(description="Authentication token of the account that reads.")
    queues: tuple[str, ...] = Field(
        default=(), description="Names of the queues to read; empty: all visible."
    )
    rights: dict[str, Readers] = Field(
        default_factory=dict[str, Readers],
        description="Who may read, by the name of the queue, * for all others: "
        '{"tickets": [...], "comments": [...]} as granted in RT. Queues without are read by nobody.',
    )
    customer_from: Literal["organisation", "domain"] = Field(
        default="organisation",
        description="A ticket's customer: its requestor's organisation, or e-mail domain.",
    )
    custom_fields: tuple[str, ...] = Field(
        default=(),
        description="Custom fields to keep, * for all: those every reader of the ticket may see (SeeCustomField).",
    )
    max_attachment_mb: int = Field(
        default=50, ge=1, description="Attachments above this many MB are recorded as failures, unread."
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Secret that RT's scrip signs its calls with; empty: none are taken.",
    )


class RequestTrackerConnector(Connector):
    Settings: ClassVar[type[ConnectorSettings]] = RequestTrackerSettings

    def __init__(self, settings: RequestTrackerSettings, network: Network = PUBLIC) -> None:
        self._settings = settings
        self.notes = settings.notes
        self._api = RtApi(settings.url, settings.token, network)
        self._shape = Shape(
            url=(settings.link_url or settings.url).rstrip("/"),
            customer_from=settings.customer_from,
            custom_fields=frozenset(name.casefold() for name in settings.custom_fields),
            max_bytes=settings.max_attachment_mb * 2**20,
        )

    def check(self) -> str:
        version = self._api.version()
        queues = self._queues()
        rights = self._rights(queues)
        total = self._api.tickets(_within(queues), per_page=1).total
        people = People(self._api)
        notes = [f"RT {version} shows {len(queues):,} queues with {total:,} tickets"]
        if closed := sorted(queues[queue] for queue, readers in rights.of.items() if not readers.tickets):
            notes.append(f"nobody may read {_some(closed)}, having no readers in `rights`")
        if rights.unknown:
            notes.append(f"`rights` names queues that are not there: {_some(rights.unknown)}")
        users = {name.casefold() for name in people.users}
        missing = [f"group {name}" for name in rights.named("group") if name.casefold() not in people.groups]
        missing += [f"user {name}" for name in rights.named("user") if name.casefold() not in users]
        if missing:
            notes.append(f"not found, so given nothing: {_some(sorted(missing))}")
        return "; ".join(notes) + "."

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        state = State(checkpoint)
        stored = dict(checkpoint or {})
        queues = self._queues()
        rights = self._rights(queues)
        self._begin(state, queues, rights)
        reader = self._reader(rights)
        pending: list[Change] = []
        for change in self._changes(state, queues, reader):
            pending.append(change)
            if len(pending) == BATCH_SIZE:
                stored = state.dump()
                yield Batch(tuple(pending), stored)
                pending = []
        if pending or state.dump() != stored:
            yield Batch(tuple(pending), state.dump())

    def inventory(self) -> Iterator[str]:
        queues = self._queues()
        found = list(self._api.ticket_ids(_within(queues)))
        if not found:
            raise SourceBusy(
                "RT lists no ticket at all, which looks like a right that was taken from the account. Nothing "
                "was deleted. If there really are none, remove this source."
            )
        yield from map(str, found)
        files = self._api.files() if self._api.sees_all() else self._files_of(_within(queues))
        yield from (attachment_id(int(row["id"])) for row in files if is_file(row))

    def read(self, ids: Collection[str]) -> Iterator[Change]:
        queues = self._queues()
        reader = self._reader(self._rights(queues))
        state = State(None)
        state.queue_up(int(name) for name in ids if name.isdecimal())
        while state.todo:
            yield from self._changed(state, queues, reader)
        yield from (Delete(name) for name in ids if not name.isdecimal())

    def memberships(self) -> Iterator[Member]:
        yield from rt_rights.members(self._api, self._rights(self._chosen()))

    def note(self, external_id: str, text: str, marker: str) -> None:
        row = self._api.ticket(int(external_id))
        if row is None or str(row.get("Status")) == "deleted":
            raise ItemError(
                f"RT has no ticket {external_id} any more, or hides it. Nothing was written there."
            )
        ticket = int(row["id"])  # another one, where it was merged
        said = histories(self._api, [ticket])[ticket].texts.values()
        if not any(marker in text for text in said):
            self._api.comment(ticket, text)

    def hint(self, headers: Mapping[str, str], body: bytes) -> bool:
        secret = self._settings.webhook_secret.get_secret_value()
        return signed(secret, body, headers.get("x-deskhand-signature", ""))

    def close(self) -> None:
        self._api.close()

    @cached_property
    def _visible(self) -> dict[int, str]:
        return {int(row["id"]): str(row["Name"]) for row in self._api.queues()}

    def _chosen(self) -> dict[int, str]:
        wanted = {name.casefold() for name in self._settings.queues}
        return {q: name for q, name in self._visible.items() if not wanted or name.casefold() in wanted}

    def _queues(self) -> dict[int, str]:
        """Ids and names of those to be read; raises `SourceRefused` where one of them can't be seen."""
        chosen = self._chosen()
        names = {name.casefold() for name in chosen.values()}
        if lost := [name for name in self._settings.queues if name.casefold() not in names]:
            raise SourceRefused(
                f"RT shows the account no queue {_some(lost)}. Nothing was changed; give it SeeQueue there, or "
                "correct `queues`."
            )
        if not chosen:
            raise SourceRefused(
                "RT shows the account no queue. Nothing was changed; give it SeeQueue and ShowTicket, then sync "
                "again."
            )
        return chosen

    def _rights(self, queues: Mapping[int, str]) -> Rights:
        return Rights(self._settings.rights, queues, self._visible.values())

    def _reader(self, rights: Rights) -> TicketReader:
        return TicketReader(self._shape, rights, People(self._api).privileged(), self._api)

    def _begin(self, state: State, queues: Mapping[int, str], rights: Rights) -> None:
        """Take up late transactions, and the import of queues that are new or whose readers are others."""
        now = int(time.time())
        if state.feed < 0:
            # Before the import: what changes while it runs is in the feed.
            newest = self._api.newest()
            state.feed = min((t.id for t in newest), default=1) - 1
            state.advance([t.id for t in newest], now)
        elif late := self._api.exactly(state.passed_over()):
            state.close_gaps({t.id for t in late})
            state.queue_up(t.ticket for t in late)
        state.trim(now)
        digests = {str(queue): self._digest(rights.of[queue]) for queue in queues}
        fresh = {int(queue) for queue, digest in digests.items() if state.queues.get(queue) != digest}
        state.importing = [queue for queue in state.importing if queue in queues]
        if fresh:
            state.importing = sorted(fresh.union(state.importing))
            state.after = 0
            if not state.todo:
                state.skip = 0
        state.queues = digests

    def _digest(self, readers: Readers) -> str:
        shape = self._settings.model_dump(
            include={"url", "link_url", "customer_from", "custom_fields", "max_attachment_mb"}
        )
        content = json.dumps([VERSION, readers.model_dump(), shape], sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=6).hexdigest()

    def _changes(self, state: State, queues: Mapping[int, str], reader: TicketReader) -> Iterator[Change]:
        """All there is to hand over; when one is yielded, `state` says what stands after it."""
        while True:
            while state.todo:
                yield from self._changed(state, queues, reader)
            if state.importing:
                yield from self._import(state, reader)
                continue
            seen = self._api.since(state.feed)
            if not seen:
                return
            state.advance([t.id for t in seen], int(time.time()))
            state.queue_up(t.ticket for t in seen)

    def _import(self, state: State, reader: TicketReader) -> Iterator[Change]:
        """The next tickets that were never read."""
        condition = f"id > {state.after} AND ({_within(state.importing)})"
        rows = self._api.tickets(condition, per_page=BATCH_SIZE).rows
        if not rows:
            state.importing, state.after, state.skip = [], 0, 0
            return
        found = histories(self._api, [int(row["id"]) for row in rows])
        for row in rows:
            ticket = int(row["id"])
            changes = reader.changes(row, found[ticket])
            for number, change in enumerate(changes[state.skip :], state.skip + 1):
                state.skip = number
                if number == len(changes):
                    state.after, state.skip = ticket, 0
                yield change
            state.after, state.skip = ticket, 0

    def _changed(self, state: State, queues: Mapping[int, str], reader: TicketReader) -> Iterator[Change]:
        """The first of the tickets in `todo`, as they are now."""
        ids = state.todo[:BATCH_SIZE]
        rows = {int(r["id"]): r for r in self._api.tickets(" OR ".join(f"id = {i}" for i in ids)).rows}
        rows = {ticket: row for ticket, row in rows.items() if _queue(row) in queues}
        found = histories(self._api, rows)
        for ticket in ids:
            changes: list[Change] = []
            if ticket in rows:
                changes += reader.changes(rows[ticket], found[ticket])
            else:
                changes += self._gone(ticket, state, queues)
            for number, change in enumerate(changes[state.skip :], state.skip + 1):
                state.skip = number
                if number == len(changes):
                    state.todo, state.skip = state.todo[1:], 0
                yield change
            if state.todo[:1] == [ticket]:
                state.todo, state.skip = state.todo[1:], 0

    def _gone(self, ticket: int, state: State, queues: Mapping[int, str]) -> list[Change]:
        """What became of a ticket that RT's search no longer has."""
        row = self._api.ticket(ticket)
        if row is not None and int(row["id"]) != ticket:
            if int(row["id"]) not in state.todo:
                state.todo.append(int(row["id"]))
        elif row is not None and row.get("Type", "ticket") != "ticket":
            return []
        elif row is not None and str(row.get("Status")) != "deleted" and _queue(row) in queues:
            return [
                Failed(
                    str(ticket),
                    "RT shows this ticket but its search doesn't find it. It is kept as it was, and tried again "
                    "by itself.",
                )
            ]
        return [Delete(str(ticket))]

    def _files_of(self, condition: str) -> Iterator[Row]:
        """Attachments of tickets, for an account from whom RT may take rows out of a page."""
        holding = f"({condition}) AND (Filename LIKE '%' OR ContentType LIKE 'application/%')"
        tickets = list(self._api.ticket_ids(holding))
        for start in range(0, len(tickets), INVENTORY_PAGE):
            some = tickets[start : start + INVENTORY_PAGE]
            messages = self._api.message_ids([*some, *self._api.merged_into(some)])
            yield from self._api.files(messages)


def _within(queues: Iterable[int]) -> str:
    return " OR ".join(f"Queue = {queue}" for queue in queues)


def _queue(row: Row) -> int:
    return int(row["Queue"]["id"])


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(f"«{name}»" for name in names[:5])
    return listed if len(names) <= 5 else f"{listed} and {len(names) - 5} more"
