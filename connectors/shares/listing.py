"""One pass over a folder: which files there are, who may read them, what could not be seen."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from assistant.errors import SourceBusy, SourceRefused
from assistant.model import Access
from connectors.access import AccessRules
from connectors.paths import file_id
from connectors.shares import posix
from connectors.shares.files import any_of
from connectors.shares.snapshot import Seen

FILE_SYSTEM_AWAY = {errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH}
"""errors that concern the whole file system, not one file"""


@dataclass(frozen=True, slots=True)
class File:
    """One regular file. `path` is relative to the folder and opens it; `id` is the same as valid text."""

    id: str
    path: str
    size: int
    seen: Seen


@dataclass(slots=True)
class Listing:
    files: dict[str, File] = field(default_factory=dict[str, File])
    unseen: dict[str, str] = field(default_factory=dict[str, str])
    """folder or file that could not be looked at → why"""
    mounts: list[str] = field(default_factory=list[str])
    """folders on which another file system is mounted; "" is the folder itself"""

    def covers(self, file: str) -> bool:
        """Whether `file`, if it existed, would be in `files`."""
        return not any(file == place or file.startswith(f"{place}/") for place in self.unseen)


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    device: int
    chain: frozenset[posix.Acl]
    """traversal of this folder and of those above it"""
    linked: bool = False
    """reached through a symbolic link: links to folders are not followed any further"""


class Lister:
    """Lists `root`; with `access` None the files' own permissions decide, unless a rule does."""

    def __init__(
        self,
        root: str,
        *,
        include: Iterable[str],
        exclude: Iterable[str],
        rules: AccessRules,
        access: Access | None,
        follow_symlinks: bool,
        salt: str,
    ) -> None:
        self._root = root
        self._include = any_of(include)
        self._exclude = any_of(exclude)
        self._rules = rules
        self._access = access
        self._follow = follow_symlinks
        self._salt = salt.encode()
        self._permissions = posix.Permissions(posix.Accounts())

    def list(self, *, limit: int | None = None) -> Listing:
        """All files, or somewhat more than `limit`; raises `SourceRefused` or `SourceBusy` about `root`."""
        self._permissions = posix.Permissions(posix.Accounts.here())
        found = Listing()
        folders = [self._top(found)]
        while folders and (limit is None or len(found.files) < limit):
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(self._root, folder.path)) as entries:
                    ordered = sorted(entries, key=lambda entry: entry.name)
            except FileNotFoundError:
                if not folder.path:
                    return Listing()
                continue
            except OSError as error:
                if not folder.path:
                    raise SourceBusy(self._judge(error)) from error
                found.unseen[file_id(folder.path)] = self._judge(error)
                continue
            for entry in ordered:
                try:
                    deeper = self._entry(folder, entry, found)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    found.unseen[file_id(os.path.join(folder.path, entry.name))] = self._judge(error)
                    continue
                if deeper is not None:
                    folders.append(deeper)
        return found

    def _top(self, found: Listing) -> _Folder:
        try:
            status = os.stat(self._root)
            with os.scandir(self._root):
                pass
            chain: set[posix.Acl] = set()
            if self._access is None:
                chain = {*posix.folders_above(self._root), *self._traversal(self._root, status)}
            if os.stat(os.path.dirname(self._root)).st_dev != status.st_dev:
                found.mounts.append("")
        except OSError as error:
            if error.errno in FILE_SYSTEM_AWAY:
                raise SourceBusy(self._judge(error)) from error
            raise SourceRefused(
                f"The folder {self._root} can't be read: {error.strerror}. Nothing was changed or "
                "deleted. Is it mounted on this machine, and may Deskhand's user list it?"
            ) from error
        return _Folder("", status.st_dev, frozenset(chain))

    def _entry(self, folder: _Folder, entry: os.DirEntry[str], found: Listing) -> _Folder | None:
        """Note a file in `found`, or return the folder to go into; neither for what is left out."""
        path = os.path.join(folder.path, entry.name)
        name = file_id(path)
        if self._exclude.fullmatch(name):
            return None
        chain = folder.chain
        linked = entry.is_symlink()
        if linked:
            target = resolve_inside(self._root, path) if self._follow else None
            if target is None:
                return None
            chain |= self._traversals_to(target)
        status = entry.stat(follow_symlinks=linked)
        if stat.S_ISDIR(status.st_mode):
            if linked and (folder.linked or _leads_back(entry.path)):
                return None
            if status.st_dev != folder.device:
                found.mounts.append(name)
            chain |= self._traversal(entry.path, status)
            return _Folder(path, status.st_dev, chain, linked or folder.linked)
        if stat.S_ISREG(status.st_mode) and self._include.fullmatch(name):
            if name in found.files:
                found.unseen[name] = (
                    "Two files have this same name once bytes that are no text are spelt out."
                )
            else:
                seen = self._seen(name, entry.path, status, chain)
                found.files[name] = File(name, path, status.st_size, seen)
        return None

    def _seen(self, name: str, path: str, status: os.stat_result, chain: frozenset[posix.Acl]) -> Seen:
        access = self._rules.find(name)
        if access is None:
            access = self._access
        if access is None:
            access = self._permissions.access(chain, posix.read_acl(path, status, posix.READ))
        content = struct.pack("<QQq", status.st_ino, status.st_size, status.st_mtime_ns)
        return Seen(
            content=hashlib.blake2b(content + self._salt, digest_size=8).hexdigest(),
            status=f"{zlib.crc32(struct.pack('<q', status.st_ctime_ns)):08x}",
            access=tuple(sorted(access.tokens)),
        )

    def _traversal(self, path: str, status: os.stat_result) -> frozenset[posix.Acl]:
        if self._access is not None:
            return frozenset()
        return frozenset([posix.read_acl(path, status, posix.TRAVERSE)])

    def _traversals_to(self, target: str) -> frozenset[posix.Acl]:
        """Of the folders between the root and `target`, which a link points to."""
        acls: set[posix.Acl] = set()
        folder = os.path.dirname(target)
        while folder:
            path = os.path.join(os.path.realpath(self._root), folder)
            acls |= self._traversal(path, os.stat(path))
            folder = os.path.dirname(folder)
        return frozenset(acls)

    def _judge(self, error: OSError) -> str:
        """Why one place can't be looked at; raises `SourceBusy` when the whole file system is away."""
        if error.errno in FILE_SYSTEM_AWAY:
            raise SourceBusy(
                f"The file system of {self._root} does not answer: {error.strerror}. Nothing was "
                "changed or deleted; the sync goes on where it stopped once its server is back."
            ) from error
        return f"It can't be looked at: {error.strerror}. Give Deskhand's user the right to, or exclude it."


