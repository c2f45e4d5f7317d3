"""The calls of Request Tracker's REST 2 that its connector makes, and RT's own ways of paging.

RT takes rows an account may not see out of a page after the database made it: a page
can be empty though more follow, and only a superuser is told the total. `walk` knows
that. Every call costs RT a slow password hash for the token, so rows are read in bulk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from pydantic import SecretStr

from assistant.errors import ItemError, SourceBusy, SourceRefused
from connectors.http import Http
from connectors.network import Network

PAGE = 100
"""rows a request at most, by RT's own limit"""
LOOKAHEAD = 3
"""empty pages after which a list of unknown length is taken to be at its end"""
CHUNK = 400
"""ids named in one request"""
TEXT_BYTES = 8 * 2**20
"""of texts asked for in one request"""
MESSAGES = ("Create", "Correspond", "Comment")

Row = dict[str, Any]
_USER = "id,Name,RealName,EmailAddress,Organization"
_TICKET = {
    "fields": "Subject,Status,Created,LastUpdated,Resolved,Queue,Owner,Requestor,Cc,AdminCc,Priority,"
    "CustomFields",
    "fields[Queue]": "id,Name",
    **{f"fields[{role}]": _USER for role in ("Owner", "Requestor", "Cc", "AdminCc")},
}
_TRANSACTION = {"fields": "Type,OldValue,NewValue,Created,Creator,ObjectId", "fields[Creator]": _USER}
_FEED = "ObjectType = 'RT::Ticket'"


class Page(NamedTuple):
    rows: list[Row]
    total: int | None
    """rows in all; None: RT doesn't tell this account"""


class Transaction(NamedTuple):
    id: int
    ticket: int
    type: str


