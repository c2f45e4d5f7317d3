"""One pass over a folder of a share: which files there are, and what could not be seen."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from assistant.errors import SourceBusy, SourceRefused
from connectors.shares.files import any_of
from connectors.shares.listing import File, Listing
from connectors.shares.snapshot import Seen
from connectors.smb.wire import DIRECTORY, GONE, SURROGATE, Entry, Refused, Server

_TRIES = 4
_NO_FILE_ID = (0, 2**64 - 1)


@dataclass(frozen=True, slots=True)
class SmbFile(File):
    """`path` is the one from the share's top, with backslashes; times are the server's."""

    created: int
    written: int


class Lister:
    """`salt` and `access_salt` stand for settings: where they change, every file is due."""

    def __init__(
        self,
        share: str,
        folder: str,
        *,
        include: Iterable[str],
        exclude: Iterable[str],
        salt: str,
        access_salt: str,
    ) -> None:
        self._share = share
        self._folder = folder
        self._include = any_of(include)
        self._exclude = any_of(exclude)
        self._salt = salt.encode()
        self._access_salt = access_salt.encode()

    def list(self, server: Server, *, limit: int | None = None) -> Listing:
        """All files, or somewhat more than `limit`; raises `SourceRefused` or `SourceBusy` about the folder."""
        for _ in range(_TRIES):
            found = self._pass(server, limit)
            if found is not None:
                return found
        raise SourceBusy(
            f"Folders of «{self._share}» on {server.name} are moved about while they are listed. Nothing was "
            "changed or deleted; it is tried again later."
        )

    def _pass(self, server: Server, limit: int | None) -> Listing | None:
        """None if a folder vanished meanwhile: it may have moved to where was looked before."""
        found = Listing()
        folders = [("", self._folder)]
        while folders and (limit is None or len(found.files) < limit):
            name, path = folders.pop()
            try:
                entries = [*server.list(self._share, path)]
            except Refused as refused:
                if not name:
                    raise SourceRefused(
                        f"«{path or self._share}» on {server.name} can't be listed: {refused}. Nothing was "
                        "changed or deleted. Is it there, and may Deskhand's account list it?"
                    ) from refused
                if refused.status in GONE:
                    return None
                found.unseen[name] = f"It can't be looked at: {refused}, or exclude it."
                continue
            for entry in sorted(entries, key=lambda entry: entry.name):
                inner = f"{path}\\{entry.name}" if path else entry.name
                shown = _text(f"{name}/{entry.name}" if name else entry.name)
                if self._exclude.fullmatch(shown) or entry.reparse_tag & SURROGATE:
                    continue
                if entry.attributes & DIRECTORY:
                    folders.append((shown, inner))
                elif self._include.fullmatch(shown):
                    if shown in found.files:
                        found.unseen[shown] = (
                            "Two files have this same name once what is no text is spelt out."
                        )
                    else:
                        found.files[shown] = self._file(shown, inner, entry)
        return found

    def _file(self, name: str, path: str, entry: Entry) -> SmbFile:
        key = struct.pack("<QQq", entry.file_id, entry.size, entry.written) + self._salt
        if entry.file_id in _NO_FILE_ID:
            key += name.encode()
        status = struct.pack("<q", entry.changed) + self._access_salt
        seen = Seen(
            content=hashlib.blake2b(key, digest_size=8).hexdigest(),
            status=f"{zlib.crc32(status):08x}",
            access=(),
        )
        return SmbFile(name, path, entry.size, seen, entry.created, entry.written)


def _text(name: str) -> str:
    """As valid text: halves of surrogate pairs, which Windows lets into names, are spelt out."""
    return name.encode("utf-8", "backslashreplace").decode()
