"""What a folder looked like when it was last synced, small enough to live in a checkpoint.

A checkpoint is `{"version", "files", "since", "mounts"}`. `files` packs all known
files (zlib, base64: some 20 bytes a file); `since` lists those that changed after it
was packed, so that a batch need not pack everything anew. Both together are exactly
what was handed over, at every batch: a run that was killed goes on from there.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from assistant.errors import SourceRefused

VERSION = 1


class Seen(NamedTuple):
    """One file: `content` stands for inode, size and mtime; `status` for ctime, in hex."""

    content: str
    status: str
    access: tuple[str, ...]


class Snapshot:
    """The known files by id; `set` and `drop` record a change, `checkpoint` writes it all down."""

    fingerprint: ClassVar[struct.Struct] = struct.Struct("8s4s")
    """bytes of `Seen.content` and `Seen.status`"""

    def __init__(self, checkpoint: Mapping[str, Any] | None) -> None:
        self.files: dict[str, Seen] = {}
        self.mounts: list[str] = []
        self._packed = ""
        self._since: dict[str, Seen | None] = {}
        if checkpoint is None:
            return
        if checkpoint.get("version") != VERSION:
            raise SourceRefused(
                "The checkpoint of this source was written by another version of Deskhand. Nothing "
                "was lost: reset the source's checkpoint, and the next sync reads everything again."
            )
        self.mounts = list(checkpoint["mounts"])
        self._packed = checkpoint["files"]
        self.files = _unpack(self._packed, self.fingerprint)
        for file, *seen in checkpoint["since"]:
            if seen:
                self.set(file, Seen(seen[0], seen[1], tuple(seen[2])))
            else:
                self.drop(file)

    def set(self, file: str, seen: Seen) -> None:
        self.files[file] = self._since[file] = seen

    def drop(self, file: str) -> None:
        self.files.pop(file, None)
        self._since[file] = None

    def checkpoint(self) -> dict[str, Any]:
        """The state now, as JSON values; packs anew only once the changes have piled up."""
        if len(self._since) > max(512, len(self.files) // 20):
            self._packed = _pack(self.files, self.fingerprint)
            self._since = {}
        since = [[file, *(seen or ())] for file, seen in self._since.items()]
        return {"version": VERSION, "files": self._packed, "since": since, "mounts": self.mounts}


def _pack(files: Mapping[str, Seen], fingerprint: struct.Struct) -> str:
    """Columns compress better than rows: sorted paths, access by number, then the fingerprints."""
    names = sorted(files)
    accesses = sorted({files[name].access for name in names})
    number = {access: index for index, access in enumerate(accesses)}
    head = json.dumps([names, accesses, [number[files[name].access] for name in names]]).encode()
    prints = b"".join(
        fingerprint.pack(bytes.fromhex(files[name].content), bytes.fromhex(files[name].status))
        for name in names
    )
    raw = struct.pack("<Q", len(head)) + head + prints
    return base64.b64encode(zlib.compress(raw)).decode()


def _unpack(packed: str, fingerprint: struct.Struct) -> dict[str, Seen]:
    if not packed:
        return {}
    try:
        raw = zlib.decompress(base64.b64decode(packed, validate=True))
        (length,) = struct.unpack_from("<Q", raw)
        names, accesses, numbers = json.loads(raw[8 : 8 + length])
        prints = fingerprint.iter_unpack(raw[8 + length :])
        granted = [tuple(access) for access in accesses]
        return {
            name: Seen(content.hex(), status.hex(), granted[number])
            for name, number, (content, status) in zip(names, numbers, prints, strict=True)
        }
    except (ValueError, zlib.error, struct.error, binascii.Error) as error:
        raise SourceRefused(
            "The checkpoint of this source is damaged. Nothing was lost: reset it, and the next "
            "sync reads everything again."
        ) from error
