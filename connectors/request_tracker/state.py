"""Where a sync of Request Tracker is: its checkpoint, and what of the feed was passed over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from assistant.errors import SourceRefused

VERSION = 1
"""of the checkpoint, and of what a ticket becomes: another one reads everything anew"""
GAP_SECONDS = 1800
"""how long a transaction may be late"""
GAP_IDS = 1000
"""passed-over ids remembered at most, the highest ones"""


class State:
    """Where a sync is; `dump()` is its checkpoint."""

    def __init__(self, checkpoint: Mapping[str, Any] | None) -> None:
        known = checkpoint or {}
        if known and known.get("version") != VERSION:
            raise SourceRefused(
                "The checkpoint was written by another version. Nothing was changed; sync this source anew."
            )
        self.queues: dict[str, str] = dict(known.get("queues", {}))
        """queue → digest of what shaped its tickets"""
        self.importing: list[int] = list(known.get("importing", []))
        """queues that are still read for the first time"""
        self.after = int(known.get("after", 0))
        """the last ticket of the import that is done"""
        self.feed = int(known.get("feed", -1))
        """the last transaction seen"""
        self.gaps: list[list[int]] = [list(gap) for gap in known.get("gaps", [])]
        """[first, last, Unix time when passed over] of transactions not seen below it"""
        self.todo: list[int] = list(known.get("todo", []))
        """changed tickets that are to be read"""
        self.skip = int(known.get("skip", 0))
        """changes of the next ticket that were handed over already"""

    def dump(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "queues": dict(self.queues),
            "importing": list(self.importing),
            "after": self.after,
            "feed": self.feed,
            "gaps": [list(gap) for gap in self.gaps],
            "todo": list(self.todo),
            "skip": self.skip,
        }

    def advance(self, seen: list[int], now: int) -> None:
        """Move the feed on to the last of `seen`, remembering what was passed over."""
        for number in sorted(seen):
            if number > self.feed + 1:
                self.gaps.append([self.feed + 1, number - 1, now])
            self.feed = max(self.feed, number)
        self.trim(now)

    def trim(self, now: int) -> None:
        """Forget gaps that are old, and the lowest ids where they are too many."""
        kept: list[list[int]] = []
        room = GAP_IDS
        for first, last, since in sorted(self.gaps, reverse=True):
            if now - since > GAP_SECONDS or room <= 0:
                continue
            first = max(first, last - room + 1)
            room -= last - first + 1
            kept.append([first, last, since])
        self.gaps = kept[::-1]

    def passed_over(self) -> list[int]:
        return [number for first, last, _ in self.gaps for number in range(first, last + 1)]

    def close_gaps(self, found: set[int]) -> None:
        pieces: list[list[int]] = []
        for first, last, since in self.gaps:
            start = first
            for number in sorted(n for n in found if first <= n <= last):
                if number > start:
                    pieces.append([start, number - 1, since])
                start = number + 1
            if start <= last:
                pieces.append([start, last, since])
        self.gaps = pieces

    def queue_up(self, tickets: Iterable[int]) -> None:
        self.todo = list(dict.fromkeys([*self.todo, *tickets]))
