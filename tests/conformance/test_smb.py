from __future__ import annotations

import itertools
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from assistant.errors import SourceBusy, SourceRefused
from assistant.model import Access, Renamed
from connectors.network import Network
from connectors.smb.connector import SmbConnector, SmbSettings
from tests.conformance.connector import ConnectorConformance, Replica, WritableSource, changes
from tests.servers.faults import Fault, TcpFaults
from tests.servers.samba import FULL, PASSWORD, READ, READER, Samba, Visitor

pytestmark = pytest.mark.server

LOOPBACK = Network(("127.0.0.1",))
EVERYONE = "S-1-1-0"
PEOPLE = [f"person{number:02}" for number in range(20)]
GROUPS = {"staff": ["alice", "bob"], "hr": ["carol"]} | {
    f"team{n}": PEOPLE[n * 3 : n * 3 + 6] for n in range(5)
}
ALIASES = {
    "readers": ["staff", "carol"],
    "inner": ["staff"],
    "outer": ["inner", "carol"],
    "mixed": ["team1", "person00"],
}
_numbers = itertools.count(1)


@contextmanager
def running(*, checks_folders: bool = False) -> Iterator[Samba]:
    folder = Path(tempfile.mkdtemp(prefix="deskhand-samba-"))
    folder.chmod(0o755)  # smbd becomes the user who signed in
    server = Samba(
        folder / "server",
        users=["alice", "bob", "carol", *PEOPLE],
        groups=GROUPS,
        aliases=ALIASES,
        checks_folders=checks_folders,
    )
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def samba() -> Iterator[Samba]:
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def owner(samba: Samba) -> Iterator[Visitor]:
    with Visitor(samba, READER) as visitor:
        yield visitor


class Share(WritableSource):
    """A folder of its own in the server's share: written to on the server's disk, protected over the network."""

    proxy = TcpFaults

    def __init__(self, samba: Samba, owner: Visitor, **settings: Any) -> None:
        self.samba, self.owner, self.port = samba, owner, samba.port
        self.name = f"t{next(_numbers)}"
        self.path = samba.share / self.name
        self.path.mkdir()
        self.protect("", everyone=READ)
        self.settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "share": "docs",
            "folder": self.name,
            "username": READER,
            "password": PASSWORD,
            "share_readers": "Everyone",
            "lists_alone": True,
            **settings,
        }

    def connector(self, port: int | None = None) -> SmbConnector:
        settings = {**self.settings, "host": f"127.0.0.1:{port or self.samba.port}"}
        return SmbConnector(SmbSettings.model_validate(settings), LOOPBACK)

    def protect(self, path: str, **allowed: int) -> None:
        """Give what `path` names a list that allows these and nobody else."""
        sids = {name: EVERYONE if name == "everyone" else self.samba.sid(name) for name in allowed}
        entries = [(True, sids[name], mask, 0) for name, mask in allowed.items()]
        self.owner.protect(f"{self.name}/{path}".rstrip("/"), entries)

    def put(self, name: str, text: str) -> str:
        path = self.path / f"{name}.md"
        new = not path.exists()
        path.write_text(text)
        if new:
            self.protect(f"{name}.md", everyone=READ)
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
        unknown = "S-1-5-21-1-2-3-1234"
        self.owner.protect(f"{self.name}/{name}.md", [(False, unknown, FULL, 0), (True, EVERYONE, READ, 0)])

    def restrict(self, name: str) -> str:
        self.protect(f"{name}.md", alice=READ)
        return f"group:{EVERYONE}"

    def vanish(self) -> None:
        shutil.rmtree(self.path)


@pytest.fixture
def share(samba: Samba, owner: Visitor) -> Iterator[Share]:
    share = Share(samba, owner)
    yield share
    shutil.rmtree(share.path, ignore_errors=True)


class TestSmb(ConnectorConformance):
    @pytest.fixture
    def source(self, share: Share) -> WritableSource:
        return share


