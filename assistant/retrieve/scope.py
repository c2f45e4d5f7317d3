"""Whose question it is and what may be found for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from assistant.model import Audience, Principal
from assistant.store.search import Filters


@dataclass(frozen=True, slots=True)
class Scope:
    """Given with every search; who asks and for whom decide in the database, the rest narrows."""

    principal: Principal
    audience: Audience = Audience.INTERNAL
    filters: Filters = field(default_factory=Filters)
    customer: tuple[int, ...] | None = None
    """ids of the customer in question; empty: one without history; None: nobody in particular"""
    ticket: int | None = None
    """document of the ticket in question, one of that customer's"""
    without: int | None = None
    """a document that is not to be used, as the ticket that is being answered"""
