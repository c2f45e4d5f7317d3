"""One question of a person, as every surface asks it: whom it is about, what happens, what is stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from assistant.answer import rewrite
from assistant.answer.events import Done, Event, Sources, TextDelta
from assistant.app import Assistant
from assistant.errors import ConfigError, NotThere
from assistant.model import Answer, Audience, Citation, Passage, Principal, Turn
from assistant.retrieve.about import About
from assistant.store import conversations, customers
from assistant.store.customers import Known
from assistant.store.db import clean
from assistant.store.search import Filters

if TYPE_CHECKING:
    from assistant.answer.engine import DeskQueryEngine
    from assistant.retrieve.attached import Attached


class Asking:
    """Made, the question is stored; `events` answers it and stores that as well.

    Making it raises what is wrong with it before anything happens: `QuestionRejected`, `NotThere`
    for a conversation, message, customer or ticket that isn't there for this person, `ConfigError`
    for a name that several customers have.

    `customer`: id, name or domain; None: whom the question names. `nameless`: nobody in particular, whoever
    is named: of every customer's tickets only what others may know, as where many read along.
    `history`: what was said before, if not in `conversation`. `replaces`: id of a message that is asked
    again, with all that followed.
    """

    def __init__(
        self,
        assistant: Assistant,
        principal: Principal,
        text: str,
        *,
        customer: int | str | None = None,
        ticket: str = "",
        public: bool = False,
        nameless: bool = False,
        filters: Filters | None = None,
        history: Sequence[Turn] = (),
        conversation: UUID | None = None,
        replaces: int | None = None,
        files: Sequence[Attached] = (),
        surface: str,
    ) -> None:
        text = clean(text)
        self.text = rewrite.checked(text, assistant.settings.question_max_chars)
        self.about = (
            About() if nameless else _whom(assistant, principal, text, customer, ticket, conversation)
        )
        self.scope = self.about.scope(principal, Audience.PUBLIC if public else Audience.INTERNAL, filters)
        if nameless:
            self.scope = dataclasses.replace(self.scope, customer=())
        self.answer: Answer | None = None
        self.stopped = False
        self._assistant = assistant
        self._files = files
        of = self.scope.customer[0] if self.scope.customer else None
        with assistant.database.reader(principal, self.scope.audience) as connection:
            # It is the asker's own: the policy on conversations holds for each of these.
            self.conversation = conversation or conversations.start(
                connection, title=title(text), surface=surface
            )
            conversations.go_on(connection, self.conversation, customer=of, ticket=self.scope.ticket)
            if replaces is not None:
                conversations.replace(connection, self.conversation, replaces)
            self.history = [*history, *conversations.turns(connection, self.conversation)]
            self.question = conversations.ask(connection, self.conversation, self.text)
            self.message = conversations.next_message(connection)

    def events(self) -> Generator[Event]:
        """The engine's events; the answer is stored before `Done` is told, and what there is when closed earlier.

        Raises what the engine's `stream` raises; the question stays stored then.
        """
        text, cited, found = "", list[Citation](), tuple[Passage, ...]()
        try:
            for event in self._engine().stream(self.text, history=self.history):
                if isinstance(event, Done):
                    self._store(event.answer)
                elif isinstance(event, TextDelta):
                    text += event.text
                    cited += event.citations
                elif isinstance(event, Sources):
                    found = event.passages
                yield event
        finally:
            if self.answer is None and text:
                self.stopped = True
                self._store(Answer(text, tuple(cited), 0.0, passages=found, question=self.text))

    def _engine(self) -> DeskQueryEngine:
        return self._assistant.engine(self.scope, self._files)

    def _store(self, answer: Answer) -> None:
        vector = self._assistant.vector(answer.question)
        with self._assistant.database.reader(self.scope.principal, self.scope.audience) as connection:
            conversations.reply(
                connection,
                self.conversation,
                answer,
                message=self.message,
                vector=vector,
                stopped=self.stopped,
            )
        self.answer = answer


def about(
    assistant: Assistant,
    principal: Principal,
    text: str,
    *,
    customer: int | str | None = None,
    ticket: str = "",
) -> About:
    """Whom a question is about: as whoever asks says, else as the question does."""
    if customer is None or customer == "":
        return assistant.about(principal, text, ticket=ticket)
    found = assistant.about(principal, "", ticket=ticket) if ticket else About()
    known = (
        assistant.customer(principal, customer)
        if isinstance(customer, str)
        else of_id(assistant, principal, customer)
    )
    if found.ticket and found.ticket["customer_id"] not in known.ids:
        raise ConfigError(f"Ticket «{ticket}» is not one of {known.name}. Leave one of the two out.")
    return dataclasses.replace(found, customer=known, how="as you said")


def _whom(
    assistant: Assistant,
    principal: Principal,
    text: str,
    customer: int | str | None,
    ticket: str,
    conversation: UUID | None,
) -> About:
    """A follow-up that names nobody is about whom the conversation is about."""
    found = about(assistant, principal, text, customer=customer, ticket=ticket)
    if conversation and not (found.customer or found.others or found.ticket):
        return _as_before(assistant, principal, conversation)
    return found


def _as_before(assistant: Assistant, principal: Principal, conversation: UUID) -> About:
    with assistant.database.reader(principal, Audience.INTERNAL) as connection:
        row = conversations.get(connection, conversation)
        known = customers.known(connection, [row["customer_id"]]) if row["customer_id"] else None
    return About(known, None, "as before") if known else About()


def of_id(assistant: Assistant, principal: Principal, customer: int) -> Known:
    """Raises `NotThere` for a customer none of whose tickets the person may read."""
    with assistant.database.reader(principal, Audience.INTERNAL) as connection:
        known = customers.known(connection, [customer])
    if known is None:
        raise NotThere("There is no such customer among the tickets you may read.")
    return known


def title(text: str, *, longest: int = 80) -> str:
    """A conversation's name until somebody gives it another: its first words."""
    text = " ".join(text.split())
    return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " …"