def write(share: Share, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = share.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def synced(share: Share) -> Replica:
    replica = Replica()
    replica.sync(share.connector())
    return replica


def test_only_those_the_server_lets_connect(share: Share) -> None:
    write(share, {"a.md": "x"})
    share.protect("a.md", everyone=READ)
    share.settings["share_readers"] = ["staff", "carol"]
    sids = {share.samba.sid(name) for name in ("staff", "carol")}
    assert synced(share).documents["a.md"].access == Access.of(groups=tuple(sids))
    share.protect("a.md", alice=READ, carol=READ)
    readers = {share.samba.sid(name) for name in ("alice", "carol")}
    assert synced(share).documents["a.md"].access == Access.of(groups=tuple(readers)), "alice is of the staff"
    share.settings["share_readers"] = ["nobody-knows-them"]
    with pytest.raises(SourceRefused, match=r"share_readers.*Nothing was"):
        synced(share)


def test_a_share_the_account_may_not_connect_to(share: Share) -> None:
    write(share, {"a.md": "x"})
    share.samba.share_acl(f"{share.samba.sid('bob')}:ALLOWED/0/READ")
    try:
        with pytest.raises(SourceRefused, match="othing was"):
            synced(share)
    finally:
        share.samba.share_acl(f"{EVERYONE}:ALLOWED/0/FULL")


def test_guests_only_where_the_settings_say_so(share: Share) -> None:
    write(share, {"open.md": "x", "closed.md": "x", "no-guests.md": "x"})
    share.protect("open.md", everyone=READ)
    share.protect("closed.md", staff=READ)
    guests = [(False, "S-1-5-32-546", READ, 0), (True, EVERYONE, READ, 0)]
    share.owner.protect(f"{share.name}/no-guests.md", guests)
    assert not [d for d in synced(share).documents.values() if "everyone" in d.access.tokens]
    share.settings["guests"] = True
    replica = synced(share)
    assert [n for n, d in replica.documents.items() if "everyone" in d.access.tokens] == ["open.md"]


def test_a_file_without_any_list_of_its_own_and_one_that_is_empty(share: Share) -> None:
    write(share, {"none.md": "x"})
    share.owner.protect(f"{share.name}/none.md", [])
    assert synced(share).documents["none.md"].access == Access.nobody()


def test_rules_go_before_the_lists(share: Share) -> None:
    write(share, {"manuals/a.md": "x", "b.md": "x"})
    share.protect("b.md", alice=READ)
    share.settings["access_rules"] = {"manuals/**": "everyone, group:support"}
    replica = synced(share)
    assert replica.documents["manuals/a.md"].access == Access(frozenset({"everyone", "group:support"}))
    share.settings["access_rules"] = {}
    replica.sync(share.connector())
    assert "everyone" not in replica.documents["manuals/a.md"].access.tokens
    assert replica.summary() == synced(share).summary()


def test_people_and_their_groups(share: Share, tmp_path: Path) -> None:
    share.settings["email_domain"] = "example.com"
    members = {member.user: member for member in share.connector().memberships()}
    alice, carol = members["alice"], members["carol"]
    assert (alice.email, alice.name) == ("alice@example.com", "Alice")
    sids = {name: share.samba.sid(name) for name in ("alice", "staff", "readers", "inner", "outer", "hr")}
    assert {sids["alice"], sids["staff"], sids["readers"], sids["inner"], EVERYONE, "staff"} <= alice.groups
    assert sids["outer"] not in alice.groups, (
        "Samba resolves one level of local groups, so no more is granted"
    )
    assert {sids["hr"], sids["outer"]} <= carol.groups
    people = tmp_path / "people.json"
    listed = [
        {"id": "alice", "email": "a.liddell@example.org", "groups": ["support"]},
        {"id": "ghost", "email": "ghost@example.org", "groups": ["staff"]},
    ]
    people.write_text(json.dumps({"users": listed}))
    share.settings["people"] = str(people)
    members = {member.user: member for member in share.connector().memberships()}
    assert members["alice"].email == "a.liddell@example.org"
    assert "support" in members["alice"].groups
    assert sids["staff"] in members["ghost"].groups
    assert members["bob"].email == "bob@example.com"


def test_a_disabled_account_is_no_member(samba: Samba, share: Share) -> None:
    def users() -> set[str]:
        with closing(share.connector()) as connector:
            return {member.user for member in connector.memberships()}

    assert "person19" in users()
    samba.disable("person19")
    try:
        assert "person19" not in users()
    finally:
        samba.enable("person19")
    assert "person19" in users()


def test_an_account_that_may_not_read_everything(share: Share) -> None:
    write(share, {"open/a.md": "x", "closed/b.md": "x", "unreadable.md": "quokka-7731"})
    for path in ("open", "open/a.md"):
        share.protect(path, everyone=READ)
    share.protect("closed", carol=READ)
    share.protect("unreadable.md", carol=READ)
    share.settings["username"] = "alice"
    replica = synced(share)
    assert set(replica.documents) == {"open/a.md"}
    assert set(replica.failures) == {"closed", "unreadable.md"}
    with pytest.raises(SourceBusy, match="Nothing was deleted"):
        list(share.connector().inventory())
    share.settings["exclude"] = ["closed"]
    assert set(share.connector().inventory()) == {"open/a.md", "unreadable.md"}


def test_closed_to_the_account_it_is_closed_to_all(share: Share) -> None:
    """The list can't be read any more, so nobody may: at the sync if the file changed, else at the permission sync."""
    write(share, {"a.md": "x", "b.md": "x"})
    for name in ("a.md", "b.md"):
        share.protect(name, everyone=READ)
    share.settings["username"] = "alice"
    replica = synced(share)
    for name in ("a.md", "b.md"):
        share.protect(name, carol=READ)
    (share.path / "a.md").write_text("changed")
    replica.sync(share.connector())
    assert replica.documents["a.md"].access == Access.nobody()
    replica.check_access(share.connector())
    assert replica.documents["b.md"].access == Access.nobody()


def test_wrong_names_and_passwords_stop_it(share: Share) -> None:
    for wrong in (
        {"password": "no"},
        {"username": "nobody-here"},
        {"share": "no-such"},
        {"folder": "no/such"},
    ):
        kept = dict(share.settings)
        share.settings |= wrong
        for attempt in (share.connector().check, lambda: list(share.connector().sync(None))):
            with pytest.raises(SourceRefused, match="othing was"):
                attempt()
        share.settings = kept


def test_a_server_that_is_down_is_waited_for(share: Share) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    with pytest.raises(SourceBusy, match="othing was"):
        list(share.connector(port).sync(None))


def test_only_addresses_that_are_allowed(share: Share) -> None:
    connector = SmbConnector(SmbSettings.model_validate(share.settings), Network())
    with pytest.raises(SourceRefused, match="no public address"):
        connector.check()


@pytest.mark.parametrize("after", [150, 700, 1500, 3000, 9000, 20_000])
def test_cut_off_anywhere_nothing_is_lost(share: Share, after: int) -> None:
    """Connections are cut after so many bytes until one gets through; then the same is held as without."""
    for number in range(40):
        share.put(f"item-{number}", f"number {number}" * 30)
    expected = synced(share).summary()
    proxy = TcpFaults(share.samba.port, after=after)
    try:
        proxy.plan = lambda number: Fault("drop") if number <= 3 else None
        replica = Replica()
        replica.sync_until_done(lambda: share.connector(proxy.port))
        assert replica.summary() == expected
        proxy.plan = lambda number: Fault("drop")
        for attempt in (
            lambda: list(share.connector(proxy.port).inventory()),
            lambda: list(share.connector(proxy.port).accesses()),
        ):
            with suppress(SourceBusy):
                assert len(attempt()) == 40
    finally:
        proxy.close()


def test_no_thread_stays_behind(share: Share) -> None:
    share.put("a", "x")
    before = threading.active_count()
    for _ in range(3):
        connector = share.connector()
        next(iter(connector.sync(None)))
        connector.close()
    assert threading.active_count() <= before


def test_names_that_are_odd(share: Share) -> None:
    names = ["Grüße 你好 🦘.md", "100% #1?.md".replace("?", ""), " a+b&c.md", "ü/ö/ä.md", "quote'.md"]
    write(share, dict.fromkeys(names, "x"))
    replica = synced(share)
    assert set(replica.documents) == set(names)
    assert replica.documents["ü/ö/ä.md"].url == f"file://127.0.0.1/docs/{share.name}/%C3%BC/%C3%B6/%C3%A4.md"


def test_links_do_not_lead_out(share: Share) -> None:
    write(share, {"a.md": "x"})
    (share.path / "out.md").symlink_to("/etc/passwd")
    (share.path / "up").symlink_to("/etc")
    assert set(synced(share).documents) == {"a.md"}


def test_a_folder_that_is_moved_is_not_read_again(share: Share) -> None:
    write(share, {f"old/deep/{number}.md": f"text {number}" for number in range(50)})
    replica = synced(share)
    before = replica.embedded
    (share.path / "old").rename(share.path / "new")
    found = changes(replica.sync(share.connector()))
    assert {type(change) for change in found} == {Renamed}
    assert len(found) == 50
    assert replica.embedded == before
    assert replica.summary() == synced(share).summary()


class Steps(RuleBasedStateMachine):
    """Whatever happens to the share and to the syncs of it: in the end the copy is what the share is."""

    samba: Samba
    owner: Visitor

    @initialize()
    def begin(self) -> None:
        self.share = Share(self.samba, self.owner)
        (self.share.path / "anchor.md").write_text("so that the share is never empty")
        self.replica = Replica()

    def there(self) -> list[Path]:
        found = self.share.path.rglob("*.md")
        return sorted(path for path in found if path.name != "anchor.md")

    @rule(
        folder=st.sampled_from(["", "a", "a/b", "c"]),
        name=st.sampled_from("xyz"),
        text=st.text("pq", max_size=3),
    )
    def write(self, folder: str, name: str, text: str) -> None:
        write(self.share, {f"{folder}/{name}.md".lstrip("/"): text})

    @rule(pick=st.integers(0, 99), folder=st.sampled_from(["", "a", "c"]), name=st.sampled_from("xyz"))
    def move(self, pick: int, folder: str, name: str) -> None:
        if files := self.there():
            target = self.share.path / folder / f"{name}.md"
            target.parent.mkdir(parents=True, exist_ok=True)
            files[pick % len(files)].replace(target)

    @rule(one=st.sampled_from(["a", "a/b", "c"]), other=st.sampled_from(["a", "c", "d"]))
    def move_folder(self, one: str, other: str) -> None:
        with suppress(OSError):
            (self.share.path / one).rename(self.share.path / other)

    @rule(pick=st.integers(0, 99))
    def remove(self, pick: int) -> None:
        if files := self.there():
            files[pick % len(files)].unlink()

    @rule(
        pick=st.integers(0, 99),
        who=st.sampled_from(["alice", "staff", "everyone", "outer"]),
        deny=st.booleans(),
    )
    def restrict(self, pick: int, who: str, deny: bool) -> None:
        if files := self.there():
            sid = EVERYONE if who == "everyone" else self.samba.sid(who)
            denied = [(False, self.samba.sid("bob"), READ, 0)] if deny else []
            path = files[pick % len(files)].relative_to(self.samba.share)
            self.owner.protect(str(path), [*denied, (True, sid, READ, 0)])

    @rule(batches=st.integers(0, 2))
    def sync(self, batches: int) -> None:
        """To the end, or broken off."""
        self.replica.sync(self.share.connector(), batches=batches or None)

    @rule(after=st.integers(500, 20_000))
    def sync_cut_off(self, after: int) -> None:
        proxy = TcpFaults(self.samba.port, after=after)
        proxy.plan = lambda number: Fault("drop")
        try:
            with suppress(SourceBusy):
                self.replica.sync(self.share.connector(proxy.port))
        finally:
            proxy.close()

    @rule()
    def check_access(self) -> None:
        self.replica.check_access(self.share.connector())

    def teardown(self) -> None:
        if hasattr(self, "share"):
            self.replica.sync(self.share.connector())
            self.replica.check_access(self.share.connector())
            assert self.replica.summary() == synced(self.share).summary()
            assert set(self.replica.documents) == set(self.share.connector().inventory())
            assert changes(self.replica.sync(self.share.connector())) == []
            shutil.rmtree(self.share.path)


@pytest.mark.timeout(300)
def test_whatever_happens_the_copy_is_the_share(samba: Samba, owner: Visitor) -> None:
    machine = type("Steps", (Steps,), {"samba": samba, "owner": owner})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
