"""The comparison that all remote trees share, over a tree in memory that can fail in any place."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.errors import ItemError, SourceBusy, SourceError, SourceRefused
from assistant.model import AccessChanged, Batch, Delete, Failed, Renamed, Upsert
from connectors.base import BATCH_SIZE
from connectors.network import PUBLIC, Network
from connectors.shares.snapshot import Seen
from connectors.shares.tree import TreeConnector, TreeSettings
from connectors.shares.treesnapshot import TreeSnapshot
from connectors.shares.walk import MAX_DEPTH, Entry, Folder, Found, Known, Listed, Unseen, walk
from tests.conformance.connector import Replica, changes


class Store:
    """Files by path → (number, text); with `propagates`, folders have stamps as Nextcloud's do."""

    def __init__(self, *, propagates: bool = False) -> None:
        self.files: dict[str, tuple[int, str]] = {}
        self.propagates = propagates
        self.broken: set[str] = set()
        """files and folders that can't be read"""
        self.unsettled: set[str] = set()
        self.away = False
        self.listed: list[str] = []
        self.fetched: list[str] = []
        self._numbers = itertools.count(1)
        self.settings: dict[str, Any] = {"access_rules": {"**": "everyone"}}

    def write(self, path: str, text: str) -> None:
        parts = path.split("/")
        above = {"/".join(parts[:n]) for n in range(1, len(parts))}
        if above & set(self.files) or any(file.startswith(f"{path}/") for file in self.files):
            return
        self.files[path] = (next(self._numbers), text)

    def move(self, old: str, new: str) -> None:
        if old in self.files and new not in self.files and not new.startswith(f"{old}/"):
            number, text = self.files.pop(old)
            self.write(new, text)
            if new in self.files:
                self.files[new] = (number, text)

    def stamp(self, folder: str) -> str:
        inside = sorted(
            (p, n) for p, (n, _) in self.files.items() if p.startswith(f"{folder}/") or not folder
        )
        return str(inside) if self.propagates else ""

    def list(self, folder: Folder) -> list[Listed] | None:
        self.listed.append(folder.id)
        if self.away:
            raise SourceBusy("It is away. Nothing was changed.")
        if folder.id in self.broken:
            raise ItemError("This folder can't be listed.")
        start = f"{folder.id}/" if folder.id else ""
        inside = {p[len(start) :].split("/")[0] for p in self.files if p.startswith(start)}
        if not inside and folder.id:
            return None
        found: list[Listed] = []
        for name in sorted(inside, reverse=True):
            path = start + name
            if path in self.files:
                number, text = self.files[path]
                found.append(
                    Entry(
                        path, path, len(text), str(number), settled=path not in self.unsettled, lasting=True
                    )
                )
            else:
                found.append(Folder(path, path, stamp=self.stamp(path)))
        return found

    def connector(self) -> MemoryConnector:
        return MemoryConnector(TreeSettings.model_validate(self.settings), store=self)


class MemoryConnector(TreeConnector):
    def __init__(self, settings: TreeSettings, network: Network = PUBLIC, *, store: Store) -> None:
        super().__init__(settings, access=None, place="the tree", link="mem://tree")
        self.store = store

    def _walk(self, *, after: str = "", known: Known | None = None) -> Iterator[Found]:
        top = Folder("", "", stamp=self.store.stamp(""))
        yield from walk(top, self.store.list, self._selection, after=after, known=known)

    def _fetch(self, entry: Entry, limit: int) -> tuple[bytes, dict[str, Any]] | None:
        self.store.fetched.append(entry.id)
        if entry.id in self.store.broken:
            raise ItemError("This file can't be read.")
        return (self.store.files[entry.id][1].encode(), {}) if entry.id in self.store.files else None

    def _gone(self, file: str) -> bool:
        return file not in self.store.files


def synced(store: Store) -> Replica:
    replica = Replica()
    replica.sync(store.connector())
    return replica


def same_as_fresh(replica: Replica, store: Store) -> None:
    """As the store would have it; who listed a file under which name does not count, what it holds does."""
    assert replica.summary() == synced(store).summary()


NAMES = st.sampled_from(["a", "b.md", "c.txt", "d", "e f.md", "a.md"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PATHS, st.text("xy", max_size=2)),
        st.tuples(st.just("remove"), PATHS),
        st.tuples(st.just("move"), PATHS, PATHS),
        st.tuples(st.just("break"), PATHS),
        st.tuples(st.just("mend")),
        st.tuples(st.just("rule"), PATHS, st.sampled_from(["nobody", "group:a"])),
        st.tuples(st.just("sync"), st.integers(0, 3)),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS, st.booleans())
