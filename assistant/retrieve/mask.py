"""What one customer's ticket may tell another customer: what helped, and never whose it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from assistant.ingest import lexical
from assistant.store import history, search
from assistant.store.db import Conn

CUSTOMER, PERSON = "the customer", "the user"
ADDRESS, NUMBER, KEY, PRIVATE = "(e-mail address)", "(number)", "(key)", "(name)"

_PATTERNS = (
    (re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"), ADDRESS),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b(?!\.\d)"), "(address)"),
    (re.compile(r"(?<![\w.,/-])(?!\d{4}-\d\d-\d\d\b)\+?\(?\d[\d ()./-]{7,}\d(?![\w/-])"), NUMBER),
    (re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9_-]{20,}\b"), KEY),
    (
        re.compile(
            r"\b((?:pass(?:word|wort|phrase|code)|kennwort|pin|secret|token|(?:api|licen[cs]e|access|product)[ -]?key)"
            r"\b(?: (?:of|for|von|für) [^.:=\n]{1,40}?)?\s*(?:\b(?:is now|is|was|ist|lautet)\b\s*[:=]?|[:=])\s*)"
            r"(?:[\"'“‘`][^\"'”’`\n]+[\"'”’`]|(?=\S*[\d!@#$%^&*_+~])\S{4,}(?<![.,;!?]))",
            re.I,
        ),
        rf"\1{KEY}",
    ),
)
"""addresses, telephone and account numbers, keys and tokens, whoever they belong to, and what is said to be a secret"""
_LEGAL = re.compile(
    r"[,\s]+(?:inc|llc|ltd|limited|gmbh|ag|kg|co|corp|corporation|company|plc|sa|s\.a|srl|bv|b\.v|nv|ab|as|oy|pty|"
    r"group|holding|holdings)\.?$",
    re.I,
)
COMMON = frozenset(
    [
        "the",
        "and",
        "for",
        "new",
        "one",
        "all",
        "city",
        "first",
        "united",
        "national",
        "general",
        "global",
        "data",
        "net",
        "web",
        "home",
        "team",
        "user",
        "users",
        "admin",
        "support",
        "service",
        "services",
        "system",
        "systems",
        "software",
        "group",
        "company",
        "office",
        "test",
        "school",
        "college",
        "university",
        "bank",
        "hospital",
        "north",
        "south",
        "east",
        "west",
        "central",
        "public",
        "state",
        "mark",
        "will",
        "may",
        "grace",
        "hope",
        "bill",
        "rob",
        "sue",
        "art",
    ]
)
"""words that names are made of and that say nothing by themselves"""


class Mask:
    """Takes the names of a ticket's customer, and of whoever wrote it, out of a text.

    names: of organisations, as their sources and they themselves write them.
    people: full names; each part of one is hidden as well.
    domains: those of web and e-mail addresses.
    private: words that only tickets have, as the names of somebody's servers, files and accounts.
    """

    def __init__(
        self,
        *,
        names: Iterable[str] = (),
        people: Iterable[str] = (),
        domains: Iterable[str] = (),
        private: Iterable[str] = (),
    ) -> None:
        organisations = {form for name in names for form in _forms(name)}
        persons = {part for name in people for part in _parts(name)} - organisations
        self._names = [
            (_words(organisations), CUSTOMER),
            (_words(persons), PERSON),
            (_words({domain for domain in domains if "." in domain}, inside=True), "example.com"),
            (_words(set(private)), PRIVATE),
        ]

    def __call__(self, text: str) -> str:
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        for pattern, instead in self._names:
            if pattern is not None:
                text = pattern.sub(instead, text)
        return text


def masks(connection: Conn, texts: Mapping[int, str]) -> dict[int, Mask]:
    """For each ticket, with its text, what takes out of it whose it is; attachments get none."""
    if not texts:
        return {}
    people = history.people(connection, texts)
    named = {document: lexical.identifiers(text) for document, text in texts.items()}
    known = search.documented(connection, sorted({t for words in named.values() for t in words.values()}))
    made: dict[int, Mask] = {}
    for document, row in people.items():
        made[document] = Mask(
            names=[row["name"] or "", row["external_id"] or ""],
            people=[row["requester"] or ""],
            domains=[*(row["domains"] or ()), *row["requester_email"].rpartition("@")[2:]],
            private=[word for word, term in named[document].items() if term not in known],
        )
    return made


def unowned(connection: Conn, text: str) -> Mask:
    """What takes addresses, keys and private words out of a text that is of no ticket; names are not known here."""
    named = lexical.identifiers(text)
    known = search.documented(connection, sorted(set(named.values())))
    return Mask(private=[word for word, term in named.items() if term not in known])


def _forms(name: str) -> set[str]:
    """A name as written, without its legal form, and its first word where that is telling."""
    name = " ".join(name.split())
    if len(name) < 3 or re.fullmatch(r"[\w-]+/\d+|\d+", name):
        return set()
    short = _LEGAL.sub("", name)
    first = short.split()[0] if short.split() else ""
    telling = len(first) > 3 and first.lower() not in COMMON and not first.isdigit()
    return {name, short, *([first] if telling else [])}


def _parts(name: str) -> set[str]:
    words = [word.strip(".,") for word in name.split() if "@" not in word]
    telling = {w for w in words if len(w) > 2 and w.lower() not in COMMON}
    return {" ".join(words), *telling} if telling else set()


def _words(names: set[str], *, inside: bool = False) -> re.Pattern[str] | None:
    """Any of `names` as whole words, the longest first; `inside`: also as the end of a longer one."""
    if not names:
        return None
    listed = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if name)
    before = r"(?:[\w-]+\.)*" if inside else r"(?<!\w)"
    return re.compile(rf"{before}(?:{listed})(?:['’]s)?(?!\w)", re.I)