def resolve_inside(root: str, path: str) -> str | None:
    """`path` below `root` with all links resolved, relative to the resolved root; None if it leads out."""
    top = os.path.realpath(root)
    target = os.path.realpath(os.path.join(top, path))
    if target == top:
        return ""
    inside = target.startswith(top.rstrip("/") + "/")
    return os.path.relpath(target, top) if inside else None


def open_inside(root: str, path: str, *, follow_symlinks: bool) -> int:
    """A file descriptor of the regular file at `path` below `root`; raises `OSError`.

    Every step is opened relative to the one before and without following links, so that
    a folder that is swapped for a link meanwhile can't lead out of the root.
    """
    if follow_symlinks:
        target = resolve_inside(root, path)
        if not target:
            raise PermissionError(errno.EACCES, "it leads out of the folder")
        path = target
    *folders, name = path.split("/")
    here = os.open(os.path.realpath(root), os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            there = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = there
        # Without O_NONBLOCK a pipe put in the file's place would be waited for, forever.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    finally:
        os.close(here)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise PermissionError(errno.EACCES, "it is no regular file")
    return file


def _leads_back(link: str) -> bool:
    """Whether a link to a folder points to one it lies in."""
    target = os.path.realpath(link)
    place = os.path.realpath(os.path.dirname(link))
    return place == target or place.startswith(target.rstrip("/") + "/")
