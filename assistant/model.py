"""The types everything else speaks, with the standard library only.

They are frozen: a value that crossed an edge (connector, queue, database) was
validated there and cannot change afterwards. Times are aware datetimes in UTC.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

EVERYONE = "everyone"
TIMELINE = "timeline"
"""role of a passage that tells a ticket line by line"""


class Audience(StrEnum):
    """Whom a text may be shown to: `internal` never reaches a customer or a channel."""

    PUBLIC = "public"
    INTERNAL = "internal"


class Kind(StrEnum):
    DOCUMENT = "document"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `tokens` are what the store compares with a text's access tokens."""

    id: str
    tokens: frozenset[str] = frozenset({EVERYONE})

    def __post_init__(self) -> None:
        if EVERYONE not in self.tokens:
            object.__setattr__(self, "tokens", self.tokens | {EVERYONE})


class Right(StrEnum):
    """What a person may do in Deskhand; what they may read, their sources say."""

    ESCALATE = "escalate"
    """see and work on what others handed over, and write it to a ticket system as an internal note"""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may read a document. No tokens means nobody, which is also what undetermined means.

    A connector names tokens as its source does, `user:alice` or `group:staff`;
    the store prefixes them with the source's realm, so that the `staff` of two
    servers never meet. Only `everyone` is the same everywhere.
    """

    tokens: frozenset[str] = frozenset()

    @classmethod
    def public(cls) -> Access:
        return cls(frozenset({EVERYONE}))

    @classmethod
    def nobody(cls) -> Access:
        return cls()

    @classmethod
    def of(cls, *, users: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> Access:
        return cls(frozenset([f"user:{u}" for u in users] + [f"group:{g}" for g in groups]))


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a document that is text already, such as one comment of a ticket."""

    text: str
    media_type: str = "text/plain"
    audience: Audience = Audience.PUBLIC
    author: str = ""
    role: str = ""
    """`customer`, `agent` or empty"""
    created_at: dt.datetime | None = None
    is_solution: bool = False
    access: Access | None = None
    """who of the document's readers may read this too; None: all of them"""


@dataclass(frozen=True, slots=True)
class Customer:
    """The organisation (or the single person) a ticket belongs to, as its source names it."""

    external_id: str
    name: str
    domains: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a ticket's status."""

    at: dt.datetime
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Link:
    """How a ticket belongs to another item of its source."""

    relation: str
    """`merged_into`, `duplicate`, `parent`, `child`, `blocks`, `blocked_by` or `related`"""
    external_id: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket is beside its text."""

    status: str
    requester: str = ""
    requester_email: str = ""
    assignee: str = ""
    priority: str = ""
    product: str = ""
    version: str = ""
    tags: tuple[str, ...] = ()
    solved_at: dt.datetime | None = None
    satisfaction: str = ""
    events: tuple[Event, ...] = ()
    custom_fields: Mapping[str, str] = field(default_factory=dict[str, str])
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document or ticket as a connector hands it over.

    `body` is either the bytes of a file still to be parsed (`media_type` or
    the file name in `title`/`metadata["path"]` say how) or parts that are text
    already. `revision` is opaque: equal means unchanged, nothing else is read
    from it.
    """

    external_id: str
    kind: Kind
    title: str
    body: bytes | tuple[Part, ...]
    revision: str
    access: Access
    url: str = ""
    media_type: str = ""
    language: str = ""
    audience: Audience = Audience.PUBLIC
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    customer: Customer | None = None
    ticket: Ticket | None = None
    parent: str = ""
    """external id of the ticket whose attachment this is: it is deleted with it"""
    fetch: Callable[[], bytes] | None = field(default=None, compare=False)
    """gives the body, left empty here, when the revision turns out to be new; raises `ItemError`, `SourceError`"""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Upsert:
    document: SourceDocument


@dataclass(frozen=True, slots=True)
class Delete:
    external_id: str


@dataclass(frozen=True, slots=True)
class AccessChanged:
    external_id: str
    access: Access


