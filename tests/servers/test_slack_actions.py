"""Buttons, modals, hand-offs, settings of a channel, the Home tab and alerts."""

from __future__ import annotations

import json

import pytest

from assistant.model import Right
from assistant.store import principals, sources
from assistant.store.slack import Alert
from assistant.store.versions import Kind, fail, request
from assistant.surfaces.slack import alerts
from tests.servers.slack_api import SlackApi
from tests.servers.slack_desk import DESK, GENERAL, SlackDesk, buttons, shown
from tests.servers.slack_office import (
    ANA,
    BOSS,
    LEE,
    NOBODY,
    PORTS,
    SAFE,
    SAM,
)
from tests.servers.slack_office import api as api
from tests.servers.slack_office import office as office
from tests.servers.slack_office import slack as slack
from tests.servers.test_slack_answers import answers


def verdicts(slack: SlackDesk) -> list[tuple[str, str, int | None, str]]:
    with slack.bot.assistant.database.owner() as connection:
        rows = connection.execute("select * from feedback order by verdict").fetchall()
    return [(row["principal_id"], row["verdict"], row["marker"], row["comment"]) for row in rows]


def test_what_is_thought_of_an_answer(slack: SlackDesk, api: SlackApi) -> None:
    slack.direct(ANA, PORTS)
    (answer,) = answers(api, "D0ANA")
    slack.click(ANA, "up", answer, "D0ANA")
    assert verdicts(slack) == [("agent@x", "up", None, "")]
    slack.click(ANA, "down", answer, "D0ANA")
    view = slack.last_view()
    refused = slack.submit(ANA, view, {"reason": "source_outdated"})
    assert json.loads(refused.body)["errors"]["source"].startswith("Say which")
    accepted = slack.submit(
        ANA, view, {"reason": "source_outdated", "source": "1", "comment": "5.2 changed it"}
    )
    assert accepted.body == ""
    assert verdicts(slack) == [
        ("agent@x", "down", None, "A source is outdated: 5.2 changed it"),
        ("agent@x", "source_outdated", 1, "A source is outdated: 5.2 changed it"),
    ]
    slack.click(LEE, "up", answer, "D0LEE")
    assert len(verdicts(slack)) == 2, "somebody else's answer"
    slack.mention(SAM, PORTS)
    slack.click(LEE, "up", answers(api)[0])
    assert ("slack:t0fern:c0general", "up", None, "") in verdicts(slack)


def test_sources_word_for_word_in_a_view(slack: SlackDesk, api: SlackApi) -> None:
    slack.mention(ANA, PORTS)
    slack.click(SAM, "sources", answers(api)[0])
    told = shown({"blocks": slack.last_view()["blocks"]})
    assert "&gt; The sync service uses port 8443" in told or "> The sync service uses port 8443" in told
    assert "Ports of the sync service" in told


def test_a_hand_off_from_button_to_modal_to_channel_to_packet(slack: SlackDesk, api: SlackApi) -> None:
    with slack.bot.assistant.database.writer() as connection:
        principals.allow(connection, "lead@x", Right.ESCALATE)
    slack.command(BOSS, "settings", DESK)
    slack.submit(BOSS, slack.last_view(), {"alerts": ["handover"]})
    slack.direct(ANA, "How do I bake bread for Acme in a tandoor?")
    (answer,) = answers(api, "D0ANA")
    slack.click(ANA, "person", answer, "D0ANA")
    slack.submit(ANA, slack.last_view(), {"note": "They call at noon."})
    (told,) = answers(api, DESK)
    assert told["text"] == f"<@{ANA}> needs a person for a question."
    for private in ("bread", "Acme", "noon"):
        assert private not in shown(told)
    slack.click(LEE, "handover_show", told, DESK)
    assert "bread for Acme" in shown(api.responses[-1])
    assert "They call at noon." in shown(api.responses[-1])
    slack.click(SAM, "handover_show", told, DESK)
    assert "There is no escalation" in shown(api.responses[-1])
    slack.click(LEE, "handover_take", told, DESK)
    assert f"taken by <@{LEE}>" in shown(answers(api, DESK)[0])
    slack.click(LEE, "handover_close", answers(api, DESK)[0], DESK)
    assert buttons(answers(api, DESK)[0]) == {}


def test_a_stranger_can_ask_for_a_person(slack: SlackDesk, api: SlackApi) -> None:
    slack.mention(NOBODY, "How do I bake bread in a tandoor?")
    slack.click(NOBODY, "person", answers(api)[0])
    slack.submit(NOBODY, slack.last_view(), {})
    assert "Handed over" in shown(api.ephemeral[-1])
    with slack.bot.assistant.database.owner() as connection:
        rows = connection.execute("select principal_id, question from escalation").fetchall()
    assert [row["principal_id"] for row in rows] == ["slack:t0fern:u0nobody"]


