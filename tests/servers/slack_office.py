"""The desk that the tests of the Slack bot ask about, and who is in its workspace."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from langchain_core.messages import BaseMessage

from assistant.app import Assistant
from assistant.config import Settings
from assistant.generate.echo import EchoChat
from assistant.model import Audience, Member
from assistant.store import logins, sources, sync
from assistant.store.logins import Role
from tests.servers.slack_api import BOT, SlackApi, slack_api
from tests.servers.slack_desk import DESK, GENERAL, SlackDesk, share, slack_desk
from tests.servers.test_history import ACME, AGENT, LEAD, STRANGER, Office, agent, asked, ticket
from tests.servers.test_web_chat import manual

ANA, LEE, SAM, GUEST, PARTNER, NOBODY, BOSS = (
    "U0ANA", "U0LEE", "U0SAM", "U0GUEST", "U0PARTNER", "U0NOBODY", "U0BOSS"
)  # fmt: skip
"""an agent, the lead, somebody of sales, a guest, somebody of another company, somebody unknown, an admin"""
ADMIN = "boss@x"
PORTS, SAFE = "Which port does the sync service use?", "Where is the master key of the vault kept?"
PRIVATE = "Who signs the quarterly escrow letter of the vault?"


def members(assistant: Assistant) -> None:
    with assistant.database.writer() as connection:
        source = sources.get(connection, "desk")
        listed = [
            Member(AGENT.id, AGENT.id, groups=frozenset({"support"})),
            Member(LEAD.id, LEAD.id, groups=frozenset({"support", "leads"})),
            Member(STRANGER.id, STRANGER.id, groups=frozenset({"sales"})),
            Member(ADMIN, ADMIN, groups=frozenset({"support"})),
        ]
        sync.commit_memberships(connection, source, listed)
        logins.add(connection, ADMIN, Role.ADMIN, password="a password of theirs")


@pytest.fixture
def office(settings: Settings) -> Iterator[Office]:
    made = Office(settings)
    share(made.assistant)
    members(made.assistant)
    made.take(
        manual(
            1,
            "Ports of the sync service",
            "The sync service uses port 8443. A firewall must let port 8443 through. "
            "Older versions used port 9000 instead.",
        ),
        manual(2, "Master key", "The master key of the vault is kept in the red safe.", "leads"),
        manual(3, "Escrow", "The quarterly escrow letter of the vault is signed by Petra Holm.", "support"),
        ticket(
            101,
            "Sync stops at the proxy",
            asked("Our sync stops at the proxy with FS-1042."),
            agent("Switch off content scanning in the proxy for the sync host.", 2),
            agent("Their proxy contract is unpaid.", 3, audience=Audience.INTERNAL),
            customer=ACME,
        ),
    )
    yield made
    made.assistant.close()


@pytest.fixture
def api() -> Iterator[SlackApi]:
    with slack_api() as made:
        made.person(ANA, AGENT.id)
        made.person(LEE, LEAD.id)
        made.person(SAM, STRANGER.id)
        made.person(GUEST, LEAD.id, is_restricted=True)
        made.person(PARTNER, LEAD.id, team_id="T0OTHER", is_stranger=True)
        made.person(NOBODY, "nobody@elsewhere.example")
        made.person(BOSS, ADMIN)
        made.members[GENERAL] = [ANA, LEE, SAM, NOBODY, BOSS, BOT]
        made.members[DESK] = [ANA, LEE, BOSS, BOT]
        made.channels[DESK] = {"creator": ANA}
        yield made


@pytest.fixture
def slack(settings: Settings, office: Office, api: SlackApi) -> Iterator[SlackDesk]:
    with slack_desk(settings, api) as made:
        yield made


class Slow(EchoChat):
    """Says three sentences of the first source, slowly enough to be streamed."""

    seconds: float = 0.1

    def pieces(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: object
    ) -> Generator[str]:
        import time

        for said in (
            "The sync service uses port 8443. [1]",
            "A firewall must let port 8443 through. [1]",
            "Older versions used port 9000 instead. [1]",
        ):
            for word in said.split():
                time.sleep(self.seconds)
                yield word + " "
