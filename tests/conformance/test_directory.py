from __future__ import annotations

import gc
import json
import os
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from assistant.errors import SourceBusy, SourceRefused
from assistant.model import Access, AccessChanged, Delete, Failed, Renamed, Upsert
from connectors.directory import DirectoryConnector, DirectorySettings
from connectors.shares.files import BATCH_BYTES
from tests.conformance.connector import ConnectorConformance, Replica, WritableSource, changes


class Folder(WritableSource):
    def __init__(self, path: Path, **settings: Any) -> None:
        self.path = path
        self.settings = {"path": str(path), "access": "everyone", **settings}

    def connector(self, port: int | None = None) -> DirectoryConnector:
        return DirectoryConnector(DirectorySettings.model_validate(self.settings))

    def put(self, name: str, text: str) -> str:
        (self.path / f"{name}.md").write_text(text)
        return f"{name}.md"

    def remove(self, name: str) -> None:
        (self.path / f"{name}.md").unlink()

    def rename(self, name: str, to: str) -> None:
        (self.path / "sub").mkdir(exist_ok=True)
        (self.path / f"{name}.md").rename(self.path / "sub" / f"{to}.md")

    def spoil(self) -> None:
        self.settings["max_file_mb"] = 1
        with (self.path / "huge.md").open("wb") as file:
            file.write(b"quokka-7731")
            file.truncate(50 * 2**30)

    def withdraw(self, name: str) -> None:
        self.settings["access_rules"] = {f"{name}.md": "nobody"}

    def restrict(self, name: str) -> str:
        (self.path / f"{name}.md").chmod(0o600)
        return "everyone"

    def vanish(self) -> None:
        shutil.rmtree(self.path)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "share").mkdir()
    return Folder(tmp_path / "share")


class TestDirectory(ConnectorConformance):
    @pytest.fixture
    def source(self, folder: Folder) -> WritableSource:
        folder.settings["access"] = "posix"
        return folder


def write(folder: Folder, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def synced(folder: Folder) -> Replica:
    replica = Replica()
    replica.sync(folder.connector())
    return replica


def test_what_is_no_document_is_left_out(folder: Folder) -> None:
    write(folder, {"a/b/kept.md": "x", ".hidden/x.md": "x", ".env": "x", "~$a.docx": "x", "c/Thumbs.db": "x"})
    write(folder, {"node_modules/p/readme.md": "x", ".git/config": "x", "a/.git/HEAD": "x"})
    os.mkfifo(folder.path / "pipe.md")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder.path / "socket.md"))
        assert set(synced(folder).documents) == {"a/b/kept.md"}


def test_include_and_exclude(folder: Folder) -> None:
    write(folder, {"a.md": "x", "a.png": "x", "d/b.md": "x", "d/drafts/c.md": "x", "e/drafts/c.md": "x"})
    folder.settings |= {"include": "*.md", "exclude": ["d/drafts"]}
    assert set(synced(folder).documents) == {"a.md", "d/b.md", "e/drafts/c.md"}


def test_links_and_titles(folder: Folder) -> None:
    write(folder, {"Release notes/5 %.md": "x"})
    document = synced(folder).documents["Release notes/5 %.md"]
    assert (document.title, document.media_type) == ("5 %", "text/markdown")
    assert document.url == f"file://{folder.path}/Release%20notes/5%20%25.md"
    folder.settings["url_prefix"] = "https://files.example/share/"
    replica = synced(folder)
    assert (
        replica.documents["Release notes/5 %.md"].url
        == "https://files.example/share/Release%20notes/5%20%25.md"
    )


def test_another_url_prefix_reaches_known_documents(folder: Folder) -> None:
    write(folder, {"a.md": "x"})
    replica = synced(folder)
    folder.settings["url_prefix"] = "https://files.example"
    before = replica.embedded
    replica.sync(folder.connector())
    assert replica.documents["a.md"].url == "https://files.example/a.md"
    assert replica.embedded == before + 1


def test_a_touched_file_is_not_embedded_again(folder: Folder) -> None:
    write(folder, {"a.md": "x"})
    replica = synced(folder)
    os.utime(folder.path / "a.md", (1, 1))
    assert [type(c) for c in changes(replica.sync(folder.connector()))] == [Upsert]
    assert replica.embedded == 1


