"""Who surely may read a file, from POSIX owners, mode bits and access control lists.

Deskhand's tokens can say "this user", "this group" and "everyone", but not
"everyone except". Where a list says the latter, only those remain who can read
in every case; a group that can't be granted as a whole is granted by its members.
The evaluation follows acl(5): owner, then named user, then any matching group,
then others; the mask bounds named users and all groups.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from assistant.model import EVERYONE, Access, Member

READ, TRAVERSE = 4, 1
MAX_EXPANDED_MEMBERS = 100
"""a group larger than this is not granted member by member"""
OVERFLOW_ID = 65534
"""nobody/nogroup: what a file server shows when it doesn't tell the owner"""

_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_ACL_XATTR, _NFS4_XATTR = "system.posix_acl_access", "system.nfs4_acl"
_NFS4_TRIVIAL = {b"OWNER@", b"GROUP@", b"EVERYONE@"}


@dataclass(slots=True)
class Accounts:
    """Names and group members by number; a number without a name stays a number."""

    users: dict[int, str] = field(default_factory=dict[int, str])
    groups: dict[int, str] = field(default_factory=dict[int, str])
    members: dict[int, frozenset[int]] = field(default_factory=dict[int, frozenset[int]])

    @classmethod
    def local(cls) -> Accounts:
        """What this machine knows (passwd, group and what NSS adds and enumerates)."""
        people = pwd.getpwall()
        numbers = {person.pw_name: person.pw_uid for person in people}
        teams = grp.getgrall()
        members: dict[int, set[int]] = {team.gr_gid: set() for team in teams}
        for team in teams:
            members[team.gr_gid] |= {numbers[name] for name in team.gr_mem if name in numbers}
        for person in people:
            members.setdefault(person.pw_gid, set()).add(person.pw_uid)
        return cls(
            users={person.pw_uid: person.pw_name for person in people},
            groups={team.gr_gid: team.gr_name for team in teams},
            members={gid: frozenset(uids) for gid, uids in members.items()},
        )

    def user(self, uid: int) -> str:
        if uid not in self.users:
            try:
                self.users[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self.users[uid] = str(uid)
        return self.users[uid]

    def group(self, gid: int) -> str:
        if gid not in self.groups:
            try:
                self.groups[gid] = grp.getgrgid(gid).gr_name
            except KeyError:
                self.groups[gid] = str(gid)
        return self.groups[gid]

    def of(self, gid: int) -> frozenset[int]:
        return self.members.get(gid, frozenset())


@dataclass(frozen=True, slots=True)
class Acl:
    """Which classes have one permission on one file or folder."""

    owner: int
    users: tuple[tuple[int, bool], ...]
    """owner first, then the named users"""
    groups: tuple[tuple[int, bool], ...]
    """the owning group and the named groups, mask applied"""
    other: bool

    def permits_everyone(self) -> bool:
        return self.other and all(ok for _, ok in self.users) and all(ok for _, ok in self.groups)

    def permits_group(self, gid: int, accounts: Accounts) -> bool:
        """Whether every member has the permission, whatever other groups they are in."""
        members = accounts.of(gid)
        denied = {uid for uid, ok in self.users if not ok}
        if denied and (not members or members & denied):  # unknown members may be the denied ones
            return False
        if any(ok for group, ok in self.groups if group == gid):
            return True
        return self.other and all(ok for _, ok in self.groups)

    def permits_user(self, uid: int, accounts: Accounts) -> bool:
        for user, ok in self.users:
            if user == uid:
                return ok
        if any(uid in accounts.of(gid) for gid, ok in self.groups if ok):
            return True
        # A user this machine does not know may be in a denied group all the same.
        known = any(uid in members for members in accounts.members.values())
        denied = [gid for gid, ok in self.groups if not ok]
        return self.other and (not denied or (known and not any(uid in accounts.of(g) for g in denied)))


def read_acl(path: str | int, status: os.stat_result, need: int) -> Acl:
    """The permission `need` (READ or TRAVERSE) on `path`, whose `status` was just taken."""
    mode = status.st_mode
    raw = _xattr(path, _ACL_XATTR)
    if raw is not None:
        return parse_acl(raw, status.st_uid, status.st_gid, need)
    bits = [bool(mode & (need << shift)) for shift in (6, 3, 0)]
    nfs4 = _xattr(path, _NFS4_XATTR)
    if nfs4 is not None and not nfs4_is_trivial(nfs4):
        # Behind NFSv4 the group bits are a mask at best; only the owner's are certain.
        bits[1] = bits[2] = False
    return Acl(status.st_uid, ((status.st_uid, bits[0]),), ((status.st_gid, bits[1]),), bits[2])


def parse_acl(raw: bytes, owner: int, group: int, need: int) -> Acl:
    """An `Acl` from the bytes of `system.posix_acl_access`: version, then (tag, permissions, id)."""
    if len(raw) < 4 or (len(raw) - 4) % 8 or struct.unpack_from("<I", raw)[0] != 2:
        return Acl(owner, ((owner, False),), ((group, False),), False)
    entries = list(struct.iter_unpack("<HHI", raw[4:]))
    mask = next((perm for tag, perm, _ in entries if tag == _MASK), 7)
    users: list[tuple[int, bool]] = []
    groups: list[tuple[int, bool]] = []
    other = False
    for tag, perm, number in entries:
        if tag == _USER_OBJ:
            users.insert(0, (owner, bool(perm & need)))
        elif tag == _USER:
            users.append((number, bool(perm & mask & need)))
        elif tag == _GROUP_OBJ:
            groups.append((group, bool(perm & mask & need)))
        elif tag == _GROUP:
            groups.append((number, bool(perm & mask & need)))
        elif tag == _OTHER:
            other = bool(perm & need)
    return Acl(owner, tuple(users), tuple(groups), other)


def nfs4_is_trivial(raw: bytes) -> bool:
    """Whether an NFSv4 list says no more than the mode bits (RFC 7530, 6.2.1; XDR)."""
    try:
        (count,) = struct.unpack_from(">I", raw)
        position = 4
        for _ in range(count):
            kind, _flags, _mask, length = struct.unpack_from(">IIII", raw, position)
            who = raw[position + 16 : position + 16 + length]
            if kind > 1 or who not in _NFS4_TRIVIAL:
                return False
            position += 16 + (length + 3) // 4 * 4
    except struct.error:
        return False
    return position == len(raw)


def effective(acls: Iterable[Acl], accounts: Accounts) -> Access:
    """Who surely passes every one of `acls`: a file and all the folders that lead to it."""
    chain = frozenset(acls)
    if all(acl.permits_everyone() for acl in chain):
        return Access(frozenset({EVERYONE}))
    users = {uid for acl in chain for uid, ok in acl.users if ok}
    tokens: set[str] = set()
    for gid in {gid for acl in chain for gid, ok in acl.groups if ok} - {OVERFLOW_ID}:
        if all(acl.permits_group(gid, accounts) for acl in chain):
            tokens.add(f"group:{accounts.group(gid)}")
        elif len(accounts.of(gid)) <= MAX_EXPANDED_MEMBERS:
            users |= accounts.of(gid)
    for uid in users - {OVERFLOW_ID}:
        if all(acl.permits_user(uid, accounts) for acl in chain):
            tokens.add(f"user:{accounts.user(uid)}")
    return Access(frozenset(tokens))


def folders_above(path: str) -> list[Acl]:
    """Traversal of every folder above `path` on the same file system.

    A mount point ends the way up: what lies above it belongs to this machine, and
    says nothing about those who reach the same files from another one.
    """
    acls: list[Acl] = []
    here = os.path.realpath(path)
    device = os.stat(here).st_dev
    while (parent := os.path.dirname(here)) != here:
        status = os.stat(parent)
        if status.st_dev != device:
            break
        acls.append(read_acl(parent, status, TRAVERSE))
        here = parent
    return acls


def local_members() -> Iterator[Member]:
    """People of this machine (uid from 1000, or named in a group) with their groups."""
    accounts = Accounts.local()
    named = {name for team in grp.getgrall() for name in team.gr_mem}
    for person in pwd.getpwall():
        if person.pw_uid == OVERFLOW_ID or (person.pw_uid < 1000 and person.pw_name not in named):
            continue
        groups = frozenset(
            accounts.group(gid) for gid, uids in accounts.members.items() if person.pw_uid in uids
        )
        name = person.pw_gecos.split(",")[0]
        yield Member(user=person.pw_name, name=name, groups=groups)


def _xattr(path: str | int, name: str) -> bytes | None:
    """The attribute, or None where it or the file system's support for it is absent."""
    if not hasattr(os, "getxattr"):
        return None
    try:
        return os.getxattr(path, name, follow_symlinks=True)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP):
            return None
        raise
