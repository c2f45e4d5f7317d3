"""Who gets what in Slack: a channel what all may read, a person what they may read, strangers public material."""

from __future__ import annotations

import random

import pytest

from assistant.config import Settings
from assistant.store import logins
from assistant.store.slack import Audience, Channel, set_channel
from tests.servers.slack_api import TEAM, SlackApi
from tests.servers.slack_desk import DESK, GENERAL, SlackDesk, shown, slack_desk
from tests.servers.slack_office import (
    ANA,
    BOSS,
    GUEST,
    LEE,
    NOBODY,
    PARTNER,
    PORTS,
    PRIVATE,
    SAFE,
    SAM,
)
from tests.servers.slack_office import api as api
from tests.servers.slack_office import office as office
from tests.servers.slack_office import slack as slack
from tests.servers.test_history import AGENT, Office
from tests.servers.test_slack_answers import answers

CANARIES = ("red safe", "Petra Holm", "unpaid", "Master key", "Escrow", "Acme", "Ana Rossi")
"""what is not everybody's: passages, titles, an internal note, a customer's names"""


def behave(slack: SlackDesk, channel: str, **settings: object) -> None:
    with slack.bot.assistant.database.writer() as connection:
        set_channel(connection, Channel(TEAM, channel, **settings))


@pytest.mark.parametrize("user", [ANA, LEE, BOSS])
def test_a_channel_gets_what_everybody_may_read(slack: SlackDesk, api: SlackApi, user: str) -> None:
    for question in (SAFE, PRIVATE, "Sync stops at the proxy with FS-1042, what helps?"):
        slack.mention(user, question, DESK)
    for canary in CANARIES:
        assert canary not in api.shared()
    assert len(answers(api, DESK)) == 3


def test_what_all_members_may_read_is_told_where_the_channel_says_so(slack: SlackDesk, api: SlackApi) -> None:
    behave(slack, DESK, audience=Audience.MEMBERS)
    behave(slack, GENERAL, audience=Audience.MEMBERS)
    slack.mention(ANA, PRIVATE, DESK)
    slack.mention(LEE, SAFE, DESK)
    slack.mention(ANA, PRIVATE, GENERAL)
    escrow, safe = answers(api, DESK)
    assert "Petra Holm" in str(escrow["text"]), "each of the three is of the group"
    assert "red safe" not in shown(safe), "only one of them is a lead"
    assert "Petra" not in shown(answers(api, GENERAL)[0]), "sales is in that channel"


def test_somebody_who_joins_narrows_it_at_once(slack: SlackDesk, api: SlackApi) -> None:
    behave(slack, DESK, audience=Audience.MEMBERS)
    slack.mention(ANA, PRIVATE, DESK)
    api.members[DESK].append(SAM)
    slack.event({"type": "member_joined_channel", "user": SAM, "channel": DESK, "team": TEAM})
    slack.mention(LEE, PRIVATE, DESK)
    first, second = answers(api, DESK)
    assert "Petra Holm" in shown(first)
    assert "Petra Holm" not in shown(second)


def test_names_of_customers_never_reach_a_channel(slack: SlackDesk, api: SlackApi) -> None:
    behave(slack, DESK, audience=Audience.MEMBERS)
    slack.mention(ANA, "Acme's sync stops at the proxy with FS-1042. What helps?", DESK)
    (answer,) = answers(api, DESK)
    told = shown(answer)
    assert "Sync stops at the proxy" in told, "the ticket is each member's to read"
    for canary in ("Acme", "Ana Rossi", "unpaid", "ana@"):
        assert canary not in told


def test_only_for_me_and_shared_again(slack: SlackDesk, api: SlackApi) -> None:
    said = slack.mention(LEE, SAFE)
    (answer,) = answers(api)
    slack.click(LEE, "private", answer)
    slack.click(SAM, "private", answer)
    lees, sams = api.responses
    assert "red safe" in shown(lees)
    assert "red safe" not in shown(sams)
    assert "red safe" not in api.shared()
    slack.click(LEE, "share", {**lees, "thread_ts": said["ts"]})
    assert "red safe" not in api.shared(), "it is asked again with the channel's rights"
    assert len(answers(api)) == 2


def test_sharing_posts_the_question_and_a_public_answer(slack: SlackDesk, api: SlackApi) -> None:
    slack.command(ANA, f"ask {PORTS}")
    (whisper,) = api.responses
    slack.click(ANA, "share", whisper)
    question, answer = answers(api)
    assert question["text"] == f"<@{ANA}> asks: {PORTS}"
    assert answer["thread_ts"] == question["ts"]
    assert "8443" in str(answer["text"])


