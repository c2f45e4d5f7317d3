"""How a record of some export becomes a ticket: a field of Deskhand → an expression.

subject              a field of the record (also `Issue id`: any name that is a field)
requester.name       a field of a field
tags[0]  tags[-1]    one element of a list
custom[id=42].value  the element of a list whose field `id` is 42
email|contact.email  the first of several that is not blank
="agent"             a constant, in double quotes
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_STEP = re.compile(r"([^.\[\]]+)|\[(-?\d+)\]|\[([^=\[\]]+)=([^\[\]]*)\]")
_UNTOLD = object()
"""where a parent is blank or a list empty: whether the field exists can't be told"""
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Expression:
    """One compiled expression."""

    source: str
    alternatives: tuple[Callable[[Mapping[str, Any]], object], ...]

    def __call__(self, record: Mapping[str, Any]) -> Any:
        """The first value that is not blank, or None."""
        for alternative in self.alternatives:
            value = alternative(record)
            if value not in (_MISSING, _UNTOLD, None, "", [], {}):
                return value
        return None

    def may_exist(self, record: Mapping[str, Any]) -> bool:
        return any(alternative(record) is not _MISSING for alternative in self.alternatives)


def compile_expression(source: str) -> Expression:
    """Raises ValueError saying what is wrong with `source`."""
    return Expression(source, tuple(_alternative(piece.strip()) for piece in _split(source)))


def _split(source: str) -> list[str]:
    pieces = re.findall(r'(?:"[^"]*"|[^|"])+', source)
    if "|".join(pieces) != source:
        raise ValueError(f"«{source}» has an empty alternative or an unclosed quote")
    return pieces


def _alternative(text: str) -> Callable[[Mapping[str, Any]], object]:
    if text.startswith("="):
        constant = re.fullmatch(r'=\s*"([^"]*)"', text)
        if constant is None:
            raise ValueError(f'a constant is written ="text", not {text}')
        return lambda _record: constant[1]
    steps: list[Callable[[Any], object]] = []
    position = 0
    for step in _STEP.finditer(text):
        gap = text[position : step.start()]
        if gap != ("." if position and step[1] else ""):
            break
        position = step.end()
        steps.append(_field(step[1]) if step[1] else _element(step[2], step[3], step[4]))
    if position != len(text) or not steps:
        steps = [_field(text)]

    def find(record: Mapping[str, Any]) -> object:
        if text in record:  # a name may hold dots and brackets itself
            return record[text]
        value: Any = record
        for step in steps:
            value = step(value)
            if value is _MISSING or value is _UNTOLD:
                break
        return value

    return find


def _field(name: str) -> Callable[[Any], object]:
    def step(value: Any) -> object:
        if isinstance(value, dict):
            return cast("dict[str, Any]", value).get(name, _MISSING)
        return _UNTOLD if value in (None, "", []) else _MISSING

    return step


def _element(index: str | None, key: str, wanted: str) -> Callable[[Any], object]:
    def step(value: Any) -> object:
        if not isinstance(value, list):
            return _UNTOLD if value in (None, "") else _MISSING
        elements = cast("list[Any]", value)
        if index is None:
            fields = [cast("dict[str, Any]", e) for e in elements if isinstance(e, dict)]
            return next((e for e in fields if str(e.get(key)) == wanted), _UNTOLD)
        try:
            return elements[int(index)]
        except IndexError:
            return _UNTOLD

    return step


def _checked(source: str) -> str:
    if source:
        compile_expression(source)
    return source


Path = Annotated[str, AfterValidator(_checked)]
"""Settings type of an expression; empty means the field is not there"""


