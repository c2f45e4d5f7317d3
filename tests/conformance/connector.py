"""What every connector has to do. A connector's test subclasses `ConnectorConformance`,
gives it a `source` fixture, a real one that can be written to, and has these tests.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import psutil
import pytest
from pydantic import ValidationError

from assistant.errors import SourceBusy, SourceError, SourceRefused
from assistant.model import (
    Access,
    AccessChanged,
    Batch,
    Delete,
    Failed,
    Kind,
    Member,
    Part,
    Renamed,
    SourceDocument,
    Upsert,
)
from connectors import http as connectors_http
from connectors.base import BATCH_SIZE, Connector
from tests.servers.faults import Fault, HttpFaults, TcpFaults, every

CONTENT_WORD = "quokka-7731"
"""stands in every text; a reason that repeats it repeats a document's content"""


class WritableSource(ABC):
    """A real source, empty at first, that a test can write to."""

    port: int | None = None
    """where its server listens on loopback; None: it is read without a network"""
    proxy: ClassVar[Callable[[int], HttpFaults | TcpFaults]] = HttpFaults
    """what to put before it: something that knows its protocol, or just bytes"""
    tells_deletions: ClassVar[bool] = False
    """its changes name what was deleted, so that nothing has to be inferred from its absence"""

    @abstractmethod
    def connector(self, port: int | None = None) -> Connector:
        """A new connector to it, as a new process would make one; through `port`, a proxy's, if given."""

    @abstractmethod
    def put(self, name: str, text: str) -> str:
        """Create or replace the item `name`; its external id."""

    @abstractmethod
    def remove(self, name: str) -> None: ...

    @abstractmethod
    def spoil(self) -> None:
        """Add an item that can't be read."""

    def mend(self) -> None:
        """Make that item readable, without a change to it that a sync could notice."""
        raise NotImplementedError("every sync of this source tries again what could not be read")

    @abstractmethod
    def withdraw(self, name: str) -> None:
        """Make it impossible to tell who may read `name`."""

    @abstractmethod
    def vanish(self) -> None:
        """Make the source unreachable as a whole."""

    def restrict(self, name: str) -> str:
        """Change who may read `name`, without touching its text; a token its access must have lost then.

        Where a right is a group, its member must have lost it instead: see `lost`.
        """
        pytest.skip("its readers are set by its settings alone")

    def lost(self, replica: Replica, document: str, token: str) -> bool:
        """Whether `token` no longer opens the document, by the replica and the memberships as they are."""
        return token not in replica.documents[document].access.tokens

    def rename(self, name: str, to: str) -> None:
        pytest.skip("this source has no renames")


