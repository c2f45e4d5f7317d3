"""Several workspaces: installing the app, what is kept of it, and what a workspace gets before it is believed."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from assistant.config import Settings
from assistant.errors import ConfigError, NotThere
from assistant.store import slack as store
from assistant.surfaces import slack as surface
from assistant.surfaces.slack.install import manifest
from assistant.surfaces.slack.serve import web
from tests.servers.slack_api import SlackApi
from tests.servers.slack_desk import SlackDesk, shown, slack_desk
from tests.servers.slack_office import LEE, PORTS, SAFE
from tests.servers.slack_office import api as api
from tests.servers.slack_office import office as office
from tests.servers.test_history import Office
from tests.servers.test_slack_answers import answers

OTHER = "T0OTHER"
OF_OTHER: dict[str, Any] = {
    "team_id": OTHER,
    "authorizations": [
        {"enterprise_id": None, "team_id": OTHER, "user_id": "U0OTHER", "is_bot": True, "is_enterprise_install": False}
    ],
}  # fmt: skip
APP = {
    "slack_client_id": "1.2",
    "slack_client_secret": SecretStr("client secret"),
    "web_url": "https://d.example",
}


def visit(slack: SlackDesk, *paths: str) -> list[httpx.Response]:
    """One browser's visits, one after the other; `STATE` in a path is the state it was given."""

    async def go() -> list[httpx.Response]:
        transport = httpx.ASGITransport(web(slack.bot, slack.app))
        found: list[httpx.Response] = []
        async with httpx.AsyncClient(transport=transport, base_url="https://d.example") as browser:
            for path in paths:
                state = re.search(r"state=([\w-]+)", found[-1].text) if found else None
                found.append(await browser.get(path.replace("STATE", state[1] if state else "")))
        return found

    return slack.wait(go())


def leads_question(slack: SlackDesk) -> str:
    said = slack.message(LEE, SAFE, "D0LEE", team=OTHER)
    slack.event(said, **OF_OTHER)
    slack.idle()
    return shown(answers(slack.api, "D0LEE")[-1])


def test_a_workspace_installs_it_and_is_believed_when_an_admin_says_so(
    settings: Settings, office: Office, api: SlackApi
) -> None:
    api.person(LEE, "lead@x", team_id=OTHER)
    with slack_desk(settings, api, **APP) as slack:
        page, done = visit(slack, "/slack/install", "/slack/oauth_redirect?code=good&state=STATE")
        assert "users:read.email" in page.text.replace("%3A", ":")
        assert "redirect_uri=https://d.example/slack/oauth_redirect" in page.text.replace("%3A", ":").replace(
            "%2F", "/"
        )
        assert done.status_code == 200
        assert f"deskhand slack allow {OTHER}" in done.text
        with slack.bot.assistant.database.owner() as connection:
            row = connection.execute("select token::text as token, allowed from slack_workspace").fetchone()
        assert row is not None
        assert row["allowed"] is False
        assert "xoxb" not in bytes.fromhex(row["token"][2:]).decode()
        assert "red safe" not in leads_question(slack), "they may have given themselves that address"
        with slack.bot.assistant.database.writer() as connection:
            store.allow(connection, OTHER)
        slack.bot.workspaces.forget(OTHER)
        assert "red safe" in leads_question(slack)
        slack.event({"type": "app_uninstalled"}, **OF_OTHER)
        slack.idle()
        with slack.bot.assistant.database.writer() as connection:
            assert store.workspace(connection, settings, OTHER) is None
            with pytest.raises(NotThere):
                store.allow(connection, OTHER)


def test_a_return_that_nobody_began_installs_nothing(
    settings: Settings, office: Office, api: SlackApi
) -> None:
    with slack_desk(settings, api, **APP) as slack:
        forged = visit(slack, "/slack/oauth_redirect?code=good&state=made-up")[0]
        _, bad = visit(slack, "/slack/install", "/slack/oauth_redirect?code=bad&state=STATE")
        _, first, again = visit(
            slack, "/slack/install", "/slack/oauth_redirect?error=access_denied&state=STATE", "/slack/install"
        )
        assert (forged.status_code, bad.status_code, first.status_code) == (400, 401, 200)
        assert "access_denied" in first.text
        assert again.status_code == 200
        with slack.bot.assistant.database.writer() as connection:
            assert store.workspaces(connection) == []


def test_a_workspace_that_never_installed_it_gets_nothing(
    settings: Settings, office: Office, api: SlackApi
) -> None:
    with slack_desk(settings, api) as slack:
        said = slack.message(LEE, PORTS, "D0LEE")
        answered = slack.event(said, **{**OF_OTHER, "team_id": "T0NEVER", "authorizations": []})
        slack.idle()
        assert answered.status == 200
        assert answers(api) == []
        assert [r.status_code for r in visit(slack, "/slack/install", "/anything")] == [404, 404]


def test_the_manifest_knows_both_ways() -> None:
    socket, http = manifest(), manifest("https://desk.example.com/")
    assert socket["settings"]["socket_mode_enabled"] is True
    assert "request_url" not in str(socket)
    assert http["settings"]["socket_mode_enabled"] is False
    assert http["settings"]["event_subscriptions"]["request_url"] == "https://desk.example.com/slack/events"
    assert http["features"]["slash_commands"][0]["url"] == "https://desk.example.com/slack/events"
    assert http["oauth_config"]["redirect_urls"] == ["https://desk.example.com/slack/oauth_redirect"]
    assert len(socket["features"]["agent_view"]["suggested_prompts"]) <= 4


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"slack_bot_token": SecretStr("xoxb-1")}, "DESKHAND_SLACK_APP_TOKEN"),
        ({"slack_app_token": SecretStr("xapp-1")}, "DESKHAND_SLACK_BOT_TOKEN"),
        ({"slack_client_id": "1.2", "slack_app_token": SecretStr("x")}, "DESKHAND_SLACK_CLIENT_SECRET"),
        (
            {
                "slack_client_id": "1",
                "slack_client_secret": SecretStr("s"),
                "slack_app_token": SecretStr("x"),
            },
            "DESKHAND_SLACK_PORT",
        ),
    ],
)
def test_settings_that_do_not_suffice_say_what_is_missing(given: dict[str, Any], missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        surface.processes(Settings(**given))


def test_it_runs_where_tokens_are_set() -> None:
    assert surface.processes(Settings()) == []
    tokens = Settings(slack_bot_token=SecretStr("xoxb-1"), slack_app_token=SecretStr("xapp-1"))
    (process,) = surface.processes(tokens)
    assert process.name == "slack"
    assert process.env is not None
    assert process.env["DESKHAND_SLACK_BOT_TOKEN"] == "xoxb-1"
