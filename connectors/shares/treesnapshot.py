"""What a remote tree looked like when it was last walked, and where a walk was broken off."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, ClassVar

from connectors.shares.snapshot import Seen, Snapshot

_FOLDER = "\0"
"""before the path of a folder whose stamp is known; no file has such a name"""


class TreeSnapshot(Snapshot):
    """A file's `content` is a hash of its content, `status` one of the stamp it was listed with."""

    fingerprint: ClassVar[struct.Struct] = struct.Struct("8s8s")
    UNSETTLED: ClassVar[str] = "00" * 8
    """status of a file that has to be fetched again, whatever its stamp says"""

    def __init__(self, checkpoint: Mapping[str, Any] | None) -> None:
        self._contents: dict[str, str] = {}
        self._stamps: dict[str, str] = {}
        self._dirty = False
        super().__init__(checkpoint)
        for file, seen in self.files.items():
            self._index(file, seen)
        self._dirty = False
        self.at: str = checkpoint["at"] if checkpoint else ""
        """the file up to which a walk got that did not come to its end"""

    def set(self, file: str, seen: Seen) -> None:
        super().set(file, seen)
        self._index(file, seen)
        self._dirty = True

    def drop(self, file: str) -> None:
        super().drop(file)
        self._dirty = True

    def documents(self) -> set[str]:
        return {name for name in self.files if not name.startswith(_FOLDER)}

    def folder(self, path: str) -> str:
        seen = self.files.get(_FOLDER + path)
        return seen.status if seen is not None else ""

    def set_folder(self, path: str, stamp: str) -> None:
        if self.folder(path) != stamp:
            self.set(_FOLDER + path, Seen("00" * 8, stamp, ()))

    def by_content(self, content: str) -> str | None:
        """A known file with this content."""
        name = self._contents.get(content)
        return name if name in self.files and self.files[name].content == content else None

    def by_stamp(self, stamp: str) -> str | None:
        name = self._stamps.get(stamp)
        return name if name in self.files and self.files[name].status == stamp else None

    def changed(self, *, at: str) -> bool:
        """Whether there is something to write down."""
        return self._dirty or self.at != at

    def checkpoint(self, *, at: str = "") -> dict[str, Any]:
        self.at = at
        self._dirty = False
        return {**super().checkpoint(), "at": at}

    def _index(self, file: str, seen: Seen) -> None:
        if not file.startswith(_FOLDER):
            self._contents[seen.content] = file
            self._stamps[seen.status] = file
