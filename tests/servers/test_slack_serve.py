"""The bot's own process: it starts, takes deliveries over HTTP, and ends in good order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
from slack_sdk.signature import SignatureVerifier

from assistant.config import PREFIX, Settings
from tests.servers.ports import free_port
from tests.servers.slack_api import BOT, TEAM, TOKEN, SlackApi
from tests.servers.slack_desk import GENERAL, SECRET
from tests.servers.slack_office import ANA, PORTS
from tests.servers.slack_office import api as api
from tests.servers.slack_office import office as office
from tests.servers.test_history import Office
from tests.servers.test_slack_answers import answers

PROJECT = Path(__file__).parents[2]


def start(settings: Settings, api: SlackApi, log: Path, **more: str) -> subprocess.Popen[bytes]:
    values = {
        "state": str(settings.state),
        "models": str(settings.models_folder),
        "generator": "echo",
        "slack_api_url": f"{api.url}/api/",
        "slack_bot_token": TOKEN,
        "slack_signing_secret": SECRET,
        **more,
    }
    for name in ("database_url", "redis_url"):
        values[name] = getattr(settings, name).get_secret_value()
    env = {**os.environ, **{PREFIX + name.upper(): value for name, value in values.items()}}
    # Bolt reads such a variable by itself; it must not count here.
    env["SLACK_BOT_TOKEN"] = "xoxb-somebody-elses"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "assistant.surfaces.slack.serve"]
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=PROJECT)


def posted(port: int, body: bytes, *, secret: str = SECRET) -> httpx.Response:
    stamp = str(int(time.time()))
    signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body) or ""
    headers = {
        "content-type": "application/json",
        "x-slack-signature": signature,
        "x-slack-request-timestamp": stamp,
    }
    return httpx.post(f"http://127.0.0.1:{port}/slack/events", content=body, headers=headers, timeout=30)


def test_it_takes_deliveries_over_http(
    settings: Settings, office: Office, api: SlackApi, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "bot.log"
    process = start(settings, api, log, slack_port=str(port))
    try:
        until = time.monotonic() + 90
        while b"slack.started" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        challenge = json.dumps({"type": "url_verification", "challenge": "c1", "token": "t"}).encode()
        assert posted(port, challenge).json() == {"challenge": "c1"}
        assert posted(port, challenge, secret="another").status_code == 401
        assert posted(port, b"x" * 2**21).status_code == 413
        ts = api.post(GENERAL, user=ANA, text="x")
        event = {
            "type": "app_mention",
            "user": ANA,
            "text": f"<@{BOT}> {PORTS}",
            "ts": ts,
            "channel": GENERAL,
        }
        body = {
            "type": "event_callback", "team_id": TEAM, "event_id": "Ev1", "event": event,
            "authorizations": [{"team_id": TEAM, "user_id": BOT, "is_bot": True}],
        }  # fmt: skip
        begun = time.monotonic()
        assert posted(port, json.dumps(body).encode()).status_code == 200
        assert time.monotonic() - begun < 3, "acknowledged in time"
        while not [m for m in answers(api) if m.get("streaming") is False]:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        assert "8443" in str(answers(api)[0]["text"])
        assert PORTS not in log.read_text(), "no text of anybody in the log"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_token_that_slack_refuses_is_told(
    settings: Settings, office: Office, api: SlackApi, tmp_path: Path
) -> None:
    api.fail("auth.test", "invalid_auth")
    log = tmp_path / "bot.log"
    assert start(settings, api, log, slack_port=str(free_port())).wait(90) == 1
    assert "DESKHAND_SLACK_BOT_TOKEN (invalid_auth)" in log.read_text()
