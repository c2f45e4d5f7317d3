"""Gaps: questions that mean the same come together, with the real embedder, and nobody is named."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from assistant.app import Assistant
from assistant.config import Settings
from assistant.evaluate import gaps
from assistant.model import Answer, Audience, Kind, Passage, Principal, Upsert
from assistant.store import conversations, feedback
from assistant.store.feedback import Verdict
from tests.servers.desk import Desk, document

SINCE = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
AZURE = (
    "Can the block store be kept in Azure Blob Storage?",
    "How do I put the block store into Azure Blob Storage?",
    "azure blob storage as block store, is that possible",
    "Is Azure Blob supported for storing blocks?",
)
FREEBSD = (
    "How do I install the server on FreeBSD?",
    "Is there a server package for FreeBSD?",
    "installing your server on FreeBSD 14",
)
OTHERS = (
    "Which CVE number belongs to FHSA-2026-03?",
    "What will Team Plus cost per user?",
    "On which date will version 5.3 be released?",
    "Wie viel Akku braucht die Android-App am Tag?",
)


class Asking:
    """People with questions, and what is stored of them."""

    def __init__(self, settings: Settings) -> None:
        self.assistant = Assistant(settings)
        self.desk = Desk(self.assistant.database)
        self.desk.batch(*(Upsert(document(name)) for name in ("storage", "platforms", "prices")))
        self.desk.index()

    def document(self, name: str) -> int:
        row = self.desk.rows("select id from document where external_id = %s", name)[0]
        return int(str(row["id"]))

    def ask(
        self,
        question: str,
        who: str = "ada",
        *,
        found: tuple[str, ...] = (),
        refusal: str = "low",
        own: bool = True,
    ) -> int:
        passages = tuple(
            Passage(n, self.document(name), "", name, "", Kind.DOCUMENT, 1.0) for n, name in enumerate(found)
        )
        answer = Answer("No.", (), 0.1, refusal, passages, question, "small")
        with self.assistant.database.reader(Principal(who), Audience.INTERNAL) as connection:
            talk = conversations.start(connection, title="", surface="cli")
            vector = self.assistant.vector(question) if own else None
            return conversations.record(connection, talk, question, answer, vector=vector)

    def gaps(self, since: dt.datetime = SINCE) -> list[gaps.Gap]:
        return gaps.find(self.assistant, since=since)[0]


@pytest.fixture
def asking(settings: Settings) -> Iterator[Asking]:
    made = Asking(settings)
    yield made
    made.assistant.close()


def test_paraphrases_come_together_and_topics_stay_apart(asking: Asking) -> None:
    for who, question in enumerate(AZURE):
        asking.ask(question, f"person{who % 3}", found=("prices", "storage", "storage"), own=who % 2 == 0)
    asking.ask(AZURE[0], "person0", found=("storage",))
    for question in FREEBSD:
        asking.ask(question, found=("platforms",))
    for question in OTHERS:
        asking.ask(question)
    found = asking.gaps()
    assert [(g.questions, g.people) for g in found] == [(5, 3), (3, 1), *[(1, 1)] * len(OTHERS)]
    assert found[0].question in AZURE
    assert found[1].question in FREEBSD
    assert {g.question for g in found[2:]} == set(OTHERS)
    assert [d["title"] for d in found[0].documents] == ["Prices", "Storage"]
    assert [d["title"] for d in found[1].documents] == ["Platforms"]
    assert found[0].latest.date() == dt.datetime.now(dt.UTC).date()


def test_only_what_was_declined_or_judged_bad_is_a_gap(asking: Asking) -> None:
    fine, bad = asking.ask(AZURE[0], refusal=""), asking.ask(AZURE[1], refusal="")
    asking.ask(AZURE[2])
    for message, verdict in ((fine, Verdict.UP), (bad, Verdict.DOWN)):
        with asking.assistant.database.reader(Principal("ada"), Audience.INTERNAL) as connection:
            feedback.add(connection, message, verdict)
    assert [(g.questions, g.declined) for g in asking.gaps()] == [(2, 1)]
    assert asking.gaps(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)) == []


def test_nobody_is_named(asking: Asking) -> None:
    asking.ask("Why can't joe.doe@globex.example, phone +49 30 1234567, log in from 10.20.30.40?", "secret@x")
    found = asking.gaps()[0]
    assert found.question == "Why can't (e-mail address), phone (number), log in from (address)?"
    assert "secret" not in str(found)


def test_a_document_that_is_gone_is_not_named(asking: Asking) -> None:
    asking.ask(AZURE[0], found=("storage", "prices"))
    asking.desk.rows("delete from document where external_id = 'storage' returning id")
    assert [d["title"] for d in asking.gaps()[0].documents] == ["Prices"]