@dataclass(frozen=True, slots=True)
class Renamed:
    """The same document under another id (a moved file): nothing is embedded again."""

    old_id: str
    new_id: str
    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Failed:
    """One item the connector could not read; the sync goes on without it.

    `parent`: external id of the item it hangs on, as an attachment does, and is read again with.
    """

    external_id: str
    reason: str
    parent: str = ""


Change = Upsert | Delete | AccessChanged | Renamed | Failed


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes and the checkpoint that stands after them; both are committed in one transaction."""

    changes: tuple[Change, ...]
    checkpoint: Mapping[str, Any]
    total: int | None = None
    """how many changes this sync expects in all, where the source tells (for a progress bar)"""


@dataclass(frozen=True, slots=True)
class Member:
    """A user of a source with the groups (nested ones resolved) the source puts them in."""

    user: str
    email: str = ""
    """only an address the source has verified, or that its admins alone can set: it decides who this is"""
    name: str = ""
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of parsed text under one heading path."""

    text: str
    """Markdown"""
    headings: tuple[str, ...] = ()
    page: int | None = None
    audience: Audience = Audience.PUBLIC
    author: str = ""
    role: str = ""
    created_at: dt.datetime | None = None
    is_solution: bool = False
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is embedded, found and cited."""

    ordinal: int
    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None
    tokens: int = 0
    audience: Audience = Audience.PUBLIC
    role: str = ""
    created_at: dt.datetime | None = None
    is_solution: bool = False
    access: Access | None = None
    """narrower than the document's, where the source says so"""


class Evidence(StrEnum):
    """What a passage is for the question it was found for."""

    DOCUMENT = "document"
    """what is true"""
    TICKET = "ticket"
    """what worked for somebody else"""
    HISTORY = "history"
    """what was tried with this customer"""


class Step(StrEnum):
    """What a line of a ticket's digest tells."""

    PROBLEM = "problem"
    TRIED = "tried"
    SOLUTION = "solution"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Line:
    """The gist of one message of a ticket, in its own words."""

    step: Step
    text: str
    at: dt.datetime | None = None
    role: str = ""
    audience: Audience = Audience.PUBLIC
    access: Access | None = None
    """narrower than the ticket's, where the source says so"""


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk found for a question, with what a reader needs to trace it."""

    chunk_id: int
    """0 for what is no chunk: the timeline of a ticket"""
    document_id: int
    text: str
    title: str
    url: str
    kind: Kind
    score: float
    """fused relevance; comparable within one query only"""
    headings: tuple[str, ...] = ()
    source: str = ""
    external_id: str = ""
    page: int | None = None
    audience: Audience = Audience.PUBLIC
    role: str = ""
    is_solution: bool = False
    customer_id: int | None = None
    created_at: dt.datetime | None = None
    attached: bool = False
    """a ticket's attachment"""
    cosine: float = 0.0
    """cosine similarity of question and chunk, -1..1"""
    bm25: float = 0.0
    evidence: Evidence = Evidence.DOCUMENT
    outcome: str = ""
    """of a ticket: `open`, `solved` or `reopened`"""


@dataclass(frozen=True, slots=True)
class Citation:
    """A marker in an answer and the words of the passage that bear it out."""

    marker: int
    """1-based, as in the text: [1]"""
    passage: Passage
    quote: str
    span: tuple[int, int]
    """character offsets of the cited sentence in the answer's text"""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: str
    """`user` or `assistant`"""
    content: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a surface shows. `refusal` is set, and `text` says so, when the sources don't have it."""

    text: str
    citations: tuple[Citation, ...]
    confidence: float
    """0..1, calibrated on questions with known answerability"""
    refusal: str = ""
    """empty, or why the question was declined, in words for a log"""
    passages: tuple[Passage, ...] = ()
    """all that was retrieved, best first; the nearest sources of a declined question"""
    question: str = ""
    """the question as it was searched, after a follow-up was rewritten"""
    model: str = ""
    timings: Mapping[str, float] = field(default_factory=dict[str, float])
    """seconds per step: rewrite, retrieve, first_token, generate, verify"""
