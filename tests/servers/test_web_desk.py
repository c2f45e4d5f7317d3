"""What stands around the chat: sharing, finding, files, customers, drafts, hand-offs, many conversations."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from assistant.config import Settings
from assistant.model import Access, AccessChanged, Audience, Delete, Right
from assistant.store import conversations, principals
from tests import handed
from tests.servers.test_history import ACME, AGENT, GLOBEX, LEAD, STRANGER, Office, agent, asked, ticket
from tests.servers.test_web_chat import PORTS, manual
from tests.servers.test_web_chat import office as office
from tests.servers.test_web_chat import url as url
from tests.servers.web import ask, events, part, serving, signed_in

KEY = "Where is the master key of the vault kept?"


@pytest.fixture
def talk(url: str) -> Iterator[tuple[httpx.Client, str]]:
    """A lead's conversation that rests on what everyone may read."""
    with signed_in(url, LEAD.id) as client:
        yield client, part(ask(client, PORTS), "data-conversation")["id"]


def link(client: httpx.Client, talk: str) -> str:
    path = client.post(f"/api/v1/conversations/{talk}/share").raise_for_status().json()["url"]
    return f"/api/v1{path}"


def test_a_link_opens_for_whoever_may_read_all_of_it(talk: tuple[httpx.Client, str], url: str) -> None:
    client, id_ = talk
    path = link(client, id_)
    assert link(client, id_) == path, "the same link is told again"
    assert client.get(f"/api/v1/conversations/{id_}").json()["share"] == path.removeprefix("/api/v1")
    with signed_in(url, STRANGER.id) as other:
        seen = other.get(path).raise_for_status().json()
        assert (seen["mine"], seen["messages"][0]["text"]) == (False, PORTS)
        assert seen["messages"][1]["sources"][0]["title"] == "Ports of the sync service"
        assert other.get(f"/api/v1/conversations/{id_}").status_code == 404, "the id alone opens nothing"
        assert other.get(path + "x").status_code == 404
        assert client.delete(f"/api/v1/conversations/{id_}/share").status_code == 204
        assert other.get(path).status_code == 404
        assert link(client, id_) != path, "a link that was taken back stays dead"
    assert httpx.get(url + path).status_code == 401


def test_a_link_opens_nothing_that_its_reader_may_not_read(
    talk: tuple[httpx.Client, str], url: str, office: Office
) -> None:
    client, id_ = talk
    path = link(client, id_)
    with signed_in(url, AGENT.id) as other:
        assert other.get(path).status_code == 200
        first = client.get(f"/api/v1/conversations/{id_}").json()["messages"][0]["id"]
        answer = part(ask(client, KEY, conversation=id_, replaces=first), "data-answer")
        assert "red safe" in answer["text"]
        assert other.get(path).status_code == 404, "it rests on what the agent may not read"
        handed.commit(office.assistant, [AccessChanged("manual/2", Access.public())])
        assert other.get(path).status_code == 200
        handed.commit(office.assistant, [Delete("manual/2")])
        assert other.get(path).status_code == 404, "what is gone can't be judged"
        assert client.get(f"/api/v1/conversations/{id_}").status_code == 200


def test_a_declined_question_is_shared_only_with_who_may_read_the_nearest(url: str, office: Office) -> None:
    with signed_in(url, LEAD.id) as client, signed_in(url, AGENT.id) as other:
        parts = ask(client, "What does the master key of the vault weigh in ounces of FX-9999?")
        answer = part(parts, "data-answer")
        assert answer["declined"]
        assert "Master key" in answer["text"]
        assert "Master key" in [source["title"] for source in answer["nearest"]]
        assert other.get(link(client, part(parts, "data-conversation")["id"])).status_code == 404


def test_a_private_note_is_not_shared_by_way_of_its_ticket(url: str, office: Office) -> None:
    office.take(
        ticket(
            300,
            "Vault of Acme",
            asked("How do we open our vault?"),
            agent(
                "The vault's code is 4711-0815.",
                audience=Audience.INTERNAL,
                access=Access.of(groups=("leads",)),
            ),
        )
    )
    question = "What is the code of the Acme vault?"
    with signed_in(url, LEAD.id) as client, signed_in(url, AGENT.id) as other:
        parts = ask(client, question)
        assert "4711-0815" in part(parts, "data-answer")["text"]
        path = link(client, part(parts, "data-conversation")["id"])
        assert other.get(path).status_code == 404
        # Indexed anew, its passage has another number: then all of the ticket must be readable.
        with office.assistant.database.owner() as connection:
            connection.execute("update citation set chunk_id = null")
        assert other.get(path).status_code == 404
        assert client.get(path).status_code == 200


