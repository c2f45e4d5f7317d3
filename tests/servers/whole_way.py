"""A source on its whole way to what a person finds, step by step as the workers take it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.model import Passage, Principal
from assistant.retrieve.scope import Scope
from assistant.store import principals, sources, sync


class WholeWay:
    """One source named `name`. Keep the connector's rules as workers/sync.py does."""

    def __init__(self, settings: Settings, name: str, connector: str, values: Mapping[str, Any]) -> None:
        self.name = name
        self.assistant = Assistant(settings.model_copy(update={"allowed_hosts": "127.0.0.1"}))
        with self.assistant.database.writer() as connection:
            sources.add(
                connection,
                name=name,
                connector=connector,
                realm=name,
                settings=values,
                secrets=None,
                every_seconds=None,
            )

    def carry(self) -> None:
        """A permission sync, a sync, and the indexing of what it found."""
        database = self.assistant.database
        with database.writer() as connection:
            source = sources.get(connection, self.name)
            run = sources.request(connection, source)
        connector = self.assistant.connector(source)
        members = list(connector.memberships())
        with database.writer() as connection:
            sync.commit_memberships(connection, source, members, self.assistant.fingerprint)
        for batch in connector.sync(source.checkpoint):
            with database.writer() as connection:
                loaded = sync.load(connection, source, batch, self.assistant.fingerprint)
                sync.commit_batch(connection, source, run, loaded, self.assistant.fingerprint)
        changed = list(connector.accesses())
        with database.writer() as connection:
            sync.commit_accesses(connection, source, changed, self.assistant.fingerprint)
        connector.close()
        while self.assistant.pipeline.run_batch():
            pass

    def known_as(self, accounts: Mapping[str, str]) -> None:
        """Say whose the source's accounts are, where it has no addresses to tell."""
        with self.assistant.database.writer() as connection:
            for account, email in accounts.items():
                principals.fix(connection, source=self.name, account=account, email=email)

    def principal(self, email: str) -> Principal:
        try:
            return self.assistant.principal(email)
        except ConfigError:  # the source no longer knows such a person
            return self.assistant.principal("")

    def close(self) -> None:
        self.assistant.close()


Verdict = Callable[[str, Passage], bool]
"""whether the source shows this passage to that person"""


def leaks(
    way: WholeWay,
    *,
    people: Mapping[str, str],
    questions: Sequence[str],
    shown: Verdict,
    retrievals: int,
    dice: random.Random,
) -> tuple[list[str], int]:
    """What was found that the source refuses, and how many passages were found, by random people.

    people: name of each in the source → address.
    """
    readers = {name: way.principal(email) for name, email in people.items()}
    answered: dict[tuple[str, str, str], bool] = {}
    bad: list[str] = []
    found = 0
    for _ in range(retrievals):
        person = dice.choice(sorted(people))
        passages = way.assistant.retriever.passages(dice.choice(questions), Scope(readers[person]), limit=20)
        found += len(passages)
        for passage in passages:
            key = (person, passage.external_id, passage.audience)
            if key not in answered:
                answered[key] = shown(person, passage)
            if not answered[key]:
                bad.append(f"{person} {passage.external_id} {passage.audience}")
    return bad, found
