"""Whoever asks in whatever way: other customers' data and internal notes stay where they are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from assistant.app import Assistant
from assistant.config import Settings
from assistant.retrieve.scope import Scope
from tests.conftest import cloned
from tests.hostile import AGENT, Desk, Parrot, ask, fill, leaked, probes


@pytest.fixture(scope="module")
def filled(embedded: Settings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Nothing that is asked of it changes it, so it is indexed once."""
    with cloned(embedded, template) as url:
        assistant = Assistant(
            Settings(
                state=tmp_path_factory.mktemp("hostile"),
                models=embedded.models,
                database_url=SecretStr(url),
                generator="echo",
            )
        )
        yield fill(assistant, random.Random(1))
        assistant.close()


@pytest.fixture
def desk(filled: Desk) -> Desk:
    """With counters of its own."""
    return replace(filled)


@pytest.mark.parametrize("generator", [None, Parrot()], ids=["quoting", "a generator that repeats all"])
def test_no_canary_comes_back(
    desk: Desk, generator: Parrot | None, capfd: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(2)
    found = [(p.way, words, p.question) for p in probes(desk, dice, 64) if (words := ask(desk, p, generator))]
    assert not found, "\n".join(map(str, found))
    assert desk.passages > 200, "something was found, or nothing was proved"
    assert desk.answered > 20
    every = [w for v in desk.victims for w in (*v.identity, *v.notes)] + list(desk.secrets)
    assert not leaked("".join(capfd.readouterr()), every), "the log has ids and counts"


def test_the_canaries_are_there_for_those_who_may(desk: Desk) -> None:
    """Where nothing holds them they come back; otherwise the test above would show nothing."""
    victim = desk.victims[0]
    own = desk.assistant.customer(AGENT, victim.customer.external_id).ids
    engine = desk.assistant.engine(Scope(AGENT, customer=own))
    text = " ".join(p.text for p in engine.answer("uploads stop with FS-1042, what is noted?").passages)
    assert leaked(text, [victim.host, victim.account, *victim.notes])
    anyone = desk.assistant.engine(Scope(AGENT)).answer("uploads stop with FS-1042, what is noted?")
    strange = [w for v in desk.victims[1:] for w in v.identity]
    assert leaked(" ".join(p.text for p in anyone.passages), strange)