def test_conversations_are_listed_searched_renamed_and_removed(talk: tuple[httpx.Client, str]) -> None:
    client, id_ = talk
    second = part(ask(client, KEY), "data-conversation")["id"]

    def found(**query: str) -> list[str]:
        return [item["id"] for item in client.get("/api/v1/conversations", params=query).json()["items"]]

    assert found() == [second, id_]
    assert found(query="8443") == [id_], "in an answer, too"
    assert found(query="%") == [] == found(query="_")
    assert client.patch(f"/api/v1/conversations/{id_}", json={"title": " <b>Ports</b>\n"}).status_code == 204
    assert client.get(f"/api/v1/conversations/{id_}").json()["title"] == "<b>Ports</b>"
    assert client.patch(f"/api/v1/conversations/{id_}", json={"title": ""}).status_code == 422
    assert client.delete(f"/api/v1/conversations/{id_}").status_code == 204
    assert found() == [second]
    assert client.get("/api/v1/conversations", params={"before": "yesterday"}).status_code == 400


def test_five_thousand_conversations_are_listed_and_searched_fast(url: str, office: Office) -> None:
    with office.assistant.database.owner() as connection:
        connection.execute(
            "insert into conversation (principal_id, title, surface, updated_at)"
            " select %s, 'Talk ' || n, 'web', now() - make_interval(mins => n) from generate_series(1, 5000) n",
            (AGENT.id,),
        )
        connection.execute(
            "insert into message (conversation_id, role, content) select id, r, title || repeat(' is about this', 40)"
            " from conversation, unnest('{user,assistant,user,assistant}'::text[]) r"
        )
        connection.execute("analyze conversation")
        connection.execute("analyze message")
    with signed_in(url, AGENT.id) as client:
        seen: list[str] = []
        before, slowest = "", 0.0
        for _ in range(10):
            began = time.monotonic()
            page = client.get("/api/v1/conversations", params={"before": before}).json()
            slowest = max(slowest, time.monotonic() - began)
            seen += [item["title"] for item in page["items"]]
            before = page["next"]
        assert seen == [f"Talk {n}" for n in range(1, 501)]

        def found(query: str, before: str = "") -> tuple[list[str], str]:
            nonlocal slowest
            began = time.monotonic()
            page = client.get("/api/v1/conversations", params={"query": query, "before": before}).json()
            slowest = max(slowest, time.monotonic() - began)
            return [item["title"] for item in page["items"]], page["next"]

        assert found("talk 4321 IS") == (["Talk 4321"], None)
        assert found("a word that nobody said") == ([], None)
        everywhere, place = found("IS about")
        assert everywhere == [f"Talk {n}" for n in range(1, 51)]
        assert found("is about", place)[0] == [f"Talk {n}" for n in range(51, 101)]
        print(f"the slowest {slowest:.3f} s")
        assert slowest < 1, "on a core that others use; alone it is a few ms"


def test_a_file_is_context_of_one_question_and_stays_its_senders(url: str) -> None:
    text = "The lantern firmware of the harbour is version 7.3.1. It was flashed by the night shift."
    question = "Which version is the lantern firmware of the harbour?"
    with signed_in(url, AGENT.id) as client, signed_in(url, LEAD.id) as other:
        sent = client.post("/api/v1/files", params={"name": "notes.txt"}, content=text.encode())
        file = sent.raise_for_status().json()
        assert (file["name"], file["chars"]) == ("notes.txt", len(text))
        parts = ask(client, question, files=[file["id"]])
        answer = part(parts, "data-answer")
        assert "7.3.1" in answer["text"]
        assert part(parts, "data-sources")[0]["title"] == "notes.txt"
        assert "7.3.1" in answer["sources"][0]["text"]
        assert "not kept" in answer["sources"][0]["title"]
        theirs = other.post("/api/v1/chat", json={"text": question, "files": [file["id"]]})
        assert theirs.status_code == 404
        empty = client.post("/api/v1/files", params={"name": "empty.txt"}, content=b"")
        assert empty.status_code == 400
        assert "7.3.1" not in str(ask(client, question)), "it was for that question"


