"""Walking a remote tree of files, always in the same order, so that a walk can be taken up where it stopped."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from assistant.errors import ItemError, SourceRefused
from assistant.model import Access
from connectors.shares.files import any_of

MAX_DEPTH = 100
"""folders within folders; deeper is a loop of links on the server"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file as its source lists it. `handle` opens it; the source alone knows how."""

    id: str
    """its path, as valid text"""
    handle: Any
    size: int
    stamp: str
    """another one whenever the content may be another"""
    modified: dt.datetime | None = None
    access: Access | None = None
    """as the source says; None: its settings say it"""
    settled: bool = True
    """False: it may still be changed without its stamp moving, as within one tick of a clock"""
    lasting: bool = False
    """no other file ever has this stamp, and a file keeps it when it is moved"""


@dataclass(frozen=True, slots=True)
class Folder:
    id: str
    handle: Any
    stamp: str = ""
    """another one whenever anything below changed; empty where the source has nothing of the kind"""
    context: Any = None


@dataclass(frozen=True, slots=True)
class Unseen:
    """A folder or file that could not be looked at: nothing in it is known to be gone."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Same:
    """A folder whose stamp says that nothing below it changed; it was not looked into."""

    id: str


@dataclass(frozen=True, slots=True)
class Whole:
    """A folder with a stamp that was looked into to its end."""

    id: str
    stamp: str


def as_text(name: bytes) -> str:
    """A name as valid text: bytes that are no UTF-8 are spelt out, as in `caf\\xe9.txt`, and so is NUL."""
    return name.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


Found = Entry | Unseen | Same | Whole
Listed = Entry | Folder | Unseen
ListFolder = Callable[[Folder], "Iterable[Listed] | None"]
"""What a folder holds, None when it is gone; raises `ItemError` when it can't be listed, `SourceError`"""
Known = Callable[[Folder], bool]


class Selection:
    """Which paths the settings take: exclude first, for a file and all folders above it, then include."""

    def __init__(self, include: Iterable[str], exclude: Iterable[str]) -> None:
        self._include = any_of(include)
        self._exclude = any_of(exclude)

    def excludes(self, path: str) -> bool:
        """This one path; whoever comes by way of its folders has asked for those."""
        return self._exclude.fullmatch(path) is not None

    def excludes_above(self, path: str) -> bool:
        return any(self.excludes(path[: match.start()]) for match in re.finditer("/", path))

    def includes(self, path: str) -> bool:
        return self._include.fullmatch(path) is not None


@dataclass(slots=True)
class _Step:
    """A folder on the way from the top to where the walk is."""

    folder: Folder
    rest: Iterator[Listed]
    whole: bool
    """everything in it is looked at in this walk"""


def walk(
    top: Folder, list_folder: ListFolder, selection: Selection, *, after: str = "", known: Known | None = None
) -> Iterator[Found]:
    """What lies in `top`, depth first, each folder's entries by name; what comes up to `after` is left out.

    Folders for which `known` is true are not looked into. Raises `SourceRefused` when
    the top itself is missing or can't be listed.
    """
    if known is not None and top.stamp and known(top):
        yield Same(top.id)
        return
    steps = [_Step(top, _top(top, list_folder), whole=not after)]
    while steps:
        step = steps[-1]
        item = next(step.rest, None)
        if item is None:
            steps.pop()
            if step.folder.stamp and step.whole:
                yield Whole(step.folder.id, step.folder.stamp)
            continue
        if selection.excludes(item.id):
            continue
        if isinstance(item, Unseen):
            yield item
        elif isinstance(item, Entry):
            if selection.includes(item.id) and not _passed(item.id, after):
                yield item
        elif not (entered := _leads_to(item.id, after)) and _passed(item.id, after):
            continue
        elif known is not None and item.stamp and known(item):
            yield Same(item.id)
        elif len(steps) > MAX_DEPTH:
            yield Unseen(item.id, f"More than {MAX_DEPTH} folders lie within each other there. Exclude it.")
        else:
            try:
                listed = list_folder(item)
            except ItemError as error:
                yield Unseen(item.id, str(error))
                continue
            if listed is not None:
                if not item.stamp:
                    for above in steps:
                        above.whole = False
                steps.append(_Step(item, _ordered(listed), whole=not entered))


def _top(top: Folder, list_folder: ListFolder) -> Iterator[Listed]:
    try:
        listed = list_folder(top)
    except ItemError as error:
        raise SourceRefused(
            f"The top folder can't be read. {error} Nothing was changed or deleted."
        ) from error
    if listed is None:
        raise SourceRefused(
            "The folder to be read does not exist on the server. Nothing was changed or deleted; correct the "
            "source's setting, or remove the source if it is gone for good."
        )
    return _ordered(listed)


def _ordered(listed: Iterable[Listed]) -> Iterator[Listed]:
    """By name. Of two with one name neither can be told from the other, so neither is taken."""
    items: dict[str, list[Listed]] = {}
    for item in listed:
        items.setdefault(item.id, []).append(item)
    for name in sorted(items, key=lambda path: path.rpartition("/")[2]):
        one, *others = items[name]
        yield Unseen(name, "The server lists this name twice. Rename one of the two.") if others else one


def _passed(path: str, after: str) -> bool:
    return bool(after) and path.split("/") <= after.split("/")


def _leads_to(folder: str, after: str) -> bool:
    return after.startswith(f"{folder}/")
