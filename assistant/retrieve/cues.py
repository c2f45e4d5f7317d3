"""What the wording of a question tells about the customer's tickets that it means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from assistant.text.sentences import stems


class Listing(StrEnum):
    """A question about the history as a whole."""

    OPEN = "open"
    """what is still open for them?"""
    TRIED = "tried"
    """what have we tried with them? Of one ticket: its summary"""
    OTHERS = "others"
    """have others had this?"""


_OPEN = r"\b(still open|open (tickets?|cases?|issues?|requests?|ones?)|(un|not (yet )?)(re)?solved|pending|offene?n?)\b"
_LAST = r"\b(last|latest|newest|recent(ly)?|again|once more|zuletzt|letzte[mnrs]?|wieder|erneut)\b"
_NOW = r"\b(now|currently|at present|at the moment|these days|jetzt|derzeit|aktuell)\b"
_VERSION = r"\b(versions?|releases?|builds?|running|upgraded|installed|läuft)\b"
_THEM = (
    r"\b(they|their|theirs|them|they're|this customer|(did|have|had|were) we|deren|denen|"
    r"(dieser|diesem|diesen|der|dem|den) kunden?|haben wir)\b"
)
_TRIED = (
    r"\b(tried|done|history|happened|timeline|story|summar\w+|overview|versucht|probiert|verlauf|"
    r"zusammenfass\w+|fass\w*)\b"
)
_OTHERS = r"\b(others|(other|another) (customers?|people)|(any|some)(one|body) else|andere[nr]?|sonst (noch )?jemand)\b"
_PLAIN = frozenset(
    stems(
        "what whats which anything something everything is are there still open pending unsolved unresolved ticket "
        "tickets case cases issue issues request requests customer client have has been we so far already tried try "
        "done do history happened timeline story now currently moment present last latest recent again list show "
        "tell give summary summarise summarize overview thread with for of others anyone anybody someone somebody "
        "else people another same problem seen before was wurde haben wir bei kunde kunden diesem dieser dieses das "
        "schon noch offen offene versucht probiert verlauf und ist gibt es fasse zusammen zusammenfassung andere "
        "sonst jemand gehabt"
    )
)
"""words of a question that names no topic of its own"""


@dataclass(frozen=True, slots=True)
class Cues:
    """Which of a customer's tickets the wording points at."""

    open: bool
    latest: bool
    version: bool
    them: bool
    """it speaks of the customer, or of what the desk did for them"""
    listing: Listing | None
    """it asks for all of the history, and for no topic in it"""


def cues(question: str) -> Cues:
    def has(pattern: str) -> bool:
        return re.search(pattern, question, re.I) is not None

    topical = [word for word in stems(question) if word not in _PLAIN]
    listing = None
    if not topical and has(_OPEN):
        listing = Listing.OPEN
    elif not topical and has(_OTHERS):
        listing = Listing.OTHERS
    elif not topical and has(_TRIED):
        listing = Listing.TRIED
    return Cues(
        open=has(_OPEN),
        latest=has(_LAST) or has(_NOW),
        version=has(_VERSION),
        them=has(_THEM),
        listing=listing,
    )