class _Mapping(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CustomerMapping(_Mapping):
    id: Path = Field(default="", description="What identifies the organisation or person.")
    name: Path = Field(default="", description="Its name; default: the id.")
    domains: Path = Field(default="", description="E-mail domain(s) of the organisation.")
    attributes: dict[str, Path] = Field(
        default_factory=dict[str, str], description="Further facts by name, such as plan or region."
    )


class RepliesMapping(_Mapping):
    """`list` is found in the record, all others in each of its elements."""

    list: Path = Field(default="", description="The list of replies in the record.")
    text: Path = Field(default="", description="The reply's text.")
    author: Path = Field(default="", description="Who wrote it.")
    email: Path = Field(default="", description="The author's address, to tell the requester from others.")
    role: Path = Field(default="", description="customer or agent; see role_values.")
    created: Path = Field(default="", description="When it was written.")
    public: Path = Field(
        default="",
        description="Whether the customer sees it; blank or unreadable means internal. Unmapped: all public.",
    )
    is_solution: Path = Field(default="", description="Whether it solved the ticket.")
    drop_if: Path = Field(default="", description="Replies for which this is true are left out (spam).")


class EventsMapping(_Mapping):
    """`list` is found in the record, all others in each of its elements."""

    list: Path = Field(default="", description="The list of status changes in the record.")
    at: Path = Field(default="", description="When the status changed.")
    old: Path = Field(default="", description="The status before.")
    new: Path = Field(default="", description="The status after.")


class TicketMapping(_Mapping):
    id: Path = Field(default="", description="What identifies the ticket.")
    title: Path = Field(default="", description="Its subject.")
    text: Path = Field(default="", description="The question as it was first asked.")
    url: Path = Field(default="", description="Where people open the ticket.")
    created: Path = Field(default="", description="When it was opened.")
    updated: Path = Field(default="", description="When it last changed.")
    status: Path = Field(default="", description="Its status; see status_values.")
    priority: Path = Field(default="", description="Its priority.")
    product: Path = Field(default="", description="The product it is about.")
    version: Path = Field(default="", description="The product's version.")
    tags: Path = Field(default="", description="A list, or text with commas.")
    language: Path = Field(default="", description="Language code.")
    requester: Path = Field(default="", description="Name of who asked.")
    requester_email: Path = Field(default="", description="Address of who asked.")
    assignee: Path = Field(default="", description="Who worked on it.")
    satisfaction: Path = Field(default="", description="The customer's rating.")
    solved_at: Path = Field(default="", description="When it was solved; default: from events or solution.")
    customer: CustomerMapping = Field(default=CustomerMapping(), description="Whom the ticket belongs to.")
    replies: RepliesMapping = Field(default=RepliesMapping(), description="The conversation.")
    events: EventsMapping = Field(default=EventsMapping(), description="Changes of status.")
    metadata: dict[str, Path] = Field(
        default_factory=dict[str, str], description="Further fields to keep, by name."
    )


PRESETS: dict[str, TicketMapping] = {
    "deskhand": TicketMapping.model_validate(
        {field: field for field in ("id", "url", "created", "updated", "status", "priority", "product")}
        | {field: field for field in ("version", "tags", "language", "assignee", "satisfaction")}
        | {
            "title": "subject",
            "text": "body",
            "requester": "requester.name|requester.email",
            "requester_email": "requester.email",
            "customer": {
                "id": "organisation.id|requester.email",
                "name": "organisation.name|requester.name",
                "domains": "organisation.domain",
                "attributes": {"plan": "organisation.plan", "region": "organisation.region"},
            },
            "replies": {
                "list": "replies",
                "text": "body",
                "author": "author|email",
                "email": "email",
                "role": "role",
                "created": "created",
                "public": "public",
                "is_solution": "is_solution",
            },
            "events": {"list": "events", "at": "at", "old": "from", "new": "to"},
        }
    ),
}
"""Mappings to name instead of writing; `deskhand` is the neutral format."""


def merged(preset: TicketMapping, mapping: TicketMapping) -> TicketMapping:
    """`preset` with what `mapping` sets in place of it."""

    def over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
        both = base | top
        for key in base.keys() & top.keys():
            if isinstance(base[key], dict):
                both[key] = over(base[key], top[key])
        return both

    chosen = over(preset.model_dump(exclude_unset=True), mapping.model_dump(exclude_unset=True))
    return TicketMapping.model_validate(chosen)


def missing_fields(mapping: TicketMapping, records: list[dict[str, Any]]) -> dict[str, str]:
    """Field → expression, for those that name nothing in any of `records`.

    A field of a blank parent or of an element of an empty list is given the benefit of the doubt.
    """
    missing = {
        field: source
        for field, source in _sources(mapping.model_dump(exclude={"replies", "events"}))
        if not _named(source, records)
    }
    for part in (mapping.replies, mapping.events):
        prefix = "replies." if part is mapping.replies else "events."
        if not part.list:
            continue
        if not _named(part.list, records):
            missing[f"{prefix}list"] = part.list
            continue
        find = compile_expression(part.list)
        lists = [find(record) for record in records]
        elements = [e for one in lists if isinstance(one, list) for e in cast("list[Any]", one)]
        rows = [cast("dict[str, Any]", e) for e in elements if isinstance(e, dict)]
        for field, source in _sources(part.model_dump(exclude={"list"})):
            if rows and not _named(source, rows):
                missing[prefix + field] = source
    return missing


def _named(source: str, records: list[dict[str, Any]]) -> bool:
    expression = compile_expression(source)
    return any(expression.may_exist(record) for record in records)


def _sources(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _sources(cast("dict[str, Any]", value), f"{prefix}{name}.")
        elif value:
            yield prefix + name, value
