"""Installing the app, as `emulate` plays Slack's side of OAuth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml

from assistant.config import Settings
from assistant.store import slack as store
from tests.servers.ports import free_port
from tests.servers.slack_office import office as office
from tests.servers.test_history import Office
from tests.slack.conftest import SECRET, answers, bot, child, installed, soon

pytestmark = pytest.mark.slack
CLIENT, CLIENT_SECRET = "12345.67890", "a client's secret"


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Its address, and the bot's port that it returns browsers to."""
    program, port, bots = installed("emulate/dist/index.js"), free_port(), free_port()
    seed = {
        "slack": {
            "team": {"name": "Fernhill", "domain": "fern"},
            "oauth_apps": [
                {
                    "client_id": CLIENT,
                    "client_secret": CLIENT_SECRET,
                    "name": "Deskhand",
                    "redirect_uris": [f"http://localhost:{bots}/slack/oauth_redirect"],
                }
            ],
        }
    }
    file = tmp_path / "emulate.yaml"
    file.write_text(yaml.safe_dump(seed), encoding="utf-8")
    command = ["node", str(program), "--service", "slack", "--port", str(port), "--seed", str(file)]
    with child(command, tmp_path / "emulate.log"):
        url = f"http://localhost:{port}"
        soon(lambda: answers(f"{url}/api/auth.test"), "the emulator's start")
        yield url, bots


def test_the_app_is_installed_and_its_token_sealed(
    settings: Settings, office: Office, tmp_path: Path, emulate: tuple[str, int]
) -> None:
    url, port = emulate
    more = {
        "slack_api_url": f"{url}/api/",
        "slack_client_id": CLIENT,
        "slack_client_secret": CLIENT_SECRET,
        "slack_signing_secret": SECRET,
        "slack_port": str(port),
        "web_url": f"http://localhost:{port}",
    }
    with bot(settings, tmp_path, **more), httpx.Client(follow_redirects=True, timeout=30) as browser:
        page = browser.get(f"http://localhost:{port}/slack/install")
        for name, value in page.cookies.items():  # they are for TLS, which is not spoken here
            browser.cookies.set(name, value)
        found = re.search(r'href="(http[^"]+)"', page.text)
        assert found
        consent = browser.get(found[1].replace("&amp;", "&"))
        state = parse_qs(urlsplit(found[1].replace("&amp;", "&")).query)["state"][0]
        action = re.search(r'<form[^>]*action="([^"]+)"', consent.text)
        fields = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', consent.text))
        assert action, consent.text[:2000]
        done = browser.post(f"{url}{action[1]}", data={**fields, "state": state})
        assert "Deskhand is installed" in done.text
    with office.assistant.database.writer() as connection:
        (row,) = store.workspaces(connection)
        assert row["allowed"] is False
        kept = store.workspace(connection, settings, row["team"])
    assert kept is not None
    assert kept.token.startswith("xoxb-")