def test_replayed_changes_equal_a_fresh_sync(
    monkeypatch: pytest.MonkeyPatch, operations: list[tuple[Any, ...]], propagates: bool
) -> None:
    """Whatever happens between syncs, and wherever they are broken off."""
    monkeypatch.setattr("connectors.shares.files.BATCH_SIZE", 2)
    store = Store(propagates=propagates)
    store.write("anchor", "so that the tree is never empty")
    replica = Replica()
    for what, *values in operations:
        if what == "sync":
            replica.sync(store.connector(), batches=values[0] or None)
        elif what == "write":
            store.write(*values)
        elif what == "remove":
            store.files.pop(values[0], None)
        elif what == "move":
            store.move(*values)
        elif what == "break":
            store.broken.add(values[0])
        elif what == "mend":
            store.broken.clear()
        elif what == "rule":
            store.settings = {"access_rules": {"**": "everyone", values[0]: values[1]}}
    store.broken.clear()
    replica.sync(store.connector())
    same_as_fresh(replica, store)
    assert set(replica.documents) == set(store.connector().inventory()) == set(store.files)
    assert changes(replica.sync(store.connector())) == []


def test_many_slices_list_little_and_fetch_nothing_twice() -> None:
    store = Store()
    for number in range(40 * BATCH_SIZE):
        store.write(f"d{number % 40:02}/{number:04}.md", str(number))
    replica = Replica()
    while replica.sync(store.connector(), batches=1):
        pass
    assert len(replica.documents) == len(store.fetched) == 40 * BATCH_SIZE
    assert len(store.listed) < 6 * 40, "a walk is taken up where it stopped, not begun anew"


def test_what_changes_behind_a_walk_that_was_broken_off_is_found_in_the_same_sync() -> None:
    store = Store()
    for number in range(3 * BATCH_SIZE):
        store.write(f"{number:03}.md", str(number))
    replica = Replica()
    replica.sync(store.connector(), batches=2)
    store.write("000.md", "rewritten")
    del store.files["001.md"]
    store.write("!first.md", "sorts before all")
    replica.sync(store.connector())
    same_as_fresh(replica, store)


def test_a_place_that_can_not_be_looked_at_deletes_nothing() -> None:
    store = Store()
    for path in ("a/1.md", "a/b/2.md", "c/3.md", "4.md"):
        store.write(path, path)
    replica = synced(store)
    store.broken = {"a"}
    del store.files["4.md"]
    connector = store.connector()
    taken = [change for batch in connector.sync(replica.checkpoint) for change in batch.changes]
    assert taken == [Delete("4.md"), Failed("a", "This folder can't be listed.")]
    with pytest.raises(SourceBusy, match="Nothing was deleted"):
        list(connector.inventory())


def test_the_top_that_can_not_be_listed_is_the_sources_trouble() -> None:
    store = Store()
    store.write("a.md", "x")
    checkpoint = synced(store).checkpoint
    store.broken = {""}
    with pytest.raises(SourceRefused, match="Nothing was"):
        list(store.connector().sync(checkpoint))
    store.broken, store.away = set(), True
    with pytest.raises(SourceBusy):
        list(store.connector().sync(checkpoint))


def test_a_file_that_fails_stays_due_and_loses_its_readers_all_the_same() -> None:
    store = Store()
    store.write("a.md", "x")
    replica = synced(store)
    store.write("a.md", "y")
    store.broken = {"a.md"}
    store.settings = {"access_rules": {"a.md": "group:few"}}
    assert [type(c) for c in changes(replica.sync(store.connector()))] == [Failed, AccessChanged]
    assert replica.documents["a.md"].access.tokens == {"group:few"}
    assert [type(c) for c in changes(replica.sync(store.connector()))] == [Failed]
    store.broken.clear()
    assert [type(c) for c in changes(replica.sync(store.connector()))] == [Upsert]
    assert replica.documents["a.md"].body == b"y"


def test_an_unsettled_file_is_fetched_again_and_says_nothing_new() -> None:
    store = Store()
    store.write("a.md", "x")
    store.unsettled = {"a.md"}
    replica = synced(store)
    number, _ = store.files["a.md"]
    assert replica.sync(store.connector()) == []
    store.files["a.md"] = (number, "y")  # within the same tick: its stamp is the same
    assert [type(c) for c in changes(replica.sync(store.connector()))] == [Upsert]
    store.unsettled.clear()
    assert changes(replica.sync(store.connector())) == []
    store.fetched.clear()
    assert replica.sync(store.connector()) == []
    assert store.fetched == []


def test_a_copy_is_no_rename() -> None:
    store = Store()
    store.write("a.md", "same")
    replica = synced(store)
    store.write("b.md", "same")
    assert [type(c) for c in changes(replica.sync(store.connector()))] == [Upsert]
    store.write("c.txt", "same")
    del store.files["a.md"]
    assert [type(c) for c in changes(replica.sync(store.connector()))] == [Upsert, Delete], (
        "another kind of file"
    )


