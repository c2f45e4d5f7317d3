"""What goes wrong in Slack: forged and repeated deliveries, limits, broken calls, bots, edits, what is down."""

from __future__ import annotations

import threading
import time

import pytest

from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ModelBusy
from assistant.store import slack as store
from assistant.store.slack import Message
from assistant.surfaces.slack import alerts
from tests.servers.slack_api import BOT, BOT_ID, HANGS, TEAM, SlackApi
from tests.servers.slack_desk import GENERAL, SlackDesk, buttons, shown, slack_desk
from tests.servers.slack_office import ANA, LEE, PORTS, Slow
from tests.servers.slack_office import api as api
from tests.servers.slack_office import office as office
from tests.servers.slack_office import slack as slack
from tests.servers.test_history import Office
from tests.servers.test_slack_answers import answers


def mention_body(slack: SlackDesk) -> dict[str, object]:
    return {**slack.message(ANA, f"<@{BOT}> {PORTS}"), "type": "app_mention"}


# ── deliveries ───────────────────────────────────────────────────────────────


def test_a_bad_or_old_signature_is_refused(slack: SlackDesk, api: SlackApi) -> None:
    body = '{"type":"event_callback","team_id":"T0FERN","event":{"type":"app_mention","user":"U0ANA"}}'
    assert slack.deliver(body, "application/json", secret="another").status == 401
    assert slack.deliver(body, "application/json", at=time.time() - 301).status == 401
    assert answers(api) == []


def test_retries_and_both_events_of_a_mention_are_answered_once(slack: SlackDesk, api: SlackApi) -> None:
    event = mention_body(slack)
    for number in range(3):
        slack.event(event, event_id="Ev1", retry=number)
    slack.event({**event, "type": "message"}, event_id="Ev2")
    slack.idle()
    assert len(answers(api)) == 1


