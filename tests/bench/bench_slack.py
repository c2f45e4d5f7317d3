"""The Slack bot under load: acknowledgements, first words, double answers, leaks.

    python -m tests.bench.bench_slack [--commands 200] [--deliveries 2000] [--questions 2000]

Signed deliveries in process, against the tests' own Slack API: `acks` are concurrent commands while answers are made;
`first` is how long one waits for the first visible words with the settings' generator at rest; `doubles` are mentions
delivered once to four times, as both events that Slack sends, over HTTP to two processes of the bot; `leaks` are
questions of random people in channels of both kinds, over the desk of `tests/hostile.py`, whose posts are searched for
canaries.
Writes results/slack.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from assistant import servers
from assistant.app import Assistant
from assistant.config import Settings
from assistant.model import Member
from assistant.runtime.up import running
from assistant.store import slack as store
from assistant.store import sources, sync
from assistant.surfaces.api import limits
from tests import hostile
from tests.bench.output import save
from tests.paths import MODELS
from tests.servers.ports import free_port
from tests.servers.slack_api import BOT, TEAM, SlackApi, slack_api
from tests.servers.slack_desk import slack_desk
from tests.servers.test_slack_serve import posted, start

OPEN, CLOSED = "C0OPEN", "C0CLOSED"
"""a channel with a stranger in it, and one of agents alone"""
SETTLED_SECONDS = 20.0
"""after the last answer: so long a second one may still come"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commands", type=int, default=200)
    parser.add_argument("--deliveries", type=int, default=2_000)
    parser.add_argument("--questions", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    limits.A_MINUTE["questions"] = 10**6
    with tempfile.TemporaryDirectory(prefix="dh-") as folder, slack_api() as api:
        Path(folder).chmod(0o711)
        config = Settings(state=Path(folder) / "s", models=MODELS, generator="echo")
        with running(config, migrate=lambda _: Assistant(config).migrate()):
            assistant = Assistant(config)
            desk = hostile.fill(assistant, dice)
            people(assistant, api)
            parts: dict[str, Callable[[], dict[str, Any]]] = {
                "first": lambda: first(config, api, desk, dice),
                "acks": lambda: acks(config, api, desk, dice, options.commands),
                "doubles": lambda: doubles(config, api, Path(folder), dice, options.deliveries),
                "leaks": lambda: leaks(config, api, desk, dice, options.questions),
            }
            result: dict[str, Any] = {}
            for name, part in parts.items():
                result[name] = part()
                print(name, result[name], flush=True)
            assistant.close()
    save("slack", result)


def people(assistant: Assistant, api: SlackApi) -> None:
    with assistant.database.writer() as connection:
        source = sources.get(connection, "desk")
        members = [
            Member(hostile.AGENT.id, hostile.AGENT.id, groups=frozenset({"support"})),
            Member(hostile.STRANGER.id, hostile.STRANGER.id, groups=frozenset({"sales"})),
        ]
        sync.commit_memberships(connection, source, members)
        for channel in (OPEN, CLOSED):
            store.set_channel(connection, store.Channel(TEAM, channel, audience=store.Audience.MEMBERS))
    api.person("U0AGENT", hostile.AGENT.id)
    api.person("U0SELLER", hostile.STRANGER.id)
    for number in range(20):
        api.person(f"U0NOBODY{number}", f"nobody{number}@elsewhere.example")
    api.members[OPEN] = ["U0AGENT", "U0SELLER", "U0NOBODY1", BOT]
    api.members[CLOSED] = ["U0AGENT", BOT]


def asked(desk: hostile.Desk, dice: random.Random, count: int) -> list[str]:
    return [probe.question for probe in hostile.probes(desk, dice, count)]


def first(config: Settings, api: SlackApi, desk: hostile.Desk, dice: random.Random) -> dict[str, float]:
    """One after the other, with the local generator."""
    seconds: list[float] = []
    with slack_desk(config.model_copy(update={"generator": "local"}), api) as slack:
        slack.mention("U0AGENT", "Which port is used?", CLOSED)
        for question in asked(desk, dice, 40):
            api.calls.clear()
            begun = time.monotonic()
            slack.mention("U0AGENT", question, CLOSED)
            said = ("chat.startStream", "chat.postMessage", "chat.postEphemeral")
            seconds += [at - begun for method, _, at in api.calls if method in said][:1]
    return spread(seconds)


def acks(
    config: Settings, api: SlackApi, desk: hostile.Desk, dice: random.Random, count: int
) -> dict[str, float]:
    seconds: list[float] = []
    with slack_desk(config, api) as slack, ThreadPoolExecutor(count) as pool:

        def command(question: str) -> None:
            begun = time.monotonic()
            assert slack.command("U0AGENT", f"ask {question}", CLOSED, wait=False).status == 200
            seconds.append(time.monotonic() - begun)

        list(pool.map(command, asked(desk, dice, count)))
        slack.wait(slack.bot.idle(), 3600)
    return spread(seconds)


def doubles(config: Settings, api: SlackApi, folder: Path, dice: random.Random, count: int) -> dict[str, int]:
    """To two processes of the bot, each mention delivered to whichever, as often as Slack repeats itself."""
    api.messages.clear()
    shared = config.model_copy(
        update={
            "database_url": SecretStr(servers.database_url(config)),
            "redis_url": SecretStr(servers.redis_url(config)),
        }
    )
    with bots(shared, api, folder, 2) as ports:
        deliveries: list[tuple[int, bytes]] = []
        messages = 0
        while len(deliveries) < count:
            person = f"U0ASKER{messages}"  # each asks once: nobody meets the limit of questions a minute
            api.person(person, f"{person.lower()}@elsewhere.example")
            text = f"<@{BOT}> Which port is used? ({messages})"
            event = {
                "user": person,
                "text": text,
                "ts": api.post(OPEN, user=person, text=text),
                "channel": OPEN,
            }
            messages += 1
            for _ in range(dice.randint(1, 4)):
                kind = dice.choice(("app_mention", "message"))
                body = {
                    "type": "event_callback", "team_id": TEAM, "event_id": f"Ev{len(deliveries)}",
                    "event": {**event, "type": kind},
                    "authorizations": [{"team_id": TEAM, "user_id": BOT, "is_bot": True}],
                }  # fmt: skip
                deliveries.append((dice.choice(ports), json.dumps(body).encode()))
        dice.shuffle(deliveries)
        with ThreadPoolExecutor(16) as pool:
            for answer in pool.map(posted, *zip(*deliveries, strict=True)):
                answer.raise_for_status()
        until = time.monotonic() + 3600
        while (answered := threads(api)).keys() != {m["ts"] for m in api.said(OPEN) if not m.get("bot_id")}:
            assert time.monotonic() < until, f"{len(answered)} of {messages} are answered"
            time.sleep(1)
        time.sleep(SETTLED_SECONDS)
    answered = threads(api)
    return {
        "deliveries": len(deliveries),
        "messages": messages,
        "answered": len(answered),
        "answered twice": sum(number > 1 for number in answered.values()),
    }


def threads(api: SlackApi) -> Counter[str]:
    """How many messages of the bot stand in each thread."""
    return Counter(m["thread_ts"] for m in api.said(OPEN) if m.get("bot_id"))


@contextmanager
def bots(config: Settings, api: SlackApi, folder: Path, count: int) -> Generator[list[int]]:
    """Their ports, as long as these processes run."""
    ports = [free_port() for _ in range(count)]
    logs = [folder / f"bot-{port}.log" for port in ports]
    running = [start(config, api, log, slack_port=str(port)) for port, log in zip(ports, logs, strict=True)]
    try:
        until = time.monotonic() + 120
        while not all(b"slack.started" in log.read_bytes() for log in logs):
            assert time.monotonic() < until, [log.read_text()[-2000:] for log in logs]
            time.sleep(0.1)
        yield ports
    finally:
        for process in running:
            process.terminate()
            process.wait(20)


def leaks(
    config: Settings, api: SlackApi, desk: hostile.Desk, dice: random.Random, count: int
) -> dict[str, Any]:
    """Posts that hold a canary which their question does not."""
    words = {w for v in desk.victims for w in (*v.identity, *v.notes)} | set(desk.secrets)
    found: list[dict[str, object]] = []
    posts = 0
    with slack_desk(config, api) as slack:
        for question in asked(desk, dice, count):
            api.messages.clear()
            channel = dice.choice((OPEN, CLOSED))
            slack.mention(dice.choice(("U0AGENT", "U0SELLER", "U0NOBODY1")), question, channel)
            for post in (m for m in api.said(channel) if m.get("bot_id")):
                posts += 1
                text = str([post.get("text"), post.get("blocks")])
                told = [w for w in words if w in text and w.lower() not in question.lower()]
                if told:
                    found.append({"channel": channel, "question": question, "words": told})
    return {"questions": count, "posts": posts, "leaks": found}


def spread(seconds: list[float]) -> dict[str, float]:
    found = sorted(seconds)
    cut = [found[min(len(found) - 1, int(len(found) * share))] for share in (0.5, 0.95, 0.99)]
    return {
        "count": len(found),
        "mean": round(statistics.mean(found), 3),
        **{name: round(value, 3) for name, value in zip(("p50", "p95", "p99"), cut, strict=True)},
    }


if __name__ == "__main__":
    main()