def test_an_edit_whose_mtime_was_set_back_is_found(folder: Folder) -> None:
    write(folder, {"a.md": "old"})
    path = folder.path / "a.md"
    replica = synced(folder)
    status = path.stat()
    path.write_text("new")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    replica.sync(folder.connector())
    assert replica.documents["a.md"].body == b"new"


def test_names_that_are_no_text(folder: Folder) -> None:
    name = os.fsdecode(b"caf\xe9.md")
    (folder.path / name).write_bytes(b"au lait")
    (folder.path / "line\nbreak.md").write_bytes(b"x")
    replica = synced(folder)
    assert replica.documents["caf\\xe9.md"].body == b"au lait"
    assert replica.documents["caf\\xe9.md"].url.endswith("/caf%E9.md")
    assert set(folder.connector().inventory()) == {"caf\\xe9.md", "line\nbreak.md"}
    assert changes(replica.sync(folder.connector())) == []


def test_two_names_that_read_the_same_are_told(folder: Folder) -> None:
    (folder.path / os.fsdecode(b"caf\xe9.md")).write_bytes(b"1")
    (folder.path / "caf\\xe9.md").write_bytes(b"2")
    replica = synced(folder)
    assert len(replica.documents) == 1
    assert list(replica.failures) == ["caf\\xe9.md"]


