"""Settings → a wired assistant. Everything is made when first used, so a cheap command stays cheap."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import SecretStr, ValidationError

from assistant import servers
from assistant.config import Settings
from assistant.errors import ConfigError, ItemError, NotThere, SourceError
from assistant.model import Audience, Passage, Principal
from assistant.retrieve import about
from assistant.retrieve.about import About
from assistant.retrieve.scope import Scope
from assistant.store import (
    conversations,
    customers,
    escalations,
    principals,
    search,
    secrets,
    sources,
    spaces,
)
from assistant.store.blocked import Fingerprint
from assistant.store.customers import Known
from assistant.store.db import Database
from assistant.store.escalations import State
from assistant.store.sources import Source
from assistant.store.spaces import Space
from connectors.base import Connector, Notes
from connectors.network import Network
from connectors.registry import connector_class

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from llama_index.core.base.base_retriever import BaseRetriever

    from assistant.answer.engine import DeskQueryEngine, Strategy
    from assistant.answer.handoff import Delivery
    from assistant.ingest.embed import Embedder, Embedders, Vectors
    from assistant.ingest.pipeline import Pipeline
    from assistant.retrieve.attached import Attached
    from assistant.retrieve.hybrid import Retriever


ANONYMOUS = "anonymous"


class NoNotes(ConfigError):
    """The ticket's source is of a kind that Deskhand can't write to."""


class Assistant:
    """One process's Deskhand. `threads`: cores a model may use here; 0 means all."""

    def __init__(self, settings: Settings, *, threads: int | None = None) -> None:
        self.settings = settings
        self.threads = settings.threads if threads is None else threads

    @cached_property
    def database(self) -> Database:
        return Database(servers.database_url(self.settings))

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Tells what was erased, so that no sync brings it back."""
        return Fingerprint(self.settings)

    @cached_property
    def embedders(self) -> Embedders:
        from assistant.ingest.embed import Embedders

        return Embedders(self.settings, threads=self.threads)

    def live(self) -> tuple[Space, Embedder]:
        """The embedding space that answers at this moment, and its model. Another one may later."""
        with self.database.writer() as connection:
            space = spaces.live(connection)
        return space, self.embedders.of(space)

    @property
    def embedder(self) -> Embedder:
        """The model of the live space. Whoever keeps vectors keeps the space as well: see `live`."""
        return self.live()[1]

    def vector(self, question: str) -> tuple[int, Vectors]:
        """A question's vector, with the id of the space that it is of."""
        space, embedder = self.live()
        return space.id, embedder.encode_query(question)

    @cached_property
    def pipeline(self) -> Pipeline:
        from assistant.ingest.chunk import Chunker
        from assistant.ingest.parse import Parser
        from assistant.ingest.pipeline import Pipeline

        return Pipeline(
            self.database,
            parser=Parser(self.settings),
            chunker=Chunker(self.embedder.tokenizer_file),
            embedders=self.embedders,
        )

    @cached_property
    def retriever(self) -> Retriever:
        from assistant.retrieve.hybrid import Retriever

        return Retriever(self.database, self.embedders)

    @cached_property
    def generators(self) -> Callable[[], BaseChatModel]:
        """Tells the generator that answers now."""
        from assistant.generate.live import Live

        return Live(self.settings, lambda: self.database)

    @property
    def generator(self) -> BaseChatModel:
        """The generator that answers now: another one after a promotion or a rollback, wherever that was done."""
        return self.generators()

    def answering_with(self, model: BaseChatModel) -> Assistant:
        """This assistant with another generator, to measure it; all else is shared."""
        _ = self.embedder, self.database
        other = copy(self)
        other.generators = lambda: model
        return other

    def principal(self, email: str) -> Principal:
        """The person of that address; somebody who may read only what everyone may when empty."""
        if not email:
            return Principal(ANONYMOUS)
        with self.database.writer() as connection:
            return principals.load(connection, email)

    def customer(self, principal: Principal, name: str) -> Known:
        """The customer of that name, external id or domain, as far as `principal` may see it.

        Raises `ConfigError` when there is none, or several: then it lists them.
        """
        with self.database.reader(principal, Audience.INTERNAL) as connection:
            rows = search.customers(connection, name)
            if not rows:
                raise NotThere(
                    f"No customer «{name}» among the tickets you may read. Check the name, id or domain."
                )
            if len({row["stands_for"] for row in rows}) > 1:
                listed = ", ".join(f"{row['name']} ({row['external_id']})" for row in rows)
                raise ConfigError(f"«{name}» may be several customers: {listed}. Give one's id.")
            found = customers.known(connection, [rows[0]["id"]])
        assert found is not None, "its row was just read"  # noqa: S101 - states an invariant
        return found

    def about(self, principal: Principal, question: str, *, ticket: str = "") -> About:
        """Which customer and ticket a question is about, as far as `principal` may see them."""
        with self.database.reader(principal, Audience.INTERNAL) as connection:
            return about.detect(connection, question, ticket=ticket)

    def engine(self, scope: Scope, files: Sequence[Attached] = ()) -> DeskQueryEngine:
        """A query engine for one question, that sees `files` and what the scope's principal may read."""
        from assistant.retrieve.evidence import DeskRetriever

        return self.engine_over(DeskRetriever(self.retriever, scope, files=files))

    def engine_over(self, retriever: BaseRetriever, *, strategy: Strategy | None = None) -> DeskQueryEngine:
        """A query engine over any passages, as it is configured, or one that does as `strategy` says."""
        from assistant.answer import abstain
        from assistant.answer.engine import DeskQueryEngine, Strategy

        if strategy is None and self.settings.answers != "auto":
            strategy = Strategy(self.settings.answers)
        return DeskQueryEngine(
            retriever,
            self.generator,
            encode=self.embedder.encode,
            strategy=strategy,
            threshold=abstain.threshold(self.settings.answer_when),
            question_max_chars=self.settings.question_max_chars,
        )

    def escalate(
        self,
        scope: Scope,
        question: str,
        searched: str,
        *,
        message: int | None = None,
        passages: Sequence[Passage] | None = None,
    ) -> UUID:
        """Hand a question over to a person; returns the id of its record.

        `passages`: what was found for it, if it was searched just now. Raises `ConfigError`
        for somebody who is nobody in particular.
        """
        from assistant.answer import handoff
        from assistant.retrieve.evidence import evidence

        if scope.principal.id == ANONYMOUS:
            raise ConfigError(
                "Say who you are, so that they can answer you: --as EMAIL. Nothing was handed over."
            )
        if passages is None:
            passages = evidence(self.retriever, searched, scope)
        packet = handoff.packet(self.retriever, scope, searched, passages)
        with self.database.reader(scope.principal, Audience.INTERNAL) as connection:
            made = escalations.add(
                connection,
                question=question,
                packet=packet,
                message=message,
                customer=scope.customer[0] if scope.customer else None,
                ticket=scope.ticket,
            )
            conversations.audit(
                connection, actor=scope.principal.id, action="escalation.add", object=str(made)
            )
        return made

    def delivery(self, principal: Principal, name: str) -> Delivery:
        """The internal note that `deliver` would write. Raises `ConfigError` where that may not be."""
        from assistant.answer import handoff

        with self.database.reader(principal, Audience.INTERNAL) as connection:
            made = handoff.delivery(connection, name)
        with self.notes(made.source_id):
            return made

    def deliver(self, principal: Principal, note: Delivery) -> None:
        """Write what was shown, once. Raises `ConfigError`, `SourceError`; the escalation then is as it was."""
        from assistant.answer import handoff

        name = str(note.escalation)
        with (
            self.notes(note.source_id) as connector,
            self.database.reader(principal, Audience.INTERNAL) as connection,
        ):
            if handoff.delivery(connection, name) != note:
                raise ConfigError(
                    "It changed meanwhile, so nothing was written. Look at it and deliver it again."
                )
            # The row is locked from here on. If this process dies after the note is written, the
            # row stays as it was, and the note's marker tells the next try that it is there.
            escalations.move(connection, escalations.get(connection, name), State.DELIVERED)
            try:
                connector.note(note.external_id, note.text, escalations.marker(note.escalation))
            except (SourceError, ItemError) as error:
                raise SourceError(
                    f"{error} The escalation stays as it was; deliver it again when that is mended. A note that "
                    "is there already is not written twice."
                ) from error
            conversations.audit(connection, actor=principal.id, action="escalation.deliver", object=name)

    @contextmanager
    def notes(self, source_id: int) -> Generator[Notes]:
        """The connector of a source, to write internal notes with. Raises `ConfigError` where that may not be."""
        with self.database.writer() as connection:
            source = sources.by_id(connection, source_id)
        if source is None:
            raise ConfigError("The ticket's source was removed, so nothing can be written there.")
        if source.paused:
            raise ConfigError(
                f"«{source.name}» is paused ({source.paused}), so nothing was written there. Go on with it "
                f"(`deskhand source resume {source.name}`), then try again."
            )
        connector = self.connector(source)
        try:
            if not isinstance(connector, Notes):
                raise NoNotes(
                    f"Deskhand can't write notes to «{source.name}» ({source.connector}), so nothing was written. "
                    "Copy what you need from the escalation, then close it."
                )
            if not connector.notes:
                raise ConfigError(
                    f"Deskhand may not write notes to «{source.name}», so nothing was written. An admin allows it "
                    f"with `deskhand source notes {source.name} on`."
                )
            yield connector
        finally:
            connector.close()

    def migrate(self, embedder: Embedder | None = None) -> None:
        """The schema up to what this version needs; a new database gets `embedder`'s space, or the settings'."""
        from assistant.ingest import embed
        from assistant.store import schema  # SQLAlchemy and Alembic, which nothing else needs

        url = servers.database_url(self.settings)
        schema.migrate(url)
        first = embedder or embed.load(self.settings, threads=self.threads)
        schema.ensure_space(url, name=first.name, revision=first.revision, dimension=first.dimension)

    def connector(self, source: Source) -> Connector:
        """The source's connector with its settings and secrets. Raises `ConfigError`."""
        sealed = secrets.unseal(self.settings, source.secrets)
        return build_connector(source.connector, {**source.settings, **sealed}, self.network)

    @property
    def network(self) -> Network:
        """What connectors may reach here."""
        names = self.settings.allowed_hosts.split(",")
        return Network(tuple(name.strip() for name in names if name.strip()))

    def close(self) -> None:
        for name in ("pipeline", "database"):
            if name in self.__dict__:
                made = self.__dict__.pop(name)
                (made.parser if name == "pipeline" else made).close()


def build_connector(name: str, values: Mapping[str, Any], network: Network) -> Connector:
    """A connector with validated settings. Raises `ConfigError` naming each wrong one, never its value."""
    kind = connector_class(name)
    try:
        settings = kind.Settings.model_validate(dict(values))
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError(
            f"These settings of the connector «{name}» are not usable:\n" + "\n".join(lines)
        ) from None
    return kind(settings, network)


def split_secrets(name: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """`values` as plain settings and secrets, by the type of each field."""
    fields = connector_class(name).Settings.model_fields
    hidden = {k for k in values if k in fields and _is_secret(fields[k].annotation)}
    return (
        {k: v for k, v in values.items() if k not in hidden},
        {k: str(values[k]) for k in hidden},
    )


def _is_secret(annotation: object) -> bool:
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())
