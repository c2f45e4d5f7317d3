"""The chat over a real server: what streams, what is kept, and what becomes of it when things go wrong."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

import httpx
import pytest
from langchain_core.messages import BaseMessage

from assistant.config import Settings
from assistant.generate.echo import EchoChat
from assistant.model import Access, Delete, Kind, Member, SourceDocument, Upsert
from assistant.store import sources, sync
from tests import handed
from tests.servers.test_history import AGENT, LEAD, STRANGER, Office, agent, asked, day, ticket
from tests.servers.web import ask, events, let_in, part, serving, signed_in

PEOPLE = {AGENT: "support", LEAD: "leads", STRANGER: "sales"}
PORTS = "Which port does the sync service use?"


def manual(number: int, title: str, text: str, group: str = "") -> Upsert:
    return Upsert(
        SourceDocument(
            external_id=f"manual/{number}",
            kind=Kind.DOCUMENT,
            title=title,
            body=text.encode(),
            media_type="text/plain",
            revision="1",
            access=Access.of(groups=(group,)) if group else Access.public(),
            url=f"https://desk.example/m/{number}",
            created_at=day(1),
        )
    )


class Slow(EchoChat):
    """Says three sentences of the first source, slowly."""

    seconds: float = 0.05

    def pieces(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> Generator[str]:
        for said in (
            "The sync service uses port 8443. [1]",
            "A firewall must let port 8443 through. [1]",
            "Older versions used port 9000 instead. [1]",
        ):
            for word in said.split():
                time.sleep(self.seconds)
                yield word + " "


@pytest.fixture
def office(settings: Settings) -> Iterator[Office]:
    made = Office(settings)
    with made.assistant.database.writer() as connection:
        source = sources.get(connection, "desk")
        members = [
            Member(p.id, p.id, groups=frozenset({"support", g})) for p, g in PEOPLE.items() if g != "sales"
        ]
        sync.commit_memberships(connection, source, [*members, Member(STRANGER.id, STRANGER.id)])
    made.take(
        manual(
            1,
            "Ports of the sync service",
            "The sync service uses port 8443. A firewall must let port 8443 through. "
            "Older versions used port 9000 instead.",
        ),
        manual(2, "Master key", "The master key of the vault is kept in the red safe.", "leads"),
        ticket(101, "Sync stops", asked("Our sync stops."), agent("Open port 8443 in the firewall.", 2)),
    )
    for person in PEOPLE:
        let_in(made.assistant.database, person.id)
    yield made
    made.assistant.close()


@pytest.fixture
def url(settings: Settings, office: Office) -> Iterator[str]:
    with serving(settings) as address:
        yield address


@pytest.fixture
def slow(settings: Settings, office: Office) -> Iterator[str]:
    with serving(settings, Slow(seconds=0.15)) as address:
        yield address


def test_an_answer_streams_and_is_kept_as_it_was_told(url: str) -> None:
    with signed_in(url, AGENT.id) as client:
        parts = ask(client, PORTS)
        kinds = [p["type"] for p in parts]
        assert kinds[:2] == ["start", "data-conversation"]
        assert kinds[-3:] == ["text-end", "data-answer", "finish"]
        assert kinds.index("data-sources") < kinds.index("text-start")
        answer, talk = part(parts, "data-answer"), part(parts, "data-conversation")
        assert parts[0]["messageId"] == str(answer["id"])
        assert "".join(p["delta"] for p in parts if p["type"] == "text-delta") == answer["text"]
        cited = answer["sources"][0]
        assert cited["title"] == "Ports of the sync service"
        quote = cited["quotes"][0]
        assert "8443" in cited["text"][quote["start"] : quote["end"]]
        kept = client.get(f"/api/v1/conversations/{talk['id']}").json()
        assert [m["role"] for m in kept["messages"]] == ["user", "assistant"]
        assert kept["messages"][1] == answer
        assert kept["running"] is False
        assert client.get(f"/api/v1/chat/{talk['id']}/stream").status_code == 204


def test_a_lost_connection_loses_nothing(slow: str) -> None:
    with signed_in(slow, AGENT.id) as client, signed_in(slow, LEAD.id) as other:
        first: list[dict[str, Any]] = []
        stream = events(client, "POST", "/api/v1/chat", json={"text": PORTS})
        for one in stream:
            first.append(one)
            if one["type"] == "text-delta":
                break
        stream.close()
        talk = part(first, "data-conversation")["id"]
        assert client.get(f"/api/v1/conversations/{talk}").json()["running"] is True
        busy = client.post("/api/v1/chat", json={"text": "And now?", "conversation": talk})
        assert busy.status_code == 409
        assert other.get(f"/api/v1/chat/{talk}/stream").status_code == 204, "nobody else's stream"
        again = list(events(client, "GET", f"/api/v1/chat/{talk}/stream"))
        assert again[: len(first)] == first
        assert again[-1]["type"] == "finish"
        assert part(again, "data-answer")["text"].count("[1]") == 3


def test_stopping_keeps_what_was_said_with_its_sources(slow: str) -> None:
    with signed_in(slow, AGENT.id) as client:
        parts: list[dict[str, Any]] = []
        for one in events(client, "POST", "/api/v1/chat", json={"text": PORTS}):
            parts.append(one)
            if one["type"] == "text-delta" and sum(p["type"] == "text-delta" for p in parts) == 1:
                talk = part(parts, "data-conversation")["id"]
                assert client.post(f"/api/v1/chat/{talk}/stop").status_code == 204
        answer = part(parts, "data-answer")
        assert answer["stopped"] is True
        assert 1 <= answer["text"].count("[1]") < 3
        assert answer["sources"][0]["quotes"]
        assert parts[-1]["type"] == "finish"
        assert ask(client, "And older versions?", conversation=talk)[-1]["type"] == "finish"


def test_a_follow_up_and_a_question_asked_differently(url: str) -> None:
    with signed_in(url, AGENT.id) as client:
        talk = part(ask(client, PORTS), "data-conversation")["id"]
        second = part(ask(client, "And the firewall for it?", conversation=talk), "data-answer")
        assert "sync" in second["question"].lower(), "carried over from the question before"
        ask(client, "Which port did older versions use?", conversation=talk, replaces=second["id"])
        texts = [m["text"] for m in client.get(f"/api/v1/conversations/{talk}").json()["messages"]]
        assert texts[0] == PORTS
        assert texts[2] == "Which port did older versions use?"
        assert len(texts) == 4
        other = part(ask(client, PORTS), "data-conversation")["id"]
        wrong = client.post(
            "/api/v1/chat", json={"text": "x?", "conversation": other, "replaces": second["id"]}
        )
        assert wrong.status_code == 404


def test_two_people_get_what_each_may_read(url: str) -> None:
    question = "Where is the master key of the vault kept?"
    with signed_in(url, LEAD.id) as lead, signed_in(url, AGENT.id) as agent_:
        told = part(ask(lead, question), "data-answer")
        assert "red safe" in told["text"]
        theirs = ask(agent_, question)
        assert "red safe" not in str(theirs)
        assert "Master key" not in str(theirs)
        source = told["sources"][0]
        path = f"/api/v1/sources/{source['document_id']}?chunk={source['chunk_id']}"
        assert "red safe" in lead.get(path).json()["text"]
        assert agent_.get(path).status_code == 404


def test_anothers_conversation_is_not_there(url: str) -> None:
    with signed_in(url, AGENT.id) as client, signed_in(url, LEAD.id) as other:
        parts = ask(client, PORTS)
        talk, message = part(parts, "data-conversation")["id"], part(parts, "data-answer")["id"]
        nowhere = "00000000-0000-0000-0000-000000000000"
        for call in (
            lambda i: other.get(f"/api/v1/conversations/{i}"),
            lambda i: other.patch(f"/api/v1/conversations/{i}", json={"title": "Mine"}),
            lambda i: other.delete(f"/api/v1/conversations/{i}"),
            lambda i: other.post(f"/api/v1/conversations/{i}/share"),
            lambda i: other.delete(f"/api/v1/conversations/{i}/share"),
            lambda i: other.post("/api/v1/chat", json={"text": "And?", "conversation": i}),
        ):
            theirs, none = call(talk), call(nowhere)
            assert theirs.status_code == 404
            assert theirs.json() == none.json(), "what is another's looks as what doesn't exist"
        judged = other.post(f"/api/v1/messages/{message}/feedback", json={"verdict": "up"})
        assert judged.status_code == 404
        assert other.post(f"/api/v1/messages/{message}/escalate").status_code == 404
        assert client.get(f"/api/v1/conversations/{talk}").json()["title"] == PORTS


def test_questions_that_are_none_too_long_or_just_long(url: str, settings: Settings) -> None:
    with signed_in(url, AGENT.id) as client:
        for text in ("", "  ", "?!", "why " * 6000):
            answer = client.post("/api/v1/chat", json={"text": text})
            assert answer.status_code == 400, text[:10]
            assert "Nothing was sent" in answer.json()["detail"]
        long = ask(client, (PORTS + " It matters to us. ") * 180)
        assert long[-1]["type"] == "finish"
        assert client.get("/api/v1/conversations").json()["items"][0]["title"].endswith("…")
        assert len(client.get("/api/v1/conversations").json()["items"]) == 1
        huge = client.post("/api/v1/chat", content=b"x" * (3 * 2**20))
        assert huge.status_code == 413


def test_a_deleted_source_is_told_as_gone_and_keeps_its_quote(url: str, office: Office) -> None:
    with signed_in(url, AGENT.id) as client:
        parts = ask(client, PORTS)
        talk = part(parts, "data-conversation")["id"]
        was = part(parts, "data-answer")["sources"][0]
        handed.commit(office.assistant, [Delete("manual/1")])
        now = client.get(f"/api/v1/conversations/{talk}").json()["messages"][1]["sources"][0]
        assert now["deleted"] is True
        assert "8443" in now["text"]
        assert "Ports of" not in now["title"]
        assert client.get(f"/api/v1/sources/{was['document_id']}").status_code == 404


def test_a_session_that_ends_while_an_answer_is_written(slow: str, office: Office) -> None:
    with (
        serving(office.assistant.settings, Slow(seconds=0.6)) as slower,
        signed_in(slower, AGENT.id) as client,
    ):
        parts: list[dict[str, Any]] = []
        for one in events(client, "POST", "/api/v1/chat", json={"text": PORTS}):
            parts.append(one)
            if one["type"] == "data-conversation":
                with office.assistant.database.writer() as connection:
                    connection.execute("delete from session")
        assert parts[-1]["type"] == "error"
        assert "Sign in again" in parts[-1]["errorText"]
    with signed_in(slow, AGENT.id) as client:
        talk = part(parts, "data-conversation")["id"]
        for _ in range(100):
            kept = client.get(f"/api/v1/conversations/{talk}").json()
            if len(kept["messages"]) == 2:
                break
            time.sleep(0.2)
        assert kept["messages"][1]["text"].count("[1]") == 3, "the answer was written to its end"


def test_what_fails_is_a_sentence_and_the_question_stays(settings: Settings, office: Office) -> None:
    class Broken(EchoChat):
        def pieces(self, messages: list[BaseMessage], stop: Any = None, **kwargs: Any) -> Generator[str]:
            raise RuntimeError("boom")

    with serving(settings, Broken()) as address, signed_in(address, AGENT.id) as client:
        answer = part(ask(client, PORTS), "data-answer")
        assert "8443" in answer["text"], "the sources are still there to be quoted"


@pytest.mark.parametrize("path", ["/api/v1/session", "/api/v1/conversations"])
def test_a_database_that_is_away_is_a_sentence(settings: Settings, path: str) -> None:
    away = settings.model_copy(
        update={"database_url": type(settings.database_url)("postgresql://127.0.0.1:1/x")}
    )
    with serving(away) as address:
        answer = httpx.get(address + path, headers={"Cookie": "deskhand_session=x"}, timeout=30)
        assert answer.status_code == 503
        assert "Nothing was lost" in answer.json()["detail"]