@pytest.mark.parametrize("user", [GUEST, PARTNER, NOBODY])
def test_strangers_get_public_material_alone(slack: SlackDesk, api: SlackApi, user: str) -> None:
    for question in (SAFE, PRIVATE, PORTS, "Sync stops at the proxy with FS-1042, what helps?"):
        slack.direct(user, question)
        slack.command(user, f"ask {question}")
    slack.command(user, "customer acme")
    slack.command(user, "ticket 101")
    told = api.everything()
    assert "8443" in told
    for canary in CANARIES:
        assert canary not in told.replace("customer acme", "")


@pytest.mark.parametrize("user", [GUEST, PARTNER, NOBODY])
def test_or_nothing_by_a_setting(settings: Settings, office: Office, api: SlackApi, user: str) -> None:
    with slack_desk(settings, api, slack_strangers="nothing") as slack:
        slack.direct(user, PORTS)
        slack.mention(user, PORTS)
        told = api.everything()
    assert "8443" not in told
    assert "did not find your address" in told


@pytest.mark.parametrize("told", [{"is_email_confirmed": False}, {"is_email_confirmed": None}, {}])
def test_an_unconfirmed_address_is_nobodys(slack: SlackDesk, api: SlackApi, told: dict[str, object]) -> None:
    api.person("U0FAKE", "lead@x")
    del api.users["U0FAKE"]["is_email_confirmed"]
    api.users["U0FAKE"] |= told
    slack.direct("U0FAKE", SAFE)
    assert "red safe" not in api.everything()


def test_a_disabled_login_is_shut_out_here_too(slack: SlackDesk, api: SlackApi) -> None:
    with slack.bot.assistant.database.writer() as connection:
        logins.add(connection, AGENT.id, logins.Role.AGENT, password="a password of theirs")
        logins.set_disabled(connection, AGENT.id, True)
    slack.direct(ANA, PORTS)
    assert "8443" not in api.everything()
    assert "disabled" in api.everything()


def test_a_right_that_was_taken_is_gone_with_the_next_question(slack: SlackDesk, api: SlackApi) -> None:
    slack.direct(LEE, SAFE)
    with slack.bot.assistant.database.owner() as connection:
        connection.execute("delete from membership where user_name = 'lead@x'")
    slack.direct(LEE, SAFE)
    first, second = answers(api, "D0LEE")
    assert "red safe" in shown(first)
    assert "red safe" not in shown(second)


def test_a_thread_of_another_channel_is_summarised_for_its_members_alone(
    slack: SlackDesk, api: SlackApi
) -> None:
    secret = slack.message(ANA, "The merger with Globex is on for May.", DESK)
    link = f"https://fern.slack.com/archives/{DESK}/p{secret['ts'].replace('.', '')}"
    api.members[DESK] = [*(f"U{number}" for number in range(2_500)), ANA]
    slack.command(SAM, f"summarise <{link}>")
    slack.command(ANA, f"summarise <{link}>")
    refused, told = api.responses
    assert "merger" not in shown(refused)
    assert "not in that channel" in shown(refused)
    assert "merger" in shown(told)


def test_the_conversation_of_a_channel_is_nobodys_own(slack: SlackDesk) -> None:
    """So nobody can go on with it elsewhere, with rights of their own, and bring that back into the channel."""
    slack.mention(LEE, PORTS)
    with slack.bot.assistant.database.owner() as connection:
        rows = connection.execute("select principal_id from conversation").fetchall()
    assert [row["principal_id"] for row in rows] == ["slack:t0fern:c0general"]


def test_random_people_and_places_leak_nothing(slack: SlackDesk, api: SlackApi) -> None:
    """A few of the two thousand that `bench_slack` asks."""
    chance = random.Random(7)
    behave(slack, GENERAL, audience=Audience.MEMBERS)
    asked = (SAFE, PRIVATE, PORTS, "What do we know about Acme and its proxy?", "Who is Ana Rossi?")
    for _ in range(12):
        slack.mention(chance.choice((ANA, LEE, SAM, NOBODY)), chance.choice(asked), GENERAL)
    told = api.shared().replace("about Acme", "").replace("Who is Ana Rossi", "")
    for canary in CANARIES:
        assert canary not in told