def test_two_hundred_megabytes_are_refused_while_they_come(url: str) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 2**20
            yield b"x" * 2**20

    with signed_in(url, AGENT.id) as client:
        for headers in ({}, {"Content-Length": str(200 * 2**20)}):
            answer = client.post(
                "/api/v1/files", params={"name": "big.txt"}, content=pieces(), headers=headers
            )
            assert answer.status_code == 413
            assert "20 MB" in answer.json()["detail"]
        assert client.get("/api/v1/session").status_code == 200


def test_of_another_customers_ticket_names_are_not_told(url: str, office: Office) -> None:
    office.take(
        ticket(
            400,
            "Globex uploads stop with FS-1042",
            asked("Globex uploads stop with FS-1042 behind the proxy of Globex."),
            agent(
                "FS-1042 at **Globex**: raise the proxy's limit for `uploads` to 4 GB.", 2, is_solution=True
            ),
            customer=GLOBEX,
            status="solved",
        )
    )
    with signed_in(url, AGENT.id) as client:
        acme = client.get("/api/v1/customers", params={"query": "acme"}).json()["items"][0]["id"]
        parts = ask(client, "What helps with FS-1042 uploads behind a proxy?", customer=acme)
        talk = part(parts, "data-conversation")["id"]
        told = [*part(parts, "data-answer")["sources"], *part(parts, "data-answer")["nearest"]]
        source = next(s for s in told if s["evidence"] == "ticket")
        kept = client.get(f"/api/v1/conversations/{talk}").json()["messages"][1]
        place = f"/api/v1/sources/{source['document_id']}?chunk={source['chunk_id']}"
        beside = client.get(f"{place}&customer={acme}").json()
        assert "4 GB" in beside["text"]
        for shown in (parts, kept, beside):
            assert "Globex" not in str(shown)
        assert "Globex" in client.get(place).json()["text"], (
            "an agent who may read the ticket opens it as it is"
        )


def test_characters_that_are_none_and_numbers_too_large(url: str) -> None:
    with signed_in(url, AGENT.id) as client:
        assert client.get("/api/v1/conversations?query=%00").status_code == 400
        assert client.get("/api/v1/customers?query=%00").status_code == 400
        text = json.dumps({"text": "Which port\x00 does the \ud800 sync service use?"})
        parts = events(
            client, "POST", "/api/v1/chat", content=text, headers={"Content-Type": "application/json"}
        )
        assert [one["type"] for one in parts][-1] == "finish"
        for body in ({"text": "x?", "customer": 2**40}, {"text": "x?", "replaces": 2**70}):
            assert client.post("/api/v1/chat", json=body).status_code == 422
        assert client.get(f"/api/v1/sources/{2**80}").status_code == 422


def test_customers_their_history_and_a_ticket(url: str) -> None:
    with signed_in(url, AGENT.id) as client, signed_in(url, STRANGER.id) as other:
        (row,) = client.get("/api/v1/customers", params={"query": "acm"}).json()["items"]
        assert (row["name"], row["tickets"], row["open"]) == (ACME.name, 1, 1)
        told = client.get(f"/api/v1/customers/{row['id']}/history").json()
        assert [t["title"] for t in told["timeline"]] == ["Sync stops"]
        assert told["timeline"][0]["lines"][0]["kind"] == "problem"
        for reference in ("101", "#101", "https://desk.example/t/101"):
            found = client.get("/api/v1/tickets", params={"reference": reference}).json()
            assert (found["title"], found["customer"]["name"]) == ("Sync stops", ACME.name)
        assert other.get("/api/v1/customers").json()["items"] == []
        assert other.get(f"/api/v1/customers/{row['id']}/history").status_code == 404
        assert other.get("/api/v1/tickets", params={"reference": "101"}).status_code == 404
        assert client.get("/api/v1/suggestions").json() == ["Sync stops"]
        assert other.get("/api/v1/suggestions").json() == []
        parts = ask(client, "What was tried?", customer=row["id"])
        about = part(parts, "data-conversation")["about"]
        assert (about["customer"]["name"], about["how"]) == (ACME.name, "as you said")
        again = ask(client, "And the port?", conversation=part(parts, "data-conversation")["id"])
        assert part(again, "data-conversation")["about"]["how"] == "as before"


