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
    logins: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    """number and full name of persons alone: a uid from 1000, or one that is named in a group"""
    local: bool = False
    """of this machine, which may know more names than it lists"""

    @classmethod
    def here(cls) -> Accounts:
        """What this machine knows (passwd, group and what NSS adds and enumerates)."""
        people = [(p.pw_name, p.pw_uid, p.pw_gid, p.pw_gecos) for p in pwd.getpwall()]
        return cls._of(people, [(t.gr_name, t.gr_gid, t.gr_mem) for t in grp.getgrall()], local=True)

    @classmethod
    def parse(cls, passwd: str, group: str) -> Accounts:
        """From the text of passwd(5) and group(5); lines of another shape are left out."""
        people = [
            (fields[0], int(fields[2]), int(fields[3]), fields[4])
            for line in passwd.splitlines()
            if len(fields := line.split(":")) == 7 and fields[2].isdecimal() and fields[3].isdecimal()
        ]
        teams = [
            (fields[0], int(fields[2]), [name for name in fields[3].split(",") if name])
            for line in group.splitlines()
            if len(fields := line.split(":")) == 4 and fields[2].isdecimal()
        ]
        return cls._of(people, teams, local=False)

    @classmethod
    def _of(
        cls, people: list[tuple[str, int, int, str]], teams: list[tuple[str, int, list[str]]], *, local: bool
    ) -> Accounts:
        numbers = {name: uid for name, uid, _, _ in people}
        members: dict[int, set[int]] = {gid: set() for _, gid, _ in teams}
        for _, gid, names in teams:
            members[gid] |= {numbers[name] for name in names if name in numbers}
        for _, uid, gid, _ in people:
            members.setdefault(gid, set()).add(uid)
        named = {name for _, _, names in teams for name in names}
        return cls(
            users={uid: name for name, uid, _, _ in people},
            groups={gid: name for name, gid, _ in teams},
            members={gid: frozenset(uids) for gid, uids in members.items()},
            logins={
                name: (uid, gecos.split(",")[0])
                for name, uid, _, gecos in people
                if uid != OVERFLOW_ID and (uid >= 1000 or name in named)
            },
            local=local,
        )

    def user(self, uid: int) -> str:
        if uid not in self.users:
            try:
                self.users[uid] = pwd.getpwuid(uid).pw_name if self.local else str(uid)
            except KeyError:
                self.users[uid] = str(uid)
        return self.users[uid]

    def group(self, gid: int) -> str:
        if gid not in self.groups:
            try:
                self.groups[gid] = grp.getgrgid(gid).gr_name if self.local else str(gid)
            except KeyError:
                self.groups[gid] = str(gid)
        return self.groups[gid]

    def persons(self) -> Iterator[Member]:
        """The persons with their groups."""
        for login, (uid, name) in self.logins.items():
            groups = frozenset(self.group(gid) for gid, uids in self.members.items() if uid in uids)
            yield Member(user=login, name=name, groups=groups)

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
    raw = _xattr(path, _ACL_XATTR)
    if raw is not None:
        return parse_acl(raw, status.st_uid, status.st_gid, need)
    nfs4 = _xattr(path, _NFS4_XATTR)
    # Behind NFSv4 the group bits are a mask at best; only the owner's are certain.
    mode = status.st_mode if nfs4 is None or nfs4_is_trivial(nfs4) else status.st_mode & 0o700
    return mode_acl(mode, status.st_uid, status.st_gid, need)


def mode_acl(mode: int, owner: int, group: int, need: int) -> Acl:
    """The permission `need` as mode bits alone give it."""
    user, team, other = (bool(mode & (need << shift)) for shift in (6, 3, 0))
    return Acl(owner, ((owner, user),), ((group, team),), other)


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


class Permissions:
    """`effective`, evaluated once for each combination of lists."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self._known: dict[tuple[frozenset[Acl], Acl], Access] = {}

    def access(self, chain: frozenset[Acl], acl: Acl) -> Access:
        key = (chain, acl)
        if key not in self._known:
            self._known[key] = effective([*chain, acl], self.accounts)
        return self._known[key]


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