class Replica:
    """What a store holds after the batches it was given."""

    def __init__(self) -> None:
        self.documents: dict[str, SourceDocument] = {}
        self.failures: dict[str, str] = {}
        self.checkpoint: dict[str, Any] | None = None
        self.embedded = 0
        """how often a document would have been embedded"""

    def apply(self, batch: Batch) -> None:
        for change in batch.changes:
            match change:
                case Upsert(document):
                    old = self.documents.get(document.external_id)
                    new = old is None or old.revision != document.revision
                    if document.fetch is not None:
                        body = document.fetch() if new or old is None else old.body
                        document = replace(document, body=body, fetch=None)
                    self.embedded += new
                    self.documents[document.external_id] = document
                    self.failures.pop(document.external_id, None)
                case Delete(name):
                    self.documents.pop(name, None)
                    for child in [d.external_id for d in self.documents.values() if d.parent == name]:
                        del self.documents[child]
                    self.failures.pop(name, None)
                case AccessChanged(name, access):
                    if name in self.documents:
                        self.documents[name] = replace(self.documents[name], access=access)
                case Renamed(old_id, new_id, title, url):
                    if old_id in self.documents:
                        moved = self.documents.pop(old_id)
                        self.documents[new_id] = replace(moved, external_id=new_id, title=title, url=url)
                case Failed(name, reason):
                    self.failures[name] = reason
        self.checkpoint = json.loads(json.dumps(batch.checkpoint))

    def sync(self, connector: Connector, *, batches: int | None = None) -> list[Batch]:
        """Take all or the first `batches`; then the connector is gone, as after a kill."""
        taken: list[Batch] = []
        run = connector.sync(self.checkpoint)
        for batch in run:
            self.apply(batch)
            taken.append(batch)
            if len(taken) == batches:
                break
        run.close()
        connector.close()
        return taken

    def sync_until_done(self, make: Callable[[], Connector], *, tries: int = 30) -> int:
        """Sync until it ends without an error, as the schedule does; how often it did not."""
        for failures in range(tries):
            try:
                self.sync(make())
            except SourceBusy:
                continue
            return failures
        raise AssertionError(f"the sync did not end within {tries} tries")

    def check_access(self, connector: Connector) -> None:
        """What the permission sync does; the checkpoint is none of its business."""
        checkpoint = self.checkpoint
        for change in connector.accesses():
            self.apply(Batch((change,), {}))
        self.checkpoint = checkpoint
        connector.close()

    def read_again(self, connector: Connector) -> None:
        """What a sync does first where reading failed; the checkpoint stays."""
        assert self.checkpoint is not None
        self.apply(Batch(tuple(connector.read(list(self.failures))), self.checkpoint))
        connector.close()

    def prune(self, connector: Connector) -> None:
        present = set(connector.inventory())
        self.documents = {name: doc for name, doc in self.documents.items() if name in present}
        connector.close()

    def summary(self) -> dict[str, tuple[object, ...]]:
        """What two replicas of one source have in common."""
        return {
            name: (doc.revision, doc.access, doc.title, doc.url, doc.body)
            for name, doc in sorted(self.documents.items())
        }


def changes(batches: list[Batch]) -> list[object]:
    return [change for batch in batches for change in batch.changes]