def test_two_processes_answer_once(settings: Settings, office: Office, api: SlackApi) -> None:
    with slack_desk(settings, api) as one, slack_desk(settings, api) as two:
        events = [mention_body(one) for _ in range(5)]
        threads = [
            threading.Thread(target=desk.event, args=(event,), kwargs={"event_id": f"Ev{n}"})
            for n, event in enumerate(events)
            for desk in (one, two, one)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one.idle()
        two.idle()
    assert len(answers(api)) == 5
    assert len({message["thread_ts"] for message in answers(api)}) == 5


def test_a_click_and_a_command_that_come_twice_count_once(slack: SlackDesk, api: SlackApi) -> None:
    for _ in range(2):
        slack.command(ANA, f"ask {PORTS}", trigger="1.same")
    assert len(api.responses) == 1


def test_bots_are_never_answered(slack: SlackDesk, api: SlackApi) -> None:
    for more in ({"bot_id": "B0OTHER"}, {"bot_id": BOT_ID}, {"subtype": "bot_message", "bot_id": "B1"}):
        said = slack.message("U0OTHERBOT", f"<@{BOT}> {PORTS}")
        slack.event({**said, **more})
        slack.event({**said, "type": "app_mention", **more})
    own = slack.message(BOT, f"<@{BOT}> {PORTS}")
    slack.event(own)
    slackbot = slack.message("USLACKBOT", PORTS, "D0LACKBOT")
    slack.event(slackbot)
    slack.idle()
    assert answers(api) == []
    assert api.whispers() == []


def test_what_nobody_listens_to_is_acknowledged(slack: SlackDesk) -> None:
    assert slack.event({"type": "user_change", "user": {"id": ANA}}).status == 200
    assert (
        slack.event({"type": "message", "subtype": "channel_topic", "channel": GENERAL, "ts": "1.1"}).status
        == 200
    )


# ── questions ────────────────────────────────────────────────────────────────


def test_a_message_of_forty_thousand_characters_is_told_to_be_too_long(
    slack: SlackDesk, api: SlackApi
) -> None:
    slack.mention(ANA, "why " * 10_000)
    assert answers(api) == []
    (told,) = api.ephemeral
    assert "shorten it" in shown(told)
    assert buttons(told) == {}, "no button could carry it"


def test_a_question_in_a_language_the_documents_do_not_have(slack: SlackDesk, api: SlackApi) -> None:
    slack.mention(ANA, "同期サービスはどのポートを使用しますか？")
    (answer,) = answers(api)
    assert "person" in buttons(answer)


def test_hostile_words_are_shown_and_do_nothing(slack: SlackDesk, api: SlackApi) -> None:
    slack.command(ANA, "ask <!channel> *x* <https://evil.example|our bank> @here &lt;!everyone&gt;")
    slack.command(ANA, "customer <!channel> <@U1>")
    assert len(api.responses) == 2
    assert "<!" not in shown(api.responses[0]) + shown(api.responses[1])


def test_too_many_questions_within_a_minute_are_told_once(slack: SlackDesk, api: SlackApi) -> None:
    events = [mention_body(slack) for _ in range(30)]
    for event in events:
        slack.event(event)
    slack.idle()
    assert len(answers(api)) == 20
    assert len([one for one in api.ephemeral if "more than" in shown(one)]) == 1


# ── edits and deletions ──────────────────────────────────────────────────────


def edited(said: dict[str, object], text: str) -> dict[str, object]:
    now = {**said, "text": text, "edited": {"user": said["user"], "ts": "9.9"}}
    return {
        "type": "message", "subtype": "message_changed", "hidden": True, "channel": said["channel"], "ts": "9.9",
        "channel_type": "channel", "message": now, "previous_message": said,
    }  # fmt: skip


def deleted(said: dict[str, object]) -> dict[str, object]:
    return {
        "type": "message", "subtype": "message_deleted", "hidden": True, "channel": said["channel"], "ts": "9.9",
        "deleted_ts": said["ts"], "channel_type": "channel", "previous_message": said,
    }  # fmt: skip


def test_an_edited_question_is_answered_anew_in_the_same_place(slack: SlackDesk, api: SlackApi) -> None:
    said = slack.mention(ANA, PORTS)
    (before,) = answers(api)
    ts = before["ts"]
    slack.event(edited(said, f"<@{BOT}> How do I bake sourdough bread in a tandoor?"))
    slack.idle()
    (after,) = answers(api)
    assert after["ts"] == ts
    assert "could not find" in shown(after)
    slack.event(edited(said, str(said["text"])))
    slack.idle()
    assert "could not find" in shown(answers(api)[0]), "an unfurled link is no edit"
    with slack.bot.assistant.database.owner() as connection:
        rows = connection.execute(
            "select content from message where role = 'user' and not replaced"
        ).fetchall()
    assert [row["content"] for row in rows] == ["How do I bake sourdough bread in a tandoor?"]


def test_the_answer_of_a_deleted_question_goes(slack: SlackDesk, api: SlackApi) -> None:
    said = slack.mention(ANA, PORTS)
    slack.event(deleted(said))
    slack.event(deleted(said))
    slack.idle()
    assert answers(api) == []
    with slack.bot.assistant.database.owner() as connection:
        rows = connection.execute("select content from message where not replaced").fetchall()
    assert rows == []


def test_a_question_that_is_deleted_while_it_is_answered(
    settings: Settings, office: Office, api: SlackApi
) -> None:
    with slack_desk(settings, api, generator=Slow(seconds=0.4)) as slack:
        event = mention_body(slack)
        slack.event(event)
        until = time.monotonic() + 30
        while not answers(api) and time.monotonic() < until:
            time.sleep(0.05)
        slack.event(deleted({**event, "type": "message"}))
        slack.idle()
    assert answers(api) == []


# ── Slack and Deskhand in trouble ────────────────────────────────────────────


def test_slack_says_to_wait(slack: SlackDesk, api: SlackApi) -> None:
    api.fail("chat.startStream", "ratelimited", status=429, after=1)
    begun = time.monotonic()
    slack.mention(ANA, PORTS)
    assert time.monotonic() - begun > 1
    assert len(answers(api)) == 1


def test_a_rate_limit_in_mid_stream_costs_no_word(settings: Settings, office: Office, api: SlackApi) -> None:
    with slack_desk(settings, api, generator=Slow()) as slack:
        api.fail("chat.appendStream", "ratelimited", times=9)
        slack.mention(ANA, PORTS)
    (answer,) = answers(api)
    assert "Older versions used port 9000" in shown(answer)
    assert answer["streaming"] is False


def test_slack_fails_for_a_moment(slack: SlackDesk, api: SlackApi) -> None:
    api.fail("users.info", "internal_error", status=503, times=2)
    slack.mention(ANA, PORTS)
    assert len(answers(api)) == 1


def test_slack_does_not_tell_who_somebody_is(slack: SlackDesk, api: SlackApi) -> None:
    api.fail("users.info", "fatal_error", times=1)
    slack.mention(ANA, PORTS)
    assert answers(api) == []
    (told,) = api.ephemeral
    assert "did not tell who you are" in shown(told)
    slack.click(ANA, "retry", told)
    assert len(answers(api)) == 1


def test_slack_does_not_answer_in_time(settings: Settings, office: Office, api: SlackApi) -> None:
    for method in ("chat.startStream", "chat.postMessage"):
        api.fail(method, "too late", times=9, status=HANGS)
    with slack_desk(settings, api, timeout=1) as slack:
        slack.mention(ANA, PORTS)
        assert answers(api) == []
        api.faults.clear()
        with slack.bot.assistant.database.owner() as connection:
            connection.execute("update slack_question set seen_at = now() - interval '5 minutes'")
        slack.wait(alerts.apologise(slack.bot))
    assert "interrupted" in shown(api.ephemeral[0])


def test_an_archived_channel(slack: SlackDesk, api: SlackApi) -> None:
    api.channels[GENERAL] = {"is_archived": True}
    slack.mention(ANA, PORTS)
    note, answer = answers(api, "D0ANA")
    assert "is_archived" in shown(note)
    assert "8443" in shown(answer)


def test_a_revoked_token_says_nothing_and_breaks_nothing(slack: SlackDesk, api: SlackApi) -> None:
    for method in ("chat.startStream", "chat.postMessage", "chat.postEphemeral", "users.info"):
        api.fail(method, "token_revoked", times=20)
    slack.mention(ANA, PORTS)
    assert answers(api) == []
    api.faults.clear()
    slack.mention(ANA, PORTS)
    assert len(answers(api)) == 1


def test_the_database_is_away(settings: Settings, office: Office, api: SlackApi) -> None:
    def away(assistant: Assistant) -> None:
        from assistant.store.db import Database

        assistant.__dict__["database"] = Database("postgresql://nobody@127.0.0.1:1/none")

    with slack_desk(settings, api, change=away) as slack:
        slack.command(ANA, f"ask {PORTS}")
        slack.mention(ANA, PORTS)
        slack.command(ANA, "help")
        slack.bot.assistant.__dict__.pop("database")
        told, helped = api.responses
        assert "can't reach its database" in shown(told)
        assert "`/deskhand ask`" in shown(helped)
        slack.click(ANA, "retry", told)
        assert "8443" in shown(api.responses[-1]), "answered later, when told to"
        slack.click(ANA, "retry", api.ephemeral[0])
        assert len(answers(api)) == 1


def test_the_generator_is_busy(slack: SlackDesk, api: SlackApi) -> None:
    def busy() -> None:
        raise ModelBusy("As many questions as it takes are waiting. Nothing was lost; ask again in a moment.")

    before = slack.bot.assistant.generators
    slack.bot.assistant.generators = busy
    slack.mention(ANA, PORTS)
    (told,) = api.ephemeral
    assert "ask again in a moment" in shown(told)
    slack.bot.assistant.generators = before
    slack.click(ANA, "retry", told)
    assert len(answers(api)) == 1


def test_an_answer_that_died_with_its_process_is_apologised_for_once(slack: SlackDesk, api: SlackApi) -> None:
    said = slack.message(LEE, PORTS)
    with slack.bot.assistant.database.writer() as connection:
        message = Message(TEAM, GENERAL, said["ts"])
        assert store.claim_question(connection, message, thread=said["ts"], user=LEE)
    slack.wait(alerts.apologise(slack.bot))
    assert api.ephemeral == [], "it may still be at work"
    with slack.bot.assistant.database.owner() as connection:
        connection.execute("update slack_question set seen_at = now() - interval '5 minutes'")
    slack.wait(alerts.apologise(slack.bot))
    slack.wait(alerts.apologise(slack.bot))
    (told,) = api.ephemeral
    assert "interrupted" in shown(told)
    assert told["user"] == LEE


@pytest.mark.parametrize("text", ["", "   ", "<@U0BOT>", "???"])
def test_nothing_to_ask(slack: SlackDesk, api: SlackApi, text: str) -> None:
    slack.command(ANA, f"ask {text}")
    assert "There was no question" in shown(api.responses[0])