def test_settings_are_for_the_owner_and_hold_at_once(slack: SlackDesk, api: SlackApi) -> None:
    slack.command(SAM, "settings", DESK)
    assert "whoever created it" in shown({"blocks": slack.last_view()["blocks"]})
    slack.command(ANA, "settings", DESK)
    view = slack.last_view()
    assert "alerts" not in {block.get("block_id") for block in view["blocks"]}, "for admins"
    wrong = slack.submit(ANA, view, {"customer": "nobody such", "quiet_from": "22:00"})
    assert set(json.loads(wrong.body)["errors"]) == {"customer", "quiet_to"}
    slack.submit(ANA, view, {"customer": "acme", "auto": "on", "floor": "likely"})
    slack.command(ANA, "ask What is still open for them?", DESK)
    assert "Sync stops at the proxy" in shown(api.responses[-1]), "the channel's customer"
    said = slack.message(SAM, PORTS, DESK)
    slack.event(said)
    chatter = slack.message(SAM, "How do I bake bread in a tandoor?", DESK)
    slack.event(chatter)
    elsewhere = slack.message(SAM, PORTS, GENERAL)
    slack.event(elsewhere)
    slack.idle()
    assert [one["thread_ts"] for one in answers(api, DESK)] == [said["ts"]], "sure enough"
    assert answers(api, GENERAL) == [], "nowhere else"
    slack.command(ANA, "settings", DESK)
    slack.submit(ANA, slack.last_view(), {"quiet_from": "00:00", "quiet_to": "23:59"})
    slack.event(slack.message(SAM, PORTS, DESK))
    slack.idle()
    assert len(answers(api, DESK)) == 1


def test_the_home_tab_and_what_is_suggested(slack: SlackDesk, api: SlackApi) -> None:
    slack.direct(ANA, PORTS)
    for user in (ANA, BOSS, NOBODY):
        opened = {
            "type": "app_home_opened",
            "user": user,
            "channel": "D" + user[1:],
            "tab": "home",
            "event_ts": "1",
        }
        slack.event(opened)
    slack.event(
        {"type": "app_home_opened", "user": ANA, "channel": "D0ANA", "tab": "messages", "event_ts": "2"}
    )
    slack.event(
        {"type": "app_home_opened", "user": NOBODY, "channel": "D0NOBODY", "tab": "messages", "event_ts": "3"}
    )
    slack.idle()
    anas, bosss, nobodys = (shown({"blocks": api.homes[user]["blocks"]}) for user in (ANA, BOSS, NOBODY))
    assert PORTS in anas
    assert "*desk*" not in anas
    assert "*desk*" in bosss
    assert PORTS not in bosss + nobodys
    prompts = {one["channel_id"]: str(one["prompts"]) for one in api.prompts}
    assert "Sync stops at the proxy" in prompts["D0ANA"]
    assert "Sync stops at the proxy" not in prompts["D0NOBODY"]


def test_alerts_are_told_once_and_name_nothing(slack: SlackDesk, api: SlackApi) -> None:
    assistant = slack.bot.assistant
    slack.wait(alerts.tell(slack.bot))
    assert answers(api) == [], "quiet by default"
    slack.command(BOSS, "settings", DESK)
    slack.submit(BOSS, slack.last_view(), {"alerts": [one.value for one in Alert]})
    slack.wait(alerts.tell(slack.bot))
    assert answers(api) == [], "nothing of what was before"
    with assistant.database.writer() as connection:
        source = sources.get(connection, "desk")
        for _ in range(2):
            run = sources.request(connection, source)
            row = connection.execute("select * from sync_run where id = %s", (run,)).fetchone()
            assert row is not None
            sources.finish(connection, row, error="Acme's folder is locked")
        made = request(connection, Kind.GENERATOR, base="b", dataset_hash=None, recipe={}, by="boss@x")
        fail(connection, made, "no memory")
    with assistant.database.owner() as connection:
        connection.execute(
            "insert into held_prune (source_id, run_id, missing, documents) values (%s, 1, '{Acme secret}', 7)",
            (source.id,),
        )
    slack.mention(ANA, "How do I bake bread for Acme in a tandoor?", DESK)
    with assistant.database.owner() as connection:
        connection.execute(
            "update slack_channel set told = told || jsonb_build_object('gaps', now() - interval '8 days')"
        )
    before = len(answers(api, DESK))
    slack.wait(alerts.tell(slack.bot))
    slack.wait(alerts.tell(slack.bot))
    assert len(answers(api, DESK)) == before + 1
    told = answers(api, DESK)[-1]
    assert str(told["blocks"]).count("The source *desk* fails") == 1
    assert "generator-1" in shown(told)
    assert "7 documents" in shown(told)
    assert "1 topic(s)" in shown(told)
    assert "Acme" not in shown(told)
    slack.click(ANA, "gaps_show", told, DESK)
    assert "role owner or admin" in shown(api.responses[-1])
    slack.click(BOSS, "gaps_show", told, DESK)
    assert "bake bread" in shown(api.responses[-1])


@pytest.mark.parametrize("user", [ANA, BOSS])
def test_only_admins_have_a_source_read(slack: SlackDesk, api: SlackApi, user: str) -> None:
    slack.command(user, "sync desk")
    slack.command(user, "sync")
    with slack.bot.assistant.database.owner() as connection:
        runs = connection.execute("select state from sync_run where state = 'queued'").fetchall()
    if user == BOSS:
        assert "is read now" in shown(api.responses[0])
        assert "There are: desk" in shown(api.responses[1])
    else:
        assert "Only admins" in shown(api.responses[0])
    assert bool(runs) is (user == BOSS) or len(runs) == 1
    assert SAFE not in api.everything()