def test_symlinks(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.md").write_text("private")
    write(folder, {"real/a.md": "x"})
    (folder.path / "out.md").symlink_to(tmp_path / "secret" / "key.md")
    (folder.path / "out").symlink_to(tmp_path / "secret")
    (folder.path / "alias.md").symlink_to("real/a.md")
    (folder.path / "alias").symlink_to("real")
    (folder.path / "real" / "loop").symlink_to("..")
    (folder.path / "dangling.md").symlink_to("nowhere")
    assert set(synced(folder).documents) == {"real/a.md"}
    folder.settings["follow_symlinks"] = True
    replica = synced(folder)
    assert set(replica.documents) == {"real/a.md", "alias.md", "alias/a.md"}
    assert not replica.failures


@pytest.mark.parametrize("follow", [False, True])
def test_a_file_swapped_for_a_link_while_reading_stays_unread(
    folder: Folder, tmp_path: Path, follow: bool
) -> None:
    """The swap happens between the listing and the reading, when the first batch was taken."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f.md").write_text("private")
    folder.settings["follow_symlinks"] = follow
    write(folder, {f"a/{number:02}.md": "x" for number in range(33)} | {"y.md": "x", "z/f.md": "x"})
    run = folder.connector().sync(None)
    next(run)
    (folder.path / "y.md").unlink()
    (folder.path / "y.md").symlink_to(tmp_path / "outside" / "f.md")
    shutil.rmtree(folder.path / "z")
    (folder.path / "z").symlink_to(tmp_path / "outside")
    _already_read, *rest = [change for batch in run for change in batch.changes]
    assert [(type(change), change.external_id) for change in rest] == [(Failed, "y.md"), (Failed, "z/f.md")]


def test_a_pipe_put_in_a_files_place_does_not_block(folder: Folder) -> None:
    write(folder, {f"{number:02}.md": "x" for number in range(34)})
    run = folder.connector().sync(None)
    next(run)
    (folder.path / "33.md").unlink()
    os.mkfifo(folder.path / "33.md")
    assert [type(change) for batch in run for change in batch.changes] == [Upsert, Failed]


def test_a_failed_file_is_tried_again(folder: Folder) -> None:
    folder.spoil()
    replica = synced(folder)
    assert list(replica.failures) == ["huge.md"]
    assert "max_file_mb" in replica.failures["huge.md"]
    (folder.path / "huge.md").write_text("small now")
    replica.sync(folder.connector())
    assert not replica.failures
    assert replica.documents["huge.md"].body == b"small now"


def test_batches_are_bounded_by_size(folder: Folder) -> None:
    for number in range(5):
        (folder.path / f"{number}.bin").write_bytes(b"x" * (BATCH_BYTES // 2))
    sizes = [len(batch.changes) for batch in Replica().sync(folder.connector())]
    assert sizes == [2, 2, 1]


class TestUnmounted:
    def test_an_empty_root(self, folder: Folder) -> None:
        write(folder, {"a.md": "x"})
        replica = synced(folder)
        (folder.path / "a.md").unlink()
        with pytest.raises(SourceBusy, match="mount"):
            list(folder.connector().sync(replica.checkpoint))
        with pytest.raises(SourceBusy, match="mount"):
            list(folder.connector().inventory())

    def test_a_root_that_was_always_empty(self, folder: Folder) -> None:
        # Of a source that holds nothing the worker asks for no inventory: see the acceptance tests.
        assert list(folder.connector().sync(None)) == []

    def test_a_root_emptied_between_first_sync_and_inventory(self, folder: Folder) -> None:
        write(folder, {"a.md": "x"})
        connector = folder.connector()
        list(connector.sync(None))
        (folder.path / "a.md").unlink()
        with pytest.raises(SourceBusy):
            list(connector.inventory())

    def test_a_missing_root_names_the_remedy(self, folder: Folder) -> None:
        folder.vanish()
        with pytest.raises(SourceRefused, match="mounted"):
            folder.connector().check()

    def test_a_file_as_root(self, folder: Folder) -> None:
        write(folder, {"a.md": "x"})
        folder.settings["path"] = str(folder.path / "a.md")
        with pytest.raises(SourceRefused):
            folder.connector().check()

    def test_a_file_system_mounted_below(self, folder: Folder) -> None:
        write(folder, {"a.md": "x", "nfs/b.md": "x"})
        replica = synced(folder)
        assert replica.checkpoint is not None
        replica.checkpoint["mounts"].append("nfs")  # as if another file system had been there
        (folder.path / "nfs" / "b.md").unlink()
        with pytest.raises(SourceBusy, match="nfs is no mounted"):
            list(folder.connector().sync(replica.checkpoint))
        shutil.rmtree(folder.path / "nfs")
        assert changes(replica.sync(folder.connector())) == [Delete("nfs/b.md")]


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything: be somebody else meanwhile."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(61001)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def reachable() -> Iterator[Folder]:
    """A folder that belongs to root, which others can list."""
    path = Path(tempfile.mkdtemp(prefix="deskhand-share-"))
    path.chmod(0o755)
    yield Folder(path)
    shutil.rmtree(path)


def test_an_unlisted_folder_deletes_nothing(reachable: Folder) -> None:
    write(reachable, {"a.md": "x", "d/b.md": "x", "d/e/c.md": "x"})
    replica = synced(reachable)
    (reachable.path / "d").chmod(0)
    try:
        with unprivileged():
            (failure,) = changes(replica.sync(reachable.connector()))
            assert isinstance(failure, Failed)
            assert failure.external_id == "d"
            assert set(replica.documents) == {"a.md", "d/b.md", "d/e/c.md"}
            with pytest.raises(SourceBusy, match="Nothing was deleted"):
                list(reachable.connector().inventory())
            assert "1 places" in reachable.connector().check()
    finally:
        (reachable.path / "d").chmod(0o755)


def test_an_unreadable_file_keeps_what_is_known_of_it(reachable: Folder) -> None:
    write(reachable, {"a.md": "x", "b.md": "x"})
    replica = synced(reachable)
    (reachable.path / "a.md").write_text("changed")
    (reachable.path / "a.md").chmod(0)
    with unprivileged():
        (failure,) = changes(replica.sync(reachable.connector()))
        assert isinstance(failure, Failed)
        assert "Permission denied" in failure.reason
        assert replica.documents["a.md"].body == b"x"
        assert set(reachable.connector().inventory()) == {"a.md", "b.md"}
    (reachable.path / "a.md").chmod(0o644)
    replica.sync(reachable.connector())
    assert replica.documents["a.md"].body == b"changed"


def test_a_root_that_may_not_be_listed(reachable: Folder) -> None:
    reachable.path.chmod(0o711)
    with unprivileged(), pytest.raises(SourceRefused, match="may Deskhand's user"):
        reachable.connector().check()


class TestAccess:
    @pytest.fixture(autouse=True)
    def public_ancestors(self, folder: Folder) -> None:
        """Pytest's folders are private, which counts: open those above the share."""
        folder.settings["access"] = "posix"
        for above in folder.path.parents:
            if above.stat().st_uid == os.geteuid() and above.stat().st_mode & 0o777 == 0o700:
                above.chmod(0o711)

    def test_mode_bits_of_files_and_folders(self, folder: Folder) -> None:
        write(folder, {"open.md": "x", "own.md": "x", "closed/open.md": "x"})
        (folder.path / "own.md").chmod(0o600)
        (folder.path / "closed").chmod(0o700)
        documents = synced(folder).documents
        me = Path.home().owner() if os.geteuid() else "root"
        assert documents["open.md"].access == Access.public()
        assert documents["own.md"].access == Access.of(users=(me,))
        assert documents["closed/open.md"].access == Access.of(users=(me,))

    def test_only_the_readers_changed(self, folder: Folder) -> None:
        write(folder, {"d/a.md": "x", "b.md": "x"})
        replica = synced(folder)
        (folder.path / "d").chmod(0o700)
        assert [type(c) for c in changes(replica.sync(folder.connector()))] == [AccessChanged]
        (folder.path / "b.md").chmod(0o600)
        found = changes(replica.sync(folder.connector()))
        assert [type(c) for c in found] == [AccessChanged]
        assert replica.embedded == 2
        assert replica.summary() == synced(folder).summary()

    def test_moved_into_a_closed_folder(self, folder: Folder) -> None:
        write(folder, {"a.md": "x", "b.md": "x"})
        (folder.path / "closed").mkdir(mode=0o700)
        replica = synced(folder)
        (folder.path / "a.md").rename(folder.path / "closed" / "a.md")
        assert [type(c) for c in changes(replica.sync(folder.connector()))] == [Renamed, AccessChanged]
        assert replica.summary() == synced(folder).summary()

    def test_closed_while_it_can_no_longer_be_read(self, folder: Folder) -> None:
        write(folder, {"a.md": "x", "b.md": "x"})
        replica = synced(folder)
        folder.spoil()
        (folder.path / "huge.md").rename(folder.path / "a.md")
        (folder.path / "a.md").chmod(0o600)
        found = changes(replica.sync(folder.connector()))
        assert [type(c) for c in found] == [Failed, AccessChanged]
        assert replica.documents["a.md"].access != Access.public()
        assert [type(c) for c in changes(replica.sync(folder.connector()))] == [Failed], "told once"

    def test_rules_go_before_everything(self, folder: Folder) -> None:
        write(folder, {"restricted/deep/a.md": "x", "restricted/faq.md": "x", "b.md": "x"})
        folder.settings["access"] = "group:support"
        folder.settings["access_rules"] = {
            "**": ["everyone"],
            "restricted/**": ["group:security"],
            "restricted/faq.md": "everyone",
            "b.md": "nobody",
        }
        access = {name: doc.access for name, doc in synced(folder).documents.items()}
        assert access == {
            "restricted/deep/a.md": Access.of(groups=("security",)),
            "restricted/faq.md": Access.public(),
            "b.md": Access.nobody(),
        }
        shuffled = dict(reversed(folder.settings["access_rules"].items()))
        folder.settings["access_rules"] = shuffled
        assert access == {name: doc.access for name, doc in synced(folder).documents.items()}

    def test_other_rules_reach_known_documents(self, folder: Folder) -> None:
        write(folder, {"a.md": "x"})
        replica = synced(folder)
        folder.settings["access"] = ["group:support", "user:eve"]
        replica.sync(folder.connector())
        assert replica.documents["a.md"].access == Access.of(users=("eve",), groups=("support",))
        assert replica.embedded == 1

    def test_people_file(self, folder: Folder, tmp_path: Path) -> None:
        people = tmp_path / "people.json"
        people.write_text(
            json.dumps({"users": [{"id": "a@x.example", "name": "A", "groups": ["s"]}], "groups": []})
        )
        folder.settings["people"] = str(people)
        (member,) = folder.connector().memberships()
        assert (member.user, member.email, member.groups) == ("a@x.example", "a@x.example", frozenset({"s"}))
        people.write_text("{")
        with pytest.raises(SourceRefused, match="people"):
            list(folder.connector().memberships())

    @pytest.mark.parametrize("access", ["staff", ["support"], "group:", ["nobody", "everyone"], 3])
    def test_what_is_no_token_is_refused(self, folder: Folder, access: object) -> None:
        with pytest.raises(ValidationError):
            DirectorySettings.model_validate({**folder.settings, "access": access})


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(ValidationError, match="whole path"):
        DirectorySettings.model_validate({"path": "docs"})


def test_a_checkpoint_that_is_damaged(folder: Folder) -> None:
    write(folder, {f"{number}.md": "x" for number in range(600)})
    checkpoint = synced(folder).checkpoint
    assert checkpoint is not None
    with pytest.raises(SourceRefused, match="damaged"):
        list(folder.connector().sync({**checkpoint, "files": checkpoint["files"][:-9]}))
    with pytest.raises(SourceRefused, match="another version"):
        list(folder.connector().sync({**checkpoint, "version": 99}))


def test_no_change_among_2000_files_is_quick(folder: Folder) -> None:
    write(folder, {f"d{number % 40}/{number}.md": str(number) for number in range(2000)})
    folder.settings["access"] = "posix"
    replica = synced(folder)
    started = time.process_time()
    assert changes(replica.sync(folder.connector())) == []
    assert time.process_time() - started < 1.0


def test_a_first_sync_in_many_slices(folder: Folder) -> None:
    """The checkpoint packs its files several times on the way; nothing is read twice."""
    write(folder, {f"d{number % 7}/{number}.md": str(number) for number in range(1500)})
    replica = Replica()
    seen = 0
    while taken := replica.sync(folder.connector(), batches=7):
        seen += len(changes(taken))
        gc.collect()
    assert seen == len(replica.documents) == 1500


NAMES = st.sampled_from(["a", "b.md", "c.txt", "d", "e f.md"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PATHS, st.text("xy", max_size=3)),
        st.tuples(st.just("remove"), PATHS),
        st.tuples(st.just("move"), PATHS, PATHS),
        st.tuples(st.just("swap"), PATHS, PATHS),
        st.tuples(st.just("chmod"), PATHS, st.sampled_from([0o600, 0o640, 0o644, 0o700, 0o755])),
        st.tuples(st.just("set back"), PATHS),
        st.tuples(st.just("link"), PATHS, PATHS),
        st.tuples(st.just("sync"), st.integers(0, 3)),
    ),
    max_size=30,
)


