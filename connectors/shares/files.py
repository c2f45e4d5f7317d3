"""What connectors to files have in common: which to leave out, how to call them, what they are."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from assistant.model import Change, Upsert
from connectors.base import BATCH_SIZE
from connectors.paths import glob_pattern

BATCH_BYTES = 16 * 2**20
"""a batch is closed once its files hold more than this"""
DEFAULT_EXCLUDE = (
    *(".*", "~$*", "*~", "#*#", "*.tmp", "*.swp", "*.part", "*.crdownload"),
    *("Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information", "@eaDir"),
    *("lost+found", "node_modules", "__pycache__", "__MACOSX"),
)


def title(name: str) -> str:
    """What to call the file at this path: its name without the suffix."""
    return PurePosixPath(name).stem


def media_type(name: str) -> str:
    """By the suffix alone; empty when it says nothing."""
    return _MEDIA_TYPES.guess_type(name, strict=False)[0] or ""


def too_large(size: int, limit_mb: int) -> str:
    return (
        f"It has {size / 2**20:,.0f} MB, more than max_file_mb allows ({limit_mb}). "
        "It was not read; raise the setting or exclude it."
    )


def any_of(globs: Iterable[str]) -> re.Pattern[str]:
    """One expression that matches a path if any of `globs` does."""
    patterns = [glob_pattern(glob).pattern for glob in globs]
    return re.compile("|".join(patterns) if patterns else "(?!)", re.DOTALL)


_MEDIA_TYPES = mimetypes.MimeTypes()
"""Python's own table, not this machine's, with the types it lacks."""
for _suffix, _type in {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".rst": "text/x-rst",
    ".eml": "message/rfc822",
    ".msg": "application/vnd.ms-outlook",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".jsonl": "application/jsonl",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".rtf": "application/rtf",
    ".epub": "application/epub+zip",
}.items():
    _MEDIA_TYPES.add_type(_type, _suffix)


class Pending:
    """Changes that wait for their batch: at most `BATCH_SIZE` of them, and not many bytes."""

    def __init__(self) -> None:
        self._changes: list[Change] = []
        self._size = 0

    def has_room_for(self, changes: list[Change]) -> bool:
        """Whether they fit into the batch; an empty one takes anything."""
        fits = len(self._changes) + len(changes) <= BATCH_SIZE and self._size + _size(changes) <= BATCH_BYTES
        return fits or not self._changes

    @property
    def full(self) -> bool:
        """Whether nothing more fits, whatever it is."""
        return len(self._changes) >= BATCH_SIZE or self._size >= BATCH_BYTES

    def add(self, changes: list[Change]) -> None:
        self._changes += changes
        self._size += _size(changes)

    def take(self) -> tuple[Change, ...]:
        taken, self._changes, self._size = tuple(self._changes), [], 0
        return taken

    def __bool__(self) -> bool:
        return bool(self._changes)


def _size(changes: list[Change]) -> int:
    return sum(len(change.document.body) for change in changes if isinstance(change, Upsert))
