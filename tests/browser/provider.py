"""The identity provider of these tests, `provider.mjs`: what a person does on its pages."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

from tests.paths import PROJECT

CLIENT, SECRET = "deskhand", "between us"


@contextmanager
def serving(redirect: str, folder: Path) -> Generator[str]:
    """Its issuer, as long as it runs. It sends people back to `redirect` alone."""
    script = PROJECT / "tests" / "browser" / "provider.mjs"
    with (
        (folder / "provider.log").open("wb") as log,
        subprocess.Popen(
            ["node", str(script), redirect],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        issuer = process.stdout.readline().strip()
        assert issuer, (folder / "provider.log").read_text()
        try:
            yield issuer
        finally:
            process.terminate()


def sign_in(page: Page, account: str) -> None:
    """From the provider's page to its question whether Deskhand may know who one is."""
    page.get_by_placeholder("Enter any login").fill(account)
    page.get_by_placeholder("and password").fill("any")
    page.get_by_role("button", name="Sign-in").click()


def consent(page: Page) -> None:
    page.get_by_role("button", name="Continue").click()


def cancel(page: Page) -> None:
    page.get_by_role("link", name="[ Cancel ]").click()


def way_back(page: Page) -> str:
    """Consent, and the address one is sent back to, without going there."""
    request = page.context.request
    action = page.locator("form").get_attribute("action") or ""
    on = request.post(action, form={"prompt": "consent"}, max_redirects=0).headers["location"]
    return request.get(on, max_redirects=0).headers["location"]