def test_a_rename_into_another_rule_changes_its_readers_in_the_same_batch() -> None:
    store = Store()
    store.settings = {"access_rules": {"**": "everyone", "secret/**": "group:few"}}
    store.write("a.md", "x")
    store.write("z.md", "x2")
    replica = synced(store)
    store.move("a.md", "secret/a.md")
    (batch,) = replica.sync(store.connector())
    assert [type(c) for c in batch.changes] == [Renamed, AccessChanged]
    assert replica.documents["secret/a.md"].access.tokens == {"group:few"}


def test_a_folder_whose_stamp_stands_is_not_listed() -> None:
    store = Store(propagates=True)
    for path in ("a/b/1.md", "a/2.md", "c/d/3.md"):
        store.write(path, path)
    replica = synced(store)
    store.listed.clear()
    connector = store.connector()
    assert list(connector.sync(replica.checkpoint)) == []
    assert store.listed == []
    assert set(connector.inventory()) == set(store.files), "the sync's own listing, no second walk"
    assert set(store.connector().inventory()) == set(store.files)
    store.listed.clear()
    store.write("c/d/4.md", "new")
    replica.sync(store.connector())
    assert store.listed == ["", "c", "c/d"]
    store.settings = {"access_rules": {"**": "group:few"}}
    replica.sync(store.connector())
    assert {tuple(d.access.tokens) for d in replica.documents.values()} == {("group:few",)}


def test_a_folder_with_a_failure_is_listed_again() -> None:
    store = Store(propagates=True)
    store.write("a/1.md", "x")
    store.write("b/2.md", "y")
    store.broken = {"a/1.md"}
    replica = synced(store)
    store.broken.clear()
    store.listed.clear()
    replica.sync(store.connector())
    assert set(replica.documents) == {"a/1.md", "b/2.md"}
    assert store.listed == ["", "a"]


def test_folders_within_folders_without_end() -> None:
    def loop(folder: Folder) -> list[Listed]:
        name = f"{folder.id}/loop" if folder.id else "loop"
        return [Folder(name, name), Entry(f"{name}.md", name, 1, "1")]

    found = list(walk(Folder("", ""), loop, MemoryConnector(TreeSettings(), store=Store())._selection))
    assert len([item for item in found if isinstance(item, Entry)]) == MAX_DEPTH + 1
    assert len([item for item in found if isinstance(item, Unseen)]) == 1


def test_a_name_listed_twice_is_neither() -> None:
    twice: list[Listed] = [Entry("a.md", "1", 1, "1"), Entry("a.md", "2", 1, "2"), Entry("b.md", "3", 1, "3")]
    selection = MemoryConnector(TreeSettings(), store=Store())._selection
    found = list(walk(Folder("", ""), lambda _: twice, selection))
    assert [type(item) for item in found] == [Unseen, Entry]


def test_an_emptied_tree_is_an_error() -> None:
    store = Store()
    store.write("a.md", "x")
    replica = synced(store)
    store.files.clear()
    for attempt in (
        lambda: list(store.connector().sync(replica.checkpoint)),
        lambda: list(store.connector().inventory()),
    ):
        with pytest.raises(SourceError, match="Nothing was"):
            attempt()


def test_batches_close_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.shares.files.BATCH_BYTES", 10)
    store = Store()
    for number in range(6):
        store.write(f"{number}.md", "12345")
    batches: list[Batch] = list(store.connector().sync(None))
    assert [len(batch.changes) for batch in batches] == [2, 2, 2, 0], (
        "the last one says that the walk is over"
    )


def test_excluded_folders_are_not_looked_into() -> None:
    store = Store()
    store.write("keep/a.md", "x")
    store.write(".git/config", "x")
    store.write("node_modules/b/c.md", "x")
    assert set(synced(store).documents) == {"keep/a.md"}
    assert store.listed == ["", "keep"]


def test_a_large_tree_with_many_unchanged_folders_is_quick() -> None:
    known = TreeSnapshot(None)
    for number in range(20_000):
        known.set(f"d{number % 2000:04}/{number}.md", Seen(f"{number:016x}", f"{number:016x}", ("everyone",)))
    store = Store()

    def stamped(folder: Folder) -> list[Listed]:
        return [Folder(f"d{n:04}", "", stamp="1") for n in range(2000)] if not folder.id else []

    class Stamped(MemoryConnector):
        def _walk(self, *, after: str = "", known: Known | None = None) -> Iterator[Found]:
            yield from walk(Folder("", ""), stamped, self._selection, after=after, known=lambda f: f.id != "")

    started = time.process_time()
    connector = Stamped(TreeSettings.model_validate(store.settings), store=store)
    assert changes(list(connector.sync(known.checkpoint()))) == []
    assert len(list(connector.inventory())) == 20_000
    assert time.process_time() - started < 2.0
