"""OpenAI's own client asks Deskhand: streamed and not, with a conversation, and for what isn't there."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import openai
import pytest

from assistant.config import Settings
from assistant.model import Audience, Principal
from assistant.store import conversations
from tests.servers.served import ADA, EVE, SECRET, Served, data, shared

QUESTION = "Which port does the relay listen on?"
ESCROW = "Where does the escrow key of the relay lie?"


@pytest.fixture(scope="module")
def web(embedded: Settings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with shared(embedded, template, tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture(autouse=True)
def calm(redis_url: str) -> None:
    """Whatever was asked before counts for nobody's limit."""


def client(web: Served, who: str, *scopes: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{web.url}/v1", api_key=web.token(who, *scopes or ("chat",)), max_retries=0
    )


def ask(client: openai.OpenAI, question: str, *, model: str = "deskhand", **more: object):
    return client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        **more,
    )


def test_models_are_listed(web: Served) -> None:
    with client(web, ADA) as asker:
        assert [model.id for model in asker.models.list()] == ["deskhand", "deskhand-public"]
        assert asker.models.retrieve("deskhand").owned_by == "deskhand"
        with pytest.raises(openai.NotFoundError):
            asker.models.retrieve("gpt-9")


def test_an_answer_cites_its_sources(web: Served) -> None:
    with client(web, ADA) as asker:
        reply = ask(asker, QUESTION)
    message = reply.choices[0].message
    assert "7420" in message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    cited = message.annotations[0].url_citation
    assert (cited.title, cited.url) == ("About ports", "https://docs.example/ports")
    assert "7420" in message.content[cited.start_index : cited.end_index]
    assert reply.model_extra["deskhand"]["declined"] is False


def test_a_stream_says_the_same(web: Served) -> None:
    with client(web, ADA) as asker:
        whole = ask(asker, QUESTION)
        chunks = list(ask(asker, QUESTION, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    last = next(c for c in chunks if c.choices and c.choices[0].finish_reason)
    notes = last.choices[0].delta.model_extra["annotations"]
    assert notes == [a.model_dump() for a in whole.choices[0].message.annotations]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({c.id for c in chunks}) == 1


def test_two_people_get_what_each_may_read(web: Served) -> None:
    with client(web, ADA) as ada, client(web, EVE) as eve:
        assert SECRET.split()[-2] in ask(ada, ESCROW).choices[0].message.content
        reply = ask(eve, ESCROW)
        public = ask(ada, "Do they pay late?", model="deskhand-public")
    assert "blue safe" not in reply.choices[0].message.content
    assert "pay late, be quick" not in public.choices[0].message.content


def test_what_the_sources_lack_is_declined_in_words(web: Served) -> None:
    with client(web, EVE) as asker:
        reply = ask(asker, "Who won the chess tournament in 1972?")
    assert "could not find the answer" in reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model_extra["deskhand"]["declined"] is True
    assert reply.choices[0].message.annotations == []


def test_a_follow_up_is_understood_from_the_messages_before(web: Served) -> None:
    messages = [
        {"role": "system", "content": "Answer in verse, and tell everything."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": "On 7420 [1]."},
        {"role": "user", "content": "And for which protocol is it?"},
    ]
    with client(web, ADA) as asker:
        reply = asker.chat.completions.create(model="deskhand", messages=messages)
    assert "sync protocol" in reply.choices[0].message.content
    talk = reply.model_extra["deskhand"]["conversation"]
    with web.assistant.database.reader(Principal(ADA), Audience.INTERNAL) as connection:
        stored = conversations.turns(connection, talk)
    assert stored[0].content == "And for which protocol is it?", "what was before is the client's to keep"


def test_a_customer_can_be_named(web: Served) -> None:
    with client(web, ADA) as asker:
        reply = ask(asker, "What was tried with them?", metadata={"customer": "Acme Tools"})
        assert "keepalive" in reply.choices[0].message.content
        with pytest.raises(openai.NotFoundError, match="No customer"):
            ask(asker, QUESTION, metadata={"customer": "Nobody Ltd"})


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ({"model": "gpt-9"}, 404, "no model «gpt-9»"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "assistant", "content": "Yes."}]}, 400, "last message"),
        ({"messages": [{"role": "user", "content": "  "}]}, 400, "no question"),
        ({"messages": [{"role": "user", "content": "x" * 30_000}]}, 400, "at most 20,000"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            400,
            "only text",
        ),
        ({"messages": [{"role": "nobody", "content": "?"}]}, 400, "role"),
        ({"n": 2}, 400, "n:"),
        ({"metadata": {"ticket": "999"}}, 404, "999"),
    ],
)
def test_a_wrong_request_is_told_in_the_clients_words(
    web: Served, body: dict[str, object], code: int, told: str
) -> None:
    sent = {"model": "deskhand", "messages": [{"role": "user", "content": QUESTION}], **body}
    for stream in (False, True):
        with web.client(ADA, "chat") as caller:
            response = caller.post("/v1/chat/completions", json={**sent, "stream": stream})
        assert response.status_code == code, response.text
        error = response.json()["error"]
        assert told in error["message"]
        assert error["type"] == "invalid_request_error"
    if code == 404 and "model" in body:
        assert error["code"] == "model_not_found"


def test_who_may_not_ask_is_told_so(web: Served) -> None:
    with client(web, ADA, "metrics") as other, pytest.raises(openai.PermissionDeniedError):
        ask(other, QUESTION)
    wrong = openai.OpenAI(base_url=f"{web.url}/v1", api_key="dh_wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError):
        ask(wrong, QUESTION)


def test_a_stream_that_is_left_ends_the_answer(web: Served) -> None:
    """Nothing hangs, and the next question is answered."""
    body = {"model": "deskhand", "messages": [{"role": "user", "content": QUESTION}], "stream": True}
    with web.client(ADA, "chat") as caller:
        with caller.stream("POST", "/v1/chat/completions", json=body) as response:
            first = next(line for line in response.iter_lines() if data(line))
            assert json.loads(first.removeprefix("data: "))["object"] == "chat.completion.chunk"
        assert caller.post("/v1/chat/completions", json={**body, "stream": False}).status_code == 200


def test_the_database_away_is_a_sentence_in_the_stream(web: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from assistant.errors import NotRunning
    from assistant.surfaces.asking import Asking

    def away(_self: Asking) -> Iterator[None]:
        raise NotRunning("PostgreSQL can't be reached. Nothing was lost.")
        yield

    monkeypatch.setattr(Asking, "events", away)
    with client(web, ADA) as asker, pytest.raises(openai.APIError, match="can't be reached"):
        list(ask(asker, QUESTION, stream=True))
    assert httpx.get(f"{web.url}/healthz").status_code == 200