class ConnectorConformance:
    @pytest.fixture
    def source(self) -> WritableSource:
        raise NotImplementedError("the subclass gives it")

    @pytest.fixture
    def filled(self, source: WritableSource) -> WritableSource:
        """Three batches' worth."""
        for number in range(2 * BATCH_SIZE + 9):
            source.put(f"item-{number:03}", f"{CONTENT_WORD} number {number}")
        return source

    def fresh(self, source: WritableSource) -> Replica:
        replica = Replica()
        replica.sync(source.connector())
        return replica

    def same_as_fresh(self, replica: Replica, source: WritableSource) -> None:
        replica.prune(source.connector())
        assert replica.summary() == self.fresh(source).summary()

    def test_it_keeps_the_contract(self, source: WritableSource) -> None:
        assert isinstance(source.connector(), Connector)

    def test_settings_are_described_and_refuse_unknown_keys(self, source: WritableSource) -> None:
        settings = source.connector().Settings
        assert not [name for name, field in settings.model_fields.items() if not field.description]
        with pytest.raises(ValidationError, match="no_such_setting"):
            settings.model_validate({"no_such_setting": 1})

    def test_check_says_what_was_found(self, filled: WritableSource) -> None:
        assert "\n" not in filled.connector().check().strip()
        assert CONTENT_WORD not in filled.connector().check()

    def test_first_sync_yields_everything(self, filled: WritableSource) -> None:
        replica = Replica()
        batches = replica.sync(filled.connector())
        assert len(replica.documents) == 2 * BATCH_SIZE + 9
        assert not replica.failures
        assert len(batches) >= 3
        assert all(len(batch.changes) <= BATCH_SIZE for batch in batches)

    def test_documents_are_well_formed(self, filled: WritableSource) -> None:
        for document in self.fresh(filled).documents.values():
            assert document.external_id
            assert document.revision
            assert document.title
            assert document.kind is (Kind.TICKET if document.ticket else Kind.DOCUMENT)
            for moment in (document.created_at, document.updated_at):
                assert moment is None or moment.utcoffset() == dt.timedelta(0)
            assert document.body
            assert isinstance(document.body, bytes) or all(isinstance(p, Part) for p in document.body)
            text = document.body if isinstance(document.body, bytes) else document.body[0].text.encode()
            assert CONTENT_WORD.encode() in text
            document.external_id.encode()  # valid text, whatever the source calls it
            json.dumps(dict(document.metadata), default=str)

    def test_second_sync_yields_nothing(self, filled: WritableSource) -> None:
        replica = self.fresh(filled)
        assert changes(replica.sync(filled.connector())) == []

    def test_every_batch_can_be_gone_on_from(self, filled: WritableSource) -> None:
        replica = Replica()
        seen: list[object] = []
        while taken := replica.sync(filled.connector(), batches=1):
            seen += changes(taken)
        assert len(seen) == len(replica.documents) == 2 * BATCH_SIZE + 9, "nothing twice, nothing lost"
        self.same_as_fresh(replica, filled)

    def test_changes_during_an_interrupted_first_sync_are_not_lost(self, filled: WritableSource) -> None:
        replica = Replica()
        replica.sync(filled.connector(), batches=1)
        filled.put("item-000", f"{CONTENT_WORD} rewritten")
        filled.put("item-070", f"{CONTENT_WORD} rewritten too")
        filled.put("aaa-new", f"{CONTENT_WORD} sorts before all others")
        filled.remove("item-001")
        replica.sync(filled.connector())
        self.same_as_fresh(replica, filled)

    def test_changed_new_and_deleted_are_found(self, filled: WritableSource) -> None:
        replica = self.fresh(filled)
        before = replica.embedded
        changed = filled.put("item-004", f"{CONTENT_WORD} in other words")
        new = filled.put("item-new", f"{CONTENT_WORD} news")
        gone = filled.put("item-005", f"{CONTENT_WORD} soon gone")
        filled.remove("item-005")
        replica.sync(filled.connector())
        assert replica.embedded == before + 2
        replica.prune(filled.connector())
        assert gone not in replica.documents
        body = replica.documents[changed].body
        assert b"in other words" in (body if isinstance(body, bytes) else body[0].text.encode())
        assert new in replica.documents
        self.same_as_fresh(replica, filled)
        assert changes(replica.sync(filled.connector())) == []

    def test_a_renamed_item_is_not_embedded_again(self, filled: WritableSource) -> None:
        replica = self.fresh(filled)
        before = replica.embedded
        filled.rename("item-007", "renamed")
        assert [type(change) for change in changes(replica.sync(filled.connector()))] == [Renamed]
        assert replica.embedded == before
        self.same_as_fresh(replica, filled)

    def test_inventory_is_complete(self, filled: WritableSource) -> None:
        assert set(filled.connector().inventory()) == set(self.fresh(filled).documents)

    def test_a_failure_is_data_and_tells_no_content(self, filled: WritableSource) -> None:
        filled.spoil()
        replica = self.fresh(filled)
        assert len(replica.documents) == 2 * BATCH_SIZE + 9
        assert len(replica.failures) == 1
        (reason,) = replica.failures.values()
        assert len(reason) > 20
        assert CONTENT_WORD not in reason

    def test_undetermined_access_means_nobody(self, filled: WritableSource) -> None:
        name = filled.put("item-003", f"{CONTENT_WORD} whose?")
        filled.withdraw("item-003")
        assert self.fresh(filled).documents[name].access == Access.nobody()

    def test_an_emptied_source_deletes_nothing(self, filled: WritableSource) -> None:
        replica = self.fresh(filled)
        for number in range(2 * BATCH_SIZE + 9):
            filled.remove(f"item-{number:03}")
        with pytest.raises(SourceError, match="othing was"):
            list(filled.connector().inventory())
        taken: list[Batch] = []
        with contextlib.suppress(SourceError):  # either it refuses, or it has nothing to say
            taken = replica.sync(filled.connector())
        told = (
            {c.external_id for c in changes(taken) if isinstance(c, Delete)}
            if filled.tells_deletions
            else set()
        )
        assert len(replica.documents) == 2 * BATCH_SIZE + 9 - len(told)

    def test_an_unreachable_source_is_an_error_not_an_empty_one(self, filled: WritableSource) -> None:
        checkpoint: Mapping[str, Any] | None = self.fresh(filled).checkpoint
        filled.vanish()
        for attempt in (
            lambda: filled.connector().check(),
            lambda: list(filled.connector().sync(checkpoint)),
            lambda: list(filled.connector().sync(None)),
            lambda: list(filled.connector().inventory()),
        ):
            with pytest.raises(SourceError) as caught:
                attempt()
            assert "othing was" in str(caught.value), "says that nothing was lost"

    def test_a_batch_taken_twice_changes_nothing(self, filled: WritableSource) -> None:
        replica = Replica()
        for batch in filled.connector().sync(None):
            replica.apply(batch)
            before = replica.summary(), replica.embedded
            replica.apply(batch)
            assert (replica.summary(), replica.embedded) == before
        self.same_as_fresh(replica, filled)

    def test_whatever_batch_it_stops_after_the_end_is_the_same(self, filled: WritableSource) -> None:
        expected = self.fresh(filled).summary()
        for stop in (1, 2, 3):
            replica = Replica()
            replica.sync(filled.connector(), batches=stop)
            replica.sync(filled.connector())
            assert replica.summary() == expected, f"stopped after batch {stop}"

    def test_an_edit_while_pages_are_read_is_not_lost(self, filled: WritableSource) -> None:
        replica = Replica()
        connector = filled.connector()
        for number, batch in enumerate(connector.sync(None)):
            replica.apply(batch)
            filled.put(f"item-{number:03}", f"{CONTENT_WORD} edited while page {number} was read")
            filled.put(f"item-{70 - number:03}", f"{CONTENT_WORD} edited from behind {number}")
        connector.close()
        replica.sync(filled.connector())
        self.same_as_fresh(replica, filled)

    def test_a_withdrawn_right_is_noticed(self, filled: WritableSource) -> None:
        name = filled.put("item-010", f"{CONTENT_WORD} for now")
        replica = self.fresh(filled)
        token = filled.restrict("item-010")
        replica.sync(filled.connector())
        replica.check_access(filled.connector())
        assert filled.lost(replica, name, token)

    def test_any_text_comes_through_whole(self, source: WritableSource) -> None:
        texts = {
            "unicode": f"{CONTENT_WORD} Grüße 你好 🦘 \u202eright to left\u202c e\u0301",
            "markup": f"{CONTENT_WORD} <script>alert(1)</script> & [1] **bold**",
            "huge": f"{CONTENT_WORD} " + "long line " * 40_000,
        }
        ids = {source.put(f"item-{name}", text): text for name, text in texts.items()}
        documents = self.fresh(source).documents
        for name, text in ids.items():
            body = documents[name].body
            found = body.decode() if isinstance(body, bytes) else body[0].text
            assert len(found) >= 0.95 * len(text)
            assert found.count("🦘") == text.count("🦘")

    @pytest.mark.parametrize(
        "fault",
        [
            pytest.param(Fault("status", 429, {"Retry-After": "1"}), id="429"),
            pytest.param(Fault("status", 500), id="500"),
            pytest.param(Fault("status", 503), id="503"),
            pytest.param(Fault("drop"), id="dropped"),
            pytest.param(Fault("truncate"), id="truncated"),
            pytest.param(Fault("stall", seconds=1.5), id="timeout"),
        ],
    )
    def test_faults_of_the_network_lose_nothing(
        self, filled: WritableSource, fault: Fault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = self.fresh(filled).summary()
        with self.behind(filled, monkeypatch) as proxy:
            if isinstance(proxy, TcpFaults) and fault.kind == "status":
                pytest.skip("its protocol has no status codes")
            for nth in (2, 3, 7):
                proxy.plan = every(nth, fault)
                replica = Replica()
                replica.sync_until_done(lambda: filled.connector(proxy.port))
                assert replica.summary() == expected
                assert not replica.failures

    def test_an_interrupted_inventory_is_an_error(
        self, filled: WritableSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = set(filled.connector().inventory())
        with self.behind(filled, monkeypatch) as proxy:
            for number in range(1, 12):
                proxy.requests = 0
                proxy.plan = lambda n, first=number: Fault("drop") if n >= first else None
                with contextlib.suppress(SourceError):
                    assert set(filled.connector(proxy.port).inventory()) == expected

    def test_refused_credentials_stop_it(
        self, filled: WritableSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with self.behind(filled, monkeypatch) as proxy:
            if isinstance(proxy, TcpFaults):
                pytest.skip("its protocol has no status codes; see its own tests")
            proxy.plan = every(1, Fault("status", 401))
            with pytest.raises(SourceRefused):
                list(filled.connector(proxy.port).sync(None))

    def test_no_socket_stays_open(self, filled: WritableSource) -> None:
        if filled.port is None:
            pytest.skip("it is read without a network")
        process = psutil.Process()
        before = len(process.net_connections("tcp"))
        for _ in range(3):
            connector = filled.connector()
            next(iter(connector.sync(None)))
            connector.close()
        until = time.monotonic() + 2  # a server within this process notices a moment later
        while (now := len(process.net_connections("tcp"))) > before and time.monotonic() < until:
            time.sleep(0.01)
        assert now <= before

    @contextlib.contextmanager
    def behind(
        self, source: WritableSource, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[HttpFaults | TcpFaults]:
        """A proxy before the source's server, with a client that waits a hundredth as long."""
        if source.port is None:
            pytest.skip("it is read without a network")
        real = time.sleep
        monkeypatch.setattr(connectors_http.time, "sleep", lambda seconds: real(seconds / 100))
        monkeypatch.setattr(connectors_http, "TIMEOUT", 1.0)
        proxy = type(source).proxy(source.port)
        try:
            yield proxy
        finally:
            proxy.close()

    def test_memberships_are_members(self, source: WritableSource) -> None:
        assert all(isinstance(member, Member) and member.user for member in source.connector().memberships())

    def test_close_twice(self, source: WritableSource) -> None:
        connector = source.connector()
        connector.close()
        connector.close()


class ReadsAgain(ConnectorConformance):
    """What those have to do besides whose sync tells of changes only."""

    def test_what_could_not_be_read_is_read_again_without_a_change(self, filled: WritableSource) -> None:
        filled.spoil()
        replica = self.fresh(filled)
        (name,) = replica.failures
        replica.read_again(filled.connector())
        assert list(replica.failures) == [name], "it is no better yet"
        filled.mend()
        assert changes(replica.sync(filled.connector())) == [], "nothing of it changed"
        replica.read_again(filled.connector())
        assert name in replica.documents
        assert not replica.failures
        self.same_as_fresh(replica, filled)

    def test_what_is_read_again_is_as_a_sync_reads_it(self, filled: WritableSource) -> None:
        replica = self.fresh(filled)
        before = replica.summary(), replica.embedded
        replica.failures = dict.fromkeys(replica.documents, "for the test")
        replica.read_again(filled.connector())
        assert not replica.failures
        assert (replica.summary(), replica.embedded) == before

    def test_what_is_gone_when_it_is_read_again_is_deleted(self, filled: WritableSource) -> None:
        gone = filled.put("item-gone", f"{CONTENT_WORD} soon gone")
        stays = filled.put("item-stays", f"{CONTENT_WORD} stays")
        filled.remove("item-gone")
        found = list(filled.connector().read([gone, stays, "no such id"]))
        assert {c.external_id for c in found if isinstance(c, Delete)} == {gone, "no such id"}
        assert [c.document.external_id for c in found if isinstance(c, Upsert)] == [stays]

    def test_a_source_that_is_away_deletes_nothing_when_items_are_read_again(
        self, filled: WritableSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = [filled.put(f"item-{number:03}", f"{CONTENT_WORD} again") for number in range(3)]
        filled.vanish()
        monkeypatch.setattr(connectors_http.time, "sleep", lambda _seconds: None)
        with pytest.raises(SourceError, match="othing was"):
            list(filled.connector().read(names))
