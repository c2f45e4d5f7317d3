"""Asking in Slack: how an answer comes, in a channel, in one's own messages, by a command, and in a thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistant.config import Settings
from tests.servers.slack_api import SlackApi
from tests.servers.slack_desk import GENERAL, SlackDesk, buttons, shown, slack_desk
from tests.servers.slack_office import (
    ANA,
    LEE,
    PORTS,
    SAFE,
    Slow,
)
from tests.servers.slack_office import api as api
from tests.servers.slack_office import office as office
from tests.servers.slack_office import slack as slack
from tests.servers.test_history import Office


@pytest.fixture
def slow(settings: Settings, office: Office, api: SlackApi) -> Iterator[SlackDesk]:
    with slack_desk(settings, api, generator=Slow()) as made:
        yield made


def answers(api: SlackApi, channel: str = GENERAL) -> list[dict[str, object]]:
    return [m for m in api.said(channel) if m.get("bot_id")]


def searched(slack: SlackDesk) -> list[str]:
    with slack.bot.assistant.database.owner() as connection:
        rows = connection.execute("select searched from message where role = 'assistant' order by id")
        return [row["searched"] for row in rows]


def test_a_mention_is_answered_in_its_thread_once(slack: SlackDesk, api: SlackApi) -> None:
    said = slack.mention(ANA, PORTS)
    (answer,) = answers(api)
    assert answer["thread_ts"] == said["ts"]
    assert "8443" in str(answer["text"])
    assert answer["streamed"] is True
    under = shown(answer)
    assert "*[1]* document · <https://desk.example/m/1|Ports of the sync service>" in under
    assert "2026-05-01" in under
    assert "How sure: " in under
    assert list(buttons(answer)) == ["up", "down", "sources", "person", "private"]
    assert api.statuses[0]["status"] == "is searching …"
    assert api.statuses[0]["thread_ts"] == said["ts"]


def test_it_streams_sentence_by_sentence(slow: SlackDesk, api: SlackApi) -> None:
    slow.mention(ANA, PORTS)
    (answer,) = answers(api)
    streamed = [call for call in api.calls if call[0].startswith("chat.") and "Stream" in call[0]]
    assert [method for method, _, _ in streamed] == [
        "chat.startStream",
        *["chat.appendStream"] * (len(streamed) - 2),
        "chat.stopStream",
    ]
    assert len(streamed) > 2
    assert str(answer["text"]).count("port 8443") == 2
    assert str(answer["text"]).rstrip().endswith("[1]")


def test_without_streams_it_is_posted_and_edited(slow: SlackDesk, api: SlackApi) -> None:
    api.streams = False
    api.fail("assistant.threads.setStatus", "missing_scope", times=9)
    slow.mention(ANA, PORTS)
    (answer,) = answers(api)
    assert answer["edits"]
    assert "8443" in shown(answer)
    assert "Searching" not in shown(answer)
    assert "up" in buttons(answer)


def test_a_stream_that_breaks_off_is_edited_to_the_whole_answer(slow: SlackDesk, api: SlackApi) -> None:
    api.fail("chat.appendStream", "message_not_in_streaming_state", times=9)
    api.fail("chat.stopStream", "message_not_in_streaming_state", times=9)

    api.streams_close_by_themselves = True
    slow.mention(ANA, PORTS)
    (answer,) = answers(api)
    assert "Older versions" in shown(answer)
    assert "sources" in buttons(answer)


def test_a_follow_up_is_understood_from_the_thread(slack: SlackDesk, api: SlackApi) -> None:
    said = slack.mention(ANA, PORTS)
    slack.mention(LEE, "And the firewall for it?", thread=said["ts"])
    _, second = answers(api)
    assert second["thread_ts"] == said["ts"]
    assert "sync" in searched(slack)[-1].lower(), "carried over from the question before"


def test_whoever_asked_last_need_not_mention_it_again(slack: SlackDesk, api: SlackApi) -> None:
    said = slack.mention(ANA, PORTS)
    other = slack.message(LEE, "Shall we have lunch?", thread=said["ts"])
    slack.event(other)
    own = slack.message(ANA, "Which port did older versions use?", thread=said["ts"])
    slack.event(own)
    slack.idle()
    assert len(answers(api)) == 2
    assert answers(api)[1]["thread_ts"] == said["ts"]


def test_ones_own_messages_are_answered_with_what_one_may_read(slack: SlackDesk, api: SlackApi) -> None:
    slack.direct(LEE, SAFE)
    (answer,) = answers(api, "D0LEE")
    assert "red safe" in str(answer["text"])
    assert "private" not in buttons(answer)
    first = api.said("D0LEE")[0]["ts"]
    slack.direct(LEE, "And who may open it?", thread=first)
    assert len(answers(api, "D0LEE")) == 2


def test_a_command_is_acknowledged_and_answered_to_one_person(slack: SlackDesk, api: SlackApi) -> None:
    acknowledged = slack.command(LEE, f"ask {SAFE}")
    assert acknowledged.status == 200
    assert "Searching" in acknowledged.body
    assert "ephemeral" in acknowledged.body
    (whisper,) = api.responses
    assert whisper["response_type"] == "ephemeral"
    assert "red safe" in shown(whisper)
    assert "share" in buttons(whisper)
    assert answers(api) == []


@pytest.mark.parametrize("text", ["", "help", "?", "frobnicate now", "tickt 101"])
def test_whatever_is_unknown_gets_help(slack: SlackDesk, api: SlackApi, text: str) -> None:
    slack.command(ANA, text)
    (whisper,) = api.responses
    assert "`/deskhand ask`" in shown(whisper)
    if text.startswith("tickt"):
        assert "Did you mean `/deskhand ticket`" in shown(whisper)


def test_a_message_that_only_asks_for_help_gets_it(slack: SlackDesk, api: SlackApi) -> None:
    slack.mention(ANA, "")
    slack.direct(ANA, "help")
    assert "`/deskhand ask`" in shown(api.ephemeral[0])
    assert "`/deskhand ask`" in shown(answers(api, "D0ANA")[0])


def test_sources_and_tickets_by_command(slack: SlackDesk, api: SlackApi) -> None:
    slack.command(ANA, "customer acme")
    slack.command(ANA, "ticket 101")
    slack.command(ANA, "draft 101")
    slack.command(ANA, "summarise 101")
    slack.command(ANA, "status")
    slack.command(ANA, "sync desk")
    told = [shown(one) for one in api.responses]
    assert "Acme Corp" in told[0]
    assert "Sync stops at the proxy" in told[0]
    assert "content scanning" in told[1]
    assert "_internal" not in told[2]
    assert "Sync stops" in told[3]
    assert "I take you for agent@x" in told[4]
    assert "Only admins" in told[5]
    assert answers(api) == [], "all of it is whispered"


def test_what_the_sources_lack_offers_a_person_first(slack: SlackDesk, api: SlackApi) -> None:
    slack.mention(ANA, "How do I bake sourdough bread in a tandoor?")
    (answer,) = answers(api)
    assert "could not find" in str(answer["text"])
    assert next(iter(buttons(answer))) == "person"


def test_shortcuts_on_a_message(slack: SlackDesk, api: SlackApi) -> None:
    first = slack.message(ANA, "Our sync stops behind the new proxy since Monday.")
    slack.message(LEE, "Please switch off content scanning for the sync host.", thread=first["ts"])
    slack.shortcut(ANA, "answer_this", {**first, "text": PORTS})
    slack.shortcut(ANA, "summarise_thread", first)
    slack.shortcut(ANA, "draft_reply", {**first, "text": PORTS})
    told = [shown(one) for one in api.responses]
    assert "8443" in told[0]
    assert "content scanning" in told[1]
    assert "<@U0LEE>" in told[1]
    assert "*Draft*" in told[2]
    assert "8443" in told[2]
    assert answers(api) == []