def test_a_draft_streams_and_is_of_public_material(url: str, office: Office) -> None:
    office.take(
        manual(3, "Sync stops for staff", "When the sync stops, never tell them of the outage.", "support"),
        ticket(
            102,
            "The sync stops again",
            asked("The sync stops again, which port does the sync service use?"),
            agent("They did not pay.", audience=Audience.INTERNAL),
        ),
    )
    with signed_in(url, AGENT.id) as client:
        parts = list(events(client, "POST", "/api/v1/drafts", json={"ticket": "102"}))
        answer = part(parts, "data-answer")
        assert "8443" in answer["text"]
        assert answer["text"].startswith("Hi Ana,")
        assert "pay" not in str(parts)
        judged = client.post(f"/api/v1/messages/{answer['id']}/feedback", json={"verdict": "accepted"})
        assert judged.status_code == 204
        assert client.get("/api/v1/conversations").json()["items"] == [], "a draft is no conversation"
        assert client.post("/api/v1/drafts", json={"ticket": "999"}).status_code == 404


def test_verdicts_are_ones_own_and_told_again(talk: tuple[httpx.Client, str]) -> None:
    client, id_ = talk

    def said() -> list[tuple[str, int | None]]:
        message = client.get(f"/api/v1/conversations/{id_}").json()["messages"][1]
        return [(v["verdict"], v["marker"]) for v in message["feedback"] or []]

    message = client.get(f"/api/v1/conversations/{id_}").json()["messages"][1]["id"]
    path = f"/api/v1/messages/{message}/feedback"
    assert client.post(path, json={"verdict": "up"}).status_code == 204
    assert client.post(path, json={"verdict": "down", "comment": "too short"}).status_code == 204
    assert client.post(path, json={"verdict": "source_outdated", "marker": 1}).status_code == 204
    assert said() == [("down", None), ("source_outdated", 1)]
    assert client.post(path, json={"verdict": "source_wrong", "marker": 9}).status_code == 400
    assert client.post(path, json={"verdict": "solved"}).status_code == 422


def test_a_hand_off_goes_from_the_asker_to_a_colleague(url: str, office: Office) -> None:
    with office.assistant.database.writer() as connection:
        principals.allow(connection, LEAD.id, Right.ESCALATE)
    question = "Why does the flux capacitor FX-9999 overheat?"
    with (
        signed_in(url, AGENT.id) as client,
        signed_in(url, LEAD.id) as lead,
        signed_in(url, STRANGER.id) as other,
    ):
        answer = part(ask(client, question, ticket="101"), "data-answer")
        made = client.post(f"/api/v1/messages/{answer['id']}/escalate").raise_for_status().json()
        path = f"/api/v1/escalations/{made['id']}"
        assert made["packet"]["question"] == question
        assert question in made["packet"]["text"]
        assert made["packet"]["ticket"] == "https://desk.example/t/101"
        assert [row["mine"] for row in lead.get("/api/v1/escalations").json()] == [False]
        assert other.get("/api/v1/escalations").json() == []
        assert [other.get(path).status_code, other.post(path + "/take").status_code] == [404, 404]
        assert lead.post(path + "/take").json()["state"] == "taken"
        assert lead.post(path + "/take").status_code == 400, "somebody has it already"
        assert lead.post(path + "/deliver").status_code == 400, "this source can't be written to"
        assert client.post(path + "/deliver").status_code == 400, "that takes the right"
        assert lead.post(path + "/close", json={"note": "Cooled."}).json()["state"] == "closed"
        assert client.get("/api/v1/escalations").json() == []
        assert client.get("/api/v1/escalations?state=closed").json()[0]["note"] == "Cooled."


def test_the_broker_away_is_a_sentence_and_reading_goes_on(settings: Settings, office: Office) -> None:
    away = settings.model_copy(update={"redis_url": type(settings.redis_url)("redis://127.0.0.1:1/0")})
    with office.assistant.database.reader(AGENT, Audience.INTERNAL) as connection:
        talk = conversations.start(connection, title="Old", surface="web")
    with serving(away) as address, signed_in(address, AGENT.id) as client:
        assert client.get("/api/v1/conversations").json()["items"][0]["id"] == str(talk)
        answer = client.post("/api/v1/chat", json={"text": PORTS})
        assert answer.status_code == 503
        assert "Nothing was lost" in answer.json()["detail"]
