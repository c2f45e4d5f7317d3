"""The whole way against local-slack, by Socket Mode and over HTTP: command, thread, button, modal, hand-off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from assistant.config import Settings
from assistant.model import Right
from assistant.store import principals
from tests.browser.conftest import pictures as pictures
from tests.servers.ports import free_port
from tests.servers.slack_office import PORTS, SAFE
from tests.servers.slack_office import office as office
from tests.servers.test_history import LEAD, Office
from tests.slack.conftest import (
    ANA,
    APP_TOKEN,
    BOSS,
    BOT,
    DESK,
    GENERAL,
    LEE,
    SECRET,
    TOKEN,
    LocalSlack,
    bot,
    confirming,
    local_slack,
    page,
    soon,
)

pytestmark = pytest.mark.slack


@pytest.fixture(params=["socket", "events"])
def slack(
    request: pytest.FixtureRequest, settings: Settings, office: Office, tmp_path: Path
) -> Iterator[LocalSlack]:
    port = free_port()
    address = f"http://localhost:{port}/slack/events"
    with (
        local_slack(tmp_path, mode=request.param, request_url=address) as made,
        confirming(made.url) as api,
    ):
        common = {"slack_api_url": api, "slack_bot_token": TOKEN}
        how = (
            {"slack_app_token": APP_TOKEN}
            if request.param == "socket"
            else {"slack_signing_secret": SECRET, "slack_port": str(port)}
        )
        with bot(settings, tmp_path, **common, **how):
            yield made


def told(message: dict[str, object]) -> str:
    return json.dumps(message, ensure_ascii=False)


def test_the_whole_way(slack: LocalSlack, office: Office, pictures: Path) -> None:
    with office.assistant.database.writer() as connection:
        principals.allow(connection, LEAD.id, Right.ESCALATE)

    slack.command(LEE, f"ask {SAFE}")
    soon(lambda: "red safe" in told({"m": slack.messages(GENERAL)}), "the private answer")
    assert all(one.get("subtype") == "ephemeral" for one in slack.messages(GENERAL))

    asked = slack.say(ANA, f"<@{BOT}> {PORTS}")
    answer = soon(lambda: [m for m in slack.of_bot(GENERAL) if "How sure" in told(m)], "the answer")[0]
    assert answer["thread_ts"] == asked["ts"]
    assert "8443" in told(answer)
    assert "edited" in answer, "there is no stream here, so it was posted and edited"

    slack.say(LEE, f"<@{BOT}> And the firewall for it?", thread=asked["ts"])
    soon(lambda: len([m for m in slack.of_bot(GENERAL) if "How sure" in told(m)]) == 2, "the follow-up")
    assert "red safe" not in told({"m": slack.of_bot(GENERAL)})

    slack.click(ANA, "up", answer)
    soon(lambda: "Thank you" in told({"m": slack.messages(GENERAL)}), "thanks")

    slack.command(BOSS, "settings", DESK)
    soon(lambda: "Somebody needs a person" in told({"log": slack.log()}), "the modal of settings")
    slack.submit(BOSS, alerts={"type": "checkboxes", "selected_options": [{"value": "handover"}]})
    soon(lambda: "Saved" in told({"m": slack.messages(DESK)}), "that the settings are saved")
    slack.click(ANA, "person", answer)
    soon(lambda: "Anything they should know?" in told({"log": slack.log()[-5:]}), "the modal of a hand-off")
    slack.submit(ANA, note={"type": "plain_text_input", "value": "They call at noon."})
    announced = soon(lambda: [m for m in slack.of_bot(DESK) if "needs a person" in told(m)], "the hand-off")[
        0
    ]
    assert "noon" not in told(announced)
    slack.click(LEE, "handover_show", announced)
    soon(lambda: "noon" in told({"m": slack.messages(DESK)}), "the packet")
    slack.click(LEE, "handover_take", announced)
    soon(lambda: "taken by" in told({"m": slack.of_bot(DESK)}), "that it is taken")

    with page(slack) as seen:
        seen.locator(".thread-summary").click()
        expect(seen.get_by_text("And the firewall for it?")).to_be_visible()
        seen.screenshot(path=pictures / "slack-thread.png")
        seen.locator(".sidebar-item", has_text="desk").first.click()
        seen.get_by_label("Act as").select_option(LEE)
        expect(seen.get_by_text("They call at noon.")).to_be_visible()
        seen.screenshot(path=pictures / "slack-handed-over.png")


def test_the_home_tab(slack: LocalSlack) -> None:
    slack.post("open-home", user=BOSS)
    soon(lambda: "Your latest questions" in told({"log": slack.log()}), "the Home tab")
