"""The official MCP client against `/mcp`: tools, what each person gets, and errors as sentences."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client

from assistant.config import Settings
from tests.servers.served import ADA, EVE, Served, shared

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture(scope="module")
def web(embedded: Settings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with shared(embedded, template, tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture(autouse=True)
def calm(redis_url: str) -> None:
    """Whatever was asked before counts for nobody's limit."""


def session(web: Served, who: str, work: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    """What `work` makes of a session of theirs."""

    async def run() -> Any:
        async with (
            httpx2.AsyncClient(
                headers={"Authorization": f"Bearer {web.token(who, 'chat')}"}, timeout=60
            ) as http,
            streamable_http_client(f"{web.url}/mcp", http_client=http) as streams,
            ClientSession(streams[0], streams[1]) as made,
        ):
            await made.initialize()
            return await work(made)

    return asyncio.run(run())


def call(web: Served, who: str, tool: str, **arguments: Any) -> Any:
    return session(web, who, lambda made: made.call_tool(tool, arguments))


def test_the_tools_are_told_with_their_shapes(web: Served) -> None:
    tools = {tool.name: tool for tool in session(web, ADA, lambda made: made.list_tools()).tools}
    assert set(tools) == {"search", "ask", "customer_history"}
    assert tools["ask"].input_schema["required"] == ["question"]
    assert "citations" in tools["ask"].output_schema["properties"]
    assert all(tool.description for tool in tools.values())


def test_a_question_is_answered_with_citations(web: Served) -> None:
    result = call(web, ADA, "ask", question="Which port does the relay listen on?")
    reply = result.structured_content
    assert "7420" in reply["text"]
    assert reply["declined"] is False
    assert reply["citations"][0]["url"] == "https://docs.example/ports"


def test_search_finds_what_the_person_may_read(web: Served) -> None:
    question = "Where does the escrow key of the relay lie?"
    mine = call(web, ADA, "search", question=question).structured_content["passages"]
    theirs = call(web, EVE, "search", question=question).structured_content["passages"]
    assert any("blue safe" in passage["text"] for passage in mine)
    assert {passage["title"] for passage in theirs} == {"About ports"}
    for_customer = call(web, ADA, "search", question="Do they pay late?", public=True).structured_content
    assert not any("pay late, be" in passage["text"] for passage in for_customer["passages"])
    assert not any(passage["internal"] for passage in for_customer["passages"])


def test_a_customers_history_is_that_of_readable_tickets(web: Served) -> None:
    told = call(web, ADA, "customer_history", customer="acme.example").structured_content
    assert (told["customer"], told["tickets"], told["open_tickets"]) == ("Acme Tools", 1, 0)
    assert any("keepalive" in line["text"] for line in told["latest"][0]["lines"])
    hidden = call(web, EVE, "customer_history", customer="acme.example")
    missing = call(web, EVE, "customer_history", customer="nobody.example")
    assert hidden.is_error
    assert hidden.content[0].text.replace("acme", "X") == missing.content[0].text.replace("nobody", "X")


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("ask", {"question": "  "}, "no question"),
        ("ask", {"question": "Which port?", "customer": "Nobody Ltd"}, "No customer"),
        ("search", {"question": "x" * 30_000}, "at most 20,000"),
        ("search", {}, "question"),
        ("delete_all", {}, "delete_all"),
    ],
)
def test_what_goes_wrong_is_a_sentence(web: Served, tool: str, arguments: dict[str, Any], told: str) -> None:
    async def work(made: ClientSession) -> str:
        try:
            result = await made.call_tool(tool, arguments)
        except Exception as error:
            return str(error)
        assert result.is_error
        return result.content[0].text

    assert told in session(web, ADA, work)


def test_nobody_gets_in_without_a_token_for_it(web: Served) -> None:
    assert httpx.post(f"{web.url}/mcp", json=PING).status_code == 401
    with web.client(ADA, "metrics") as other:
        assert other.post("/mcp", json=PING).status_code == 403
        assert other.get("/mcp").status_code == 403
    with web.client(ADA, "chat") as asker:
        assert asker.get("/mcp").status_code == 405, "there is no session to listen to"