def operate(root: Path, operation: tuple[Any, ...]) -> None:
    """Do it as far as the tree allows; what it does not allow changes nothing."""
    what, *values = operation
    path = root / values[0]
    try:
        if what == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(values[1])
        elif what == "remove":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif what == "move":
            path.rename(root / values[1])
        elif what == "swap":
            other, aside = root / values[1], root / ".aside"
            if (
                path.exists()
                and other.exists()
                and not path.is_relative_to(other)
                and not other.is_relative_to(path)
            ):
                path.rename(aside)
                other.rename(path)
                aside.rename(other)
        elif what == "chmod":
            path.chmod(values[1])
        elif what == "set back":
            os.utime(path, (1e9, 1e9))
        elif what == "link":
            os.link(path, root / values[1])
    except OSError:
        pass


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_replayed_changes_equal_a_fresh_listing(tmp_path: Path, operations: list[tuple[Any, ...]]) -> None:
    """Whatever happens between syncs, and wherever they are broken off."""
    root = tmp_path / f"tree-{random.getrandbits(60):x}"
    root.mkdir()
    (root / "anchor.md").write_text("so that the folder is never empty")
    folder = Folder(root, access="posix")
    replica = Replica()
    for operation in operations:
        if operation[0] == "sync":
            replica.sync(folder.connector(), batches=operation[1] or None)
        else:
            operate(root, operation)
    replica.sync(folder.connector())
    assert replica.summary() == synced(folder).summary()
    assert set(replica.documents) == set(folder.connector().inventory())
    assert changes(replica.sync(folder.connector())) == []
    shutil.rmtree(root)