class RtApi:
    def __init__(self, url: str, token: SecretStr, network: Network) -> None:
        self.http = Http(
            url.rstrip("/") + "/REST/2.0",
            network,
            headers={"Authorization": f"token {token.get_secret_value()}", "Accept": "application/json"},
        )

    def close(self) -> None:
        self.http.close()

    def version(self) -> str:
        return str(self._object("GET", "rt").get("Version", ""))

    def queues(self) -> list[Row]:
        """Those the account may see, disabled ones too: their tickets are still there."""
        return list(
            self._pages("GET", "queues/all", {"fields": "id,Name,Disabled", "find_disabled_rows": "1"})
        )

    def queue(self, queue: int) -> Row:
        """With its `Cc` and `AdminCc`; empty where it may not be seen."""
        return self._object("GET", f"queue/{queue}", accept=(403, 404))

    def users(self) -> list[Row]:
        """Enabled ones. Raises `SourceBusy` when the list moved while it was read."""
        query = [{"field": "Name", "operator": "LIKE", "value": "%"}]
        params = {"fields": "id,Name,RealName,EmailAddress"}
        for _ in range(2):
            found: dict[int, Row] = {}
            total: int | None = None
            for number in range(1, 100_000):
                page = self._page("POST", "users", {**params, "page": str(number)}, query)
                found |= {int(row["id"]): row for row in page.rows}
                total = page.total
                if not page.rows or (total is not None and number * PAGE >= total):
                    break
            if not found:
                raise SourceRefused(
                    "RT lists no user, not even the account itself. Nothing was changed; give it AdminUsers."
                )
            if total is None or len(found) == total:
                return list(found.values())
        raise SourceBusy("RT's users changed while they were read. Nothing was changed; it is tried again.")

    def groups(self, domain: str) -> list[Row]:
        """Enabled groups the account may see (SeeGroup)."""
        query = [{"field": "Domain", "value": domain}]
        return list(self._pages("POST", "groups", {"fields": "id,Name"}, query))

    def members(self, group: int) -> list[Row]:
        """Users and groups that are in it directly; none where it may not be seen or is disabled."""
        row = self._object("GET", f"group/{group}", accept=(403, 404))
        return [] if str(row.get("Disabled", "0")) == "1" else list(row.get("Members") or [])

    def tickets(self, condition: str, *, per_page: int = PAGE) -> Page:
        """The first of the tickets, neither deleted nor merged, that `condition` in TicketSQL is true of."""
        return self._search({**_TICKET, "query": condition}, per_page=per_page)

    def ticket_ids(self, condition: str) -> Iterator[int]:
        yield from (int(row["id"]) for row in self._tickets(condition))

    def links(self, tickets: Sequence[int]) -> dict[int, list[Row]]:
        """What each of `tickets` is linked with; RT takes long to tell, so only those that have links are asked."""
        condition = f"({_any('id', tickets)}) AND Linked IS NOT NULL"
        rows = self._tickets(condition, {"fields": "_hyperlinks"})
        return {int(row["id"]): cast("list[Row]", row.get("_hyperlinks") or []) for row in rows}

    def merged_into(self, tickets: Sequence[int]) -> dict[int, int]:
        """Ids of tickets that were merged into `tickets` → the id they have now."""
        rows = self._tickets(_any("EffectiveId", tickets), {"fields": "EffectiveId"})
        now = {int(row["id"]): int(row["EffectiveId"]) for row in rows}
        return {old: new for old, new in now.items() if old != new}

    def _tickets(self, condition: str, params: dict[str, str] | None = None) -> Iterator[Row]:
        """All tickets that `condition` is true of, by what their id is larger than."""
        after = 0
        while True:
            page = self._search({**(params or {}), "query": f"id > {after} AND ({condition})"})
            yield from page.rows
            if not page.rows or page.total == len(page.rows):
                return
            after = int(page.rows[-1]["id"])

    def _search(self, params: dict[str, str], *, per_page: int = PAGE) -> Page:
        page = self._page("GET", "tickets", params, per_page=per_page)
        if page.total is None:
            raise SourceRefused(
                "RT is set to check rights after it made a page (UseSQLForACLChecks is off), so a list can't be "
                "told from a part of it. Nothing was changed; set it to 1, or grant the account ShowTicket "
                "globally."
            )
        return page

    def ticket(self, ticket: int) -> Row | None:
        """As RT resolves the id: perhaps another ticket's, or deleted. None: gone, or forbidden."""
        return self._object("GET", f"ticket/{ticket}", accept=(403, 404)) or None

    def comment(self, ticket: int, text: str) -> None:
        """Add an internal comment; sent once, since RT takes it each time. Raises `ItemError`."""
        answer = self.http.request(
            "POST",
            f"ticket/{ticket}/comment",
            json={"Content": text, "ContentType": "text/plain"},
            accept=(400, 403, 404),
            tries=1,
        )
        if not answer.is_success:
            raise ItemError(
                f"RT takes no comment on ticket {ticket} (HTTP {answer.status_code}). It was not written; give the "
                "account CommentOnTicket on its queue."
            )

    def transactions(self, tickets: Iterable[int]) -> Iterator[Row]:
        """Messages and changes of status, in their order."""
        for ids in _batched(tickets):
            yield from self.walk(
                "transactions",
                _TRANSACTION,
                [
                    {"field": "ObjectType", "value": "RT::Ticket"},
                    {"field": "ObjectId", "operator": "IN", "value": ids},
                    {"field": "Type", "operator": "IN", "value": [*MESSAGES, "Status"]},
                ],
            )

    def message_ids(self, tickets: Iterable[int]) -> Iterator[int]:
        for ids in _batched(tickets):
            query = [
                {"field": "ObjectType", "value": "RT::Ticket"},
                {"field": "ObjectId", "operator": "IN", "value": ids},
                {"field": "Type", "operator": "IN", "value": list(MESSAGES)},
            ]
            yield from (int(row["id"]) for row in self.walk("transactions", {}, query))

    def attachments(self, transactions: Iterable[int]) -> Iterator[Row]:
        """All parts of their messages without content, in the order RT stored them, depth first."""
        fields = {"fields": "TransactionId,Filename,ContentType,ContentLength,Headers"}
        for ids in _batched(transactions):
            query = [{"field": "TransactionId", "operator": "IN", "value": ids}]
            yield from self.walk("attachments", fields, query)

    def parents(self, transactions: Iterable[int]) -> dict[int, int]:
        """Part → the part it is in. RT 5.0 fails on `Parent` of a part that is in none: those are left out."""
        found: dict[int, int] = {}
        for ids in _batched(transactions):
            query = [
                {"field": "TransactionId", "operator": "IN", "value": ids},
                {"field": "Parent", "operator": ">", "value": 0},
            ]
            for row in self.walk("attachments", {"fields": "Parent"}, query):
                found[int(row["id"])] = int(cast(Row, row["Parent"])["id"])
        return found

    def texts(self, sizes: dict[int, int]) -> dict[int, str]:
        """Contents of parts that are text; `sizes`: their ids and bytes."""
        found: dict[int, str] = {}
        for ids in _by_size(sizes):
            query = [{"field": "id", "operator": "IN", "value": ids}]
            page = self._page("POST", "attachments", {"fields": "Content"}, query)
            found |= {int(row["id"]): str(row.get("Content") or "") for row in page.rows}
        return found

    def content(self, attachment: int, *, max_bytes: int) -> str:
        """Base64. Raises `ItemError`."""
        row = self._object("GET", f"attachment/{attachment}", accept=(403, 404), max_bytes=max_bytes)
        if not row.get("Content"):
            raise ItemError(
                "RT does not give out this attachment (any more). Give the account ShowTicket and "
                "ShowTicketComments on its queue, or remove it there."
            )
        return str(row["Content"])

    def files(self, transactions: Iterable[int] | None = None) -> Iterator[Row]:
        """Parts that may be files, of these messages or of all there are."""
        fields = {"fields": "Filename,ContentType,ContentLength,Headers"}
        kinds = (
            ({"field": "Filename", "operator": "!=", "value": ""},),
            ({"field": "ContentType", "operator": "LIKE", "value": "application/%"},),
        )
        chunks = [list[int]()] if transactions is None else _batched(transactions)
        for ids in chunks:
            of = [{"field": "TransactionId", "operator": "IN", "value": ids}] if ids else []
            for kind in kinds:
                yield from self.walk("attachments", fields, [*of, *kind])

    def sees_all(self) -> bool:
        """Whether RT tells this account totals: it is a superuser, from whom no rows are taken away."""
        query = [{"field": "id", "operator": ">", "value": 0}]
        return self._page("POST", "attachments", {}, query, per_page=1).total is not None

    def newest(self) -> list[Transaction]:
        """The last transactions of tickets, newest first."""
        params = {"query": _FEED, "fields": "Type,ObjectId", "orderby": "id", "order": "DESC"}
        return [_transaction(row) for row in self._page("GET", "transactions", params).rows]

    def since(self, after: int) -> list[Transaction]:
        """The next transactions of tickets; none: this is the end."""
        query = f"{_FEED} AND id > {after}"

        def more() -> bool:
            # Only these may be hidden one by one; of the others RT's database knows who sees them.
            rest = f"{query} AND Type != 'Comment' AND Type != 'CustomField' AND Type != 'EmailRecord'"
            return bool(
                self._page(
                    "GET", "transactions", {"query": f"{rest} AND Type != 'CommentEmailRecord'"}, per_page=1
                ).rows
            )

        params = {"query": query, "fields": "Type,ObjectId"}
        return [_transaction(row) for row in self._next("GET", "transactions", params, None, more).rows]

    def exactly(self, transactions: Sequence[int]) -> list[Transaction]:
        """Those of `transactions` that exist and belong to a ticket."""
        found: list[Transaction] = []
        for start in range(0, len(transactions), PAGE):
            query = [
                {"field": "ObjectType", "value": "RT::Ticket"},
                {"field": "id", "operator": "IN", "value": transactions[start : start + PAGE]},
            ]
            page = self._page("POST", "transactions", {"fields": "Type,ObjectId"}, query)
            found += [_transaction(row) for row in page.rows]
        return found

    def walk(self, path: str, params: dict[str, str], query: list[Row]) -> Iterator[Row]:
        """All rows in the order of their ids, by what their id is larger than.

        `query` is about other fields than the id: RT takes two conditions on one field as alternatives.
        """
        after = 0
        while True:
            page = self._next("POST", path, params, [*query, _above(after)])
            if not page.rows:
                return
            after = int(page.rows[-1]["id"])
            yield from page.rows
            if page.total is not None and page.total <= len(page.rows):
                return

    def _next(
        self,
        method: str,
        path: str,
        params: dict[str, str],
        query: list[Row] | None,
        more: Callable[[], bool] = lambda: False,
    ) -> Page:
        """The first page that has rows; an empty one only at the end."""
        number, known = 1, False
        while True:
            page = self._page(method, path, {**params, "page": str(number)}, query)
            if page.rows or (page.total is not None and number * PAGE >= page.total):
                return page if number == 1 else Page(page.rows, None)
            if page.total is None and number >= LOOKAHEAD and not known:
                known = more()
                if not known:
                    return page
            number += 1

    def _pages(
        self, method: str, path: str, params: dict[str, str], query: list[Row] | None = None
    ) -> Iterator[Row]:
        """Rows of a list that is short and hardly moves."""
        seen: set[int] = set()
        for number in range(1, 10_000):
            page = self._page(method, path, {**params, "page": str(number)}, query)
            yield from (row for row in page.rows if int(row["id"]) not in seen)
            seen |= {int(row["id"]) for row in page.rows}
            done = number * PAGE >= page.total if page.total is not None else number >= LOOKAHEAD
            if not page.rows and done:
                return
            if page.total is not None and done:
                return

    def _page(
        self,
        method: str,
        path: str,
        params: dict[str, str],
        query: list[Row] | None = None,
        *,
        per_page: int = PAGE,
    ) -> Page:
        ordered = {"orderby": "id", "order": "ASC", "per_page": str(per_page), **params}
        options: dict[str, Any] = {"params": ordered}
        if query is not None:
            options["json"] = query
        answer = self._object(method, path, **options)
        rows = answer.get("items")
        if not isinstance(rows, list):
            raise SourceBusy(
                f"RT answered {path} with something that is no list. Nothing was lost; it is tried again. "
                "Is the address that of RT 5's start page?"
            )
        total = answer.get("total")
        # Of a search RT can't do it says so in the place of rows, with 200 or 400.
        return Page(cast("list[Row]", rows), int(total) if total is not None else None)

    def _object(self, method: str, path: str, **options: Any) -> Row:
        response = self.http.request(method, quote(path, safe="/"), **options)
        if not response.is_success:
            return {}
        try:
            answer = response.json()
        except ValueError:
            answer = self.http.json(method, quote(path, safe="/"), **options)
        if not isinstance(answer, dict):
            raise SourceRefused(
                f"{self.http.base_url.host} answers, but not as RT's REST 2 does. Nothing was changed; check "
                "that the address is that of RT 5's start page."
            )
        return cast(Row, answer)


def _batched(ids: Iterable[int]) -> Iterator[list[int]]:
    every = list(ids)
    return (every[start : start + CHUNK] for start in range(0, len(every), CHUNK))


def _any(field: str, values: Iterable[int]) -> str:
    return " OR ".join(f"{field} = {value}" for value in values)


def _above(after: int) -> Row:
    return {"field": "id", "operator": ">", "value": after}


def _transaction(row: Row) -> Transaction:
    return Transaction(int(row["id"]), int(row["ObjectId"]), str(row["Type"]))


def _by_size(sizes: dict[int, int]) -> Iterator[list[int]]:
    """The ids in groups of at most `PAGE` and about `TEXT_BYTES`."""
    group: list[int] = []
    size = 0
    for part, length in sorted(sizes.items()):
        if group and (len(group) == PAGE or size + length > TEXT_BYTES):
            yield group
            group, size = [], 0
        group.append(part)
        size += length
    if group:
        yield group
