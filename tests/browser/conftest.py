"""A browser, people in it, and what holds for every page: no error in the console, no request elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.browser import desk as desks
from tests.browser.desk import MARA, PASSWORD, Desk
from tests.browser.person import Person
from tests.paths import PROJECT

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 45_000
"""ms to wait for something on a page: the machine may be busy"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def desk(folder: Path) -> Iterator[Desk]:
    with desks.running(folder) as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def trouble() -> list[str]:
    """What a page did that none may; a test that provokes something takes it out again."""
    return []


Open = Callable[..., Page]


@pytest.fixture
def window(desk: Desk, chromium: Browser, trouble: list[str]) -> Iterator[Open]:
    """Opens a browser of its own (cookies and all) and watches it."""
    contexts: list[BrowserContext] = []

    def open_one(**options: Any) -> Page:
        context = chromium.new_context(
            base_url=desk.url, **{"viewport": {"width": 1366, "height": 820}, **options}
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: _console(message, trouble))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("request", lambda request: _request(request, desk.url, trouble))
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert trouble == []


def _console(message: ConsoleMessage, trouble: list[str]) -> None:
    # Before anybody is signed in, the answer to «who am I» is 401, which a browser notes by itself.
    if message.type == "error" and not (
        "status of 401" in message.text and message.location["url"].endswith("/api/v1/session")
    ):
        trouble.append(f"console: {message.text} ({message.location['url']})")


def _request(request: Request, origin: str, trouble: list[str]) -> None:
    if not request.url.startswith((f"{origin}/", "blob:")):
        trouble.append(f"request to {request.url}")


@pytest.fixture
def person(window: Open) -> Callable[..., Person]:
    """Somebody who signed in: `person()` is Mara; options are those of the browser."""

    def sign_in(email: str = MARA, **options: Any) -> Person:
        someone = Person(window(**options))
        someone.page.goto("/")
        someone.sign_in(email, PASSWORD)
        return someone

    return sign_in


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots are written, for a person to look at."""
    folder = Path(os.environ.get("DESKHAND_SCREENSHOTS") or PROJECT / ".deskhand" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
