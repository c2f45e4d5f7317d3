"""Who surely may read, tried against the kernel's own answer where that can be asked."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.model import Access
from connectors.shares.posix import (
    OVERFLOW_ID,
    READ,
    TRAVERSE,
    Accounts,
    Acl,
    effective,
    folders_above,
    nfs4_is_trivial,
    parse_acl,
    read_acl,
)

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
ANN, BOB, CEM, DEE = 61001, 61002, 61003, 61004
STAFF, LEADS = 62001, 62002
ACCOUNTS = Accounts(
    users={ANN: "ann", BOB: "bob", CEM: "cem", DEE: "dee"},
    groups={STAFF: "staff", LEADS: "leads"},
    members={STAFF: frozenset({ANN, BOB}), LEADS: frozenset({BOB, CEM})},
)
GROUPS_OF = {ANN: [STAFF], BOB: [STAFF, LEADS], CEM: [LEADS], DEE: []}


def xattr(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, perm, who) for tag, perm, who in entries)


def of(mode: int, *, owner: int = ANN, group: int = STAFF, need: int = READ) -> Acl:
    user, team, other = (bool(mode >> shift & need) for shift in (6, 3, 0))
    return Acl(owner, ((owner, user),), ((group, team),), other)


def names(*acls: Acl) -> set[str]:
    return set(effective(acls, ACCOUNTS).tokens)


def test_plain_modes() -> None:
    assert names(of(0o644)) == {"everyone"}
    assert names(of(0o640)) == {"user:ann", "group:staff"}
    assert names(of(0o600)) == {"user:ann"}
    assert names(of(0o000)) == set()


def test_everyone_but_a_group_cannot_be_said() -> None:
    """Mode 604 shuts the group out: a token for everyone would let it in."""
    assert names(of(0o604)) == {"user:ann"}


def test_an_owner_shut_out_is_not_let_in_by_the_group() -> None:
    assert names(of(0o040)) == {"user:bob"}


def test_a_named_user_shut_out_leaves_the_rest_of_the_group() -> None:
    acl = Acl(DEE, ((DEE, True), (BOB, False)), ((STAFF, True),), False)
    assert names(acl) == {"user:dee", "user:ann"}


def test_an_unknown_member_list_grants_no_group_beside_a_denial() -> None:
    acl = Acl(DEE, ((DEE, True), (BOB, False)), ((62999, True),), False)
    assert names(acl) == {"user:dee"}


def test_two_groups_on_the_way_leave_those_in_both() -> None:
    assert names(of(0o710, owner=DEE, group=LEADS, need=TRAVERSE), of(0o640, owner=DEE)) == {
        "user:dee",
        "user:bob",
    }


def test_a_large_group_is_not_spelt_out() -> None:
    many = Accounts(groups={1: "many", 2: "more"}, members={n: frozenset(range(5000)) for n in (1, 2)})
    acls = [Acl(9000, ((9000, True),), ((group, True),), False) for group in (1, 2)]
    assert effective(acls, many).tokens == {"user:9000"}


def test_the_owner_a_server_does_not_tell_is_nobody() -> None:
    assert names(of(0o660, owner=OVERFLOW_ID, group=OVERFLOW_ID)) == set()


def test_the_mask_bounds_named_users_and_groups() -> None:
    raw = xattr(
        (USER_OBJ, 6, 0), (USER, 6, BOB), (GROUP_OBJ, 6, 0), (GROUP, 4, LEADS), (MASK, 0, 0), (OTHER, 0, 0)
    )
    assert parse_acl(raw, ANN, STAFF, READ) == Acl(
        ANN, ((ANN, True), (BOB, False)), ((STAFF, False), (LEADS, False)), False
    )


@pytest.mark.parametrize("raw", [b"", b"\x02\0\0\0\1", b"\x03\0\0\0", xattr((USER_OBJ, 6, 0))[:-1]])
def test_a_list_that_is_damaged_grants_nobody(raw: bytes) -> None:
    assert names(parse_acl(raw, ANN, STAFF, READ)) == set()


def nfs4(*who: bytes, kind: int = 0) -> bytes:
    aces = b"".join(
        struct.pack(">IIII", kind, 0, 1, len(name)) + name + b"\0" * (-len(name) % 4) for name in who
    )
    return struct.pack(">I", len(who)) + aces


def test_nfsv4_lists() -> None:
    assert nfs4_is_trivial(nfs4(b"OWNER@", b"GROUP@", b"EVERYONE@"))
    assert not nfs4_is_trivial(nfs4(b"OWNER@", b"bob@example.org", b"EVERYONE@"))
    assert not nfs4_is_trivial(nfs4(b"OWNER@", kind=2))
    assert not nfs4_is_trivial(nfs4(b"OWNER@", b"GROUP@")[:-3])
    assert not nfs4_is_trivial(b"")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder anyone may pass through."""
    path = Path(tempfile.mkdtemp(prefix="deskhand-acl-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_list_on_a_real_file(place: Path) -> None:
    path = place / "f"
    path.write_text("x")
    me, team = path.stat().st_uid, path.stat().st_gid
    raw = xattr((USER_OBJ, 6, 0), (USER, 4, BOB), (GROUP_OBJ, 0, 0), (MASK, 4, 0), (OTHER, 0, 0))
    try:
        os.setxattr(path, "system.posix_acl_access", raw)
    except OSError:
        pytest.skip("this file system has no access control lists")
    assert path.stat().st_mode & 0o777 == 0o640, "the mode alone would grant the group"
    acl = read_acl(str(path), path.stat(), READ)
    assert acl == Acl(me, ((me, True), (BOB, True)), ((team, False),), False)


def test_the_way_down_counts(place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    assert effective(folders_above(str(place / "a" / "b")), ACCOUNTS) == Access.public()
    (place / "a").chmod(0o700)
    assert effective(folders_above(str(place / "a" / "b")), ACCOUNTS) != Access.public()


def test_members_of_this_machine() -> None:
    for member in Accounts.here().persons():
        assert member.user
        assert member.user != "nobody"
        assert member.email == ""


def _can_read(uid: int, paths: list[str], answers: multiprocessing.SimpleQueue[list[bool]]) -> None:
    os.setgroups(GROUPS_OF[uid])
    os.setgid(62999)
    os.setuid(uid)
    found: list[bool] = []
    for path in paths:
        try:
            os.close(os.open(path, os.O_RDONLY))
            found.append(True)
        except PermissionError:
            found.append(False)
    answers.put(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the users to ask the kernel as")
def test_nobody_is_granted_what_the_kernel_refuses(place: Path) -> None:
    """Random owners, modes and lists, on a file and its folder, asked of the kernel as each user."""
    chance = random.Random(7)
    people, teams = [ANN, BOB, CEM, DEE], [STAFF, LEADS]
    granted: list[Access] = []
    paths: list[str] = []
    for number in range(300):
        folder = place / str(number)
        folder.mkdir()
        file = folder / "f"
        file.write_text("x")
        acls: list[Acl] = []
        for path, need in ((folder, TRAVERSE), (file, READ)):
            perms = [0, need, need]
            os.chown(path, chance.choice(people), chance.choice(teams))
            path.chmod(sum(chance.choice(perms) << shift for shift in (6, 3, 0)))
            if chance.random() < 0.6:
                named_users = sorted(chance.sample(people, chance.randint(0, 2)))
                named_groups = sorted(chance.sample(teams, chance.randint(0, 2)))
                entries = [(USER_OBJ, chance.choice(perms), 0xFFFFFFFF)]
                entries += [(USER, chance.choice(perms), uid) for uid in named_users]
                entries += [(GROUP_OBJ, chance.choice(perms), 0xFFFFFFFF)]
                entries += [(GROUP, chance.choice(perms), gid) for gid in named_groups]
                entries += [
                    (MASK, chance.choice(perms), 0xFFFFFFFF),
                    (OTHER, chance.choice(perms), 0xFFFFFFFF),
                ]
                os.setxattr(path, "system.posix_acl_access", xattr(*entries))
            acls.append(read_acl(str(path), path.stat(), need))
        granted.append(effective(acls, ACCOUNTS))
        paths.append(str(file))
    sure = refused = 0
    for uid in people:
        answers: multiprocessing.SimpleQueue[list[bool]] = multiprocessing.SimpleQueue()
        process = multiprocessing.get_context("fork").Process(target=_can_read, args=(uid, paths, answers))
        process.start()
        truth = answers.get()
        process.join()
        tokens = {
            "everyone",
            f"user:{ACCOUNTS.user(uid)}",
            *(f"group:{ACCOUNTS.group(g)}" for g in GROUPS_OF[uid]),
        }
        for path, access, can in itertools.zip_longest(paths, granted, truth):
            says = bool(access.tokens & tokens)
            assert can or not says, f"{path} would be shown to {uid}, who can't read it"
            sure += says
            refused += can and not says
    # What is refused beyond that is "everyone but", which tokens can't say.
    assert sure > 300
    assert refused < sure / 2
