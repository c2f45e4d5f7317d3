"""How far Redmine was read: the connector's checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

OVERLAP = 60
"""seconds that are listed again: a change may be committed after a later one, or by another clock"""
HOT = 5
"""an issue read so soon after its change may change again within the second that Redmine shows"""
LATELY = 86_400
"""seconds for which silent changes of an issue, such as an edited note, are looked for often"""
REMEMBERED = 500
"""issues at most that are looked at for those"""
DOUBTED = "?"
"""in place of a digest: to be handed over again in any case"""


class State:
    def __init__(self, checkpoint: Mapping[str, Any] | None, scope: str) -> None:
        known = checkpoint if checkpoint and checkpoint.get("scope") == scope else {}
        self.scope = scope
        self.at = int(known.get("at", 0))
        """time of the latest change that was seen"""
        self.seen: dict[int, list[Any]] = {int(n): list(entry) for n, entry in known.get("seen", {}).items()}
        """issue → time of its change, digest of what was handed over (empty: nothing), when it was read"""
        self.todo: list[list[int]] = [list(entry) for entry in known.get("todo", ())]
        """project (0: all) and the id up to which its issues were read"""
        self.full = int(known.get("full", 0))
        """when reading everything began"""
        self.checked = int(known.get("checked", 0))
        self.projects: list[int] = list(known.get("projects", ()))
        self.due: set[int] = set(known.get("due", ()))
        """issues that failed"""
        self.wikis: dict[int, set[str]] = {
            int(project): set(versions.split()) for project, versions in known.get("wikis", {}).items()
        }

    def checkpoint(self) -> dict[str, Any]:
        self._forget()
        return {
            "scope": self.scope,
            "at": self.at,
            "seen": {str(number): list(entry) for number, entry in self.seen.items()},
            "todo": [list(entry) for entry in self.todo],
            "full": self.full,
            "checked": self.checked,
            "projects": list(self.projects),
            "due": sorted(self.due),
            "wikis": {str(project): " ".join(sorted(pages)) for project, pages in self.wikis.items()},
        }

    def begin(self, now: int, reread: int) -> None:
        """Plan reading everything at first, and again when `reread` seconds have passed."""
        if not self.at:
            self.at, self.checked = now, now
        if not self.full or (not self.todo and now - self.full >= reread):
            self.full, self.todo, self.wikis = now, [[0, 0]], {}
            self._doubt()

    def expect(self, projects: Iterable[int], wikis: Iterable[int]) -> None:
        """Plan reading projects that have come (back) into sight; their issues need not have changed."""
        present = sorted(projects)
        new = [number for number in present if number not in self.projects]
        if new and (self.projects or [0, 0] not in self.todo):
            self.todo += [[number, 0] for number in new]
            self._doubt()
        self.projects = present
        self.wikis = {number: self.wikis[number] for number in wikis if number in self.wikis}

    def _doubt(self) -> None:
        """What was handed over may have been deleted since, while it was out of sight."""
        for entry in self.seen.values():
            entry[1] = entry[1] and DOUBTED

    @property
    def since(self) -> int:
        return max(self.at - OVERLAP, 0)

    def lacks(self, number: int, updated: int) -> bool:
        entry = self.seen.get(number)
        return entry is None or entry[0] != updated or entry[2] - updated <= HOT

    def read_lately(self, number: int, updated: int) -> bool:
        entry = self.seen.get(number)
        if entry is None or entry[1] in ("", DOUBTED):
            return False
        return entry[0] == updated and entry[2] >= self.full

    def differs(self, number: int, digest: str) -> bool:
        entry = self.seen.get(number)
        return entry is None or entry[1] != digest

    def recent(self, now: int) -> list[int]:
        return sorted(n for n, entry in self.seen.items() if entry[1] and entry[0] >= now - LATELY)

    def note(self, number: int, updated: int, digest: str, read: int, *, listed: int = 0) -> None:
        self.due.discard(number)
        self.at = max(self.at, listed)
        if updated >= self.at - LATELY:
            self.seen[number] = [updated, digest, read]
        else:
            self.seen.pop(number, None)

    def failed(self, number: int, *, listed: int = 0) -> None:
        self.due.add(number)
        self.at = max(self.at, listed)

    def was_checked(self, now: int) -> None:
        self.checked = now

    def reached(self, number: int) -> None:
        self.todo[0][1] = number

    def done(self) -> None:
        self.todo.pop(0)

    def has_page(self, project: int, version: str) -> bool:
        return version in self.wikis.get(project, ())

    def page(self, project: int, version: str) -> None:
        self.wikis.setdefault(project, set()).add(version)

    def pages(self, project: int, present: frozenset[str]) -> None:
        self.wikis[project] = self.wikis.get(project, set()) & present

    def _forget(self) -> None:
        """Drop what is too old to matter, and of the rest the oldest beyond the number to remember."""
        lately = {n: entry for n, entry in self.seen.items() if entry[0] >= self.at - LATELY}
        needed = {n: entry for n, entry in lately.items() if entry[0] >= self.since}
        newest = sorted(lately, key=lambda n: (lately[n][0], n), reverse=True)[:REMEMBERED]
        self.seen = {n: lately[n] for n in sorted({*needed, *newest})}
