"""Every page: readable for everybody (axe-core), in light and dark, on a phone; its weight; the keyboard alone."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.desk import INES
from tests.browser.person import Person
from tests.browser.test_chat import NOT_THERE, PORT

New = Callable[..., Person]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}
ADMIN = ("sources", "logins", "people", "models", "quality", "usage", "audit", "health")
WEIGHT = 250 * 1024


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_readable(person: New, window: Callable[..., Page], pictures: Path, look: str) -> None:
    faults: list[str] = []

    def seen(who: Person, name: str) -> None:
        who.page.wait_for_load_state("networkidle")
        who.page.wait_for_timeout(250)  # what fades has faded
        who.page.screenshot(path=pictures / f"{look}-{name}.png")
        faults.extend(f"{name}: {fault}" for fault in who.faults())

    nobody = Person(window(**LOOKS[look]))
    nobody.page.goto("/")
    expect(nobody.button("Sign in")).to_be_visible()
    seen(nobody, "sign-in")

    ines = person(INES, **LOOKS[look])
    seen(ines, "welcome")
    answer = ines.ask(PORT)
    seen(ines, "answer")
    answer.locator("button.marker").first.click()
    expect(ines.panel.locator("mark").first).to_be_visible()
    seen(ines, "source")
    ines.page.keyboard.press("Escape")
    ines.choose_customer("orrin", "Orrin")
    ines.button(re.compile("^History of")).click()
    expect(ines.panel.locator(".past").first).to_be_visible()
    seen(ines, "history")
    ines.page.keyboard.press("Escape")
    declined = ines.ask(NOT_THERE)
    seen(ines, "declined")
    declined.get_by_role("button", name="Bad answer").click()
    seen(ines, "reason")
    ines.page.keyboard.press("Escape")
    declined.get_by_role("button", name="Hand over to a person").click()
    ines.dialog.get_by_role("button", name="Hand over", exact=True).click()
    expect(ines.dialog.locator(".packet")).to_be_visible()
    seen(ines, "handed-over")
    ines.dialog.get_by_role("link", name="Open it").click()
    expect(ines.button("Take it")).to_be_visible()
    seen(ines, "hand-over")
    for path in ("handovers", "account", "nowhere", *(f"admin/{page}" for page in ADMIN)):
        ines.page.goto(f"/{path}")
        expect(ines.page.get_by_role("heading", level=1)).to_be_visible()
        expect(ines.page.locator(".loading")).to_have_count(0)
        seen(ines, path.replace("/", "-"))
    if look == "phone":
        ines.page.goto("/")
        ines.button("Open the menu").click()
        expect(ines.page.get_by_role("link", name="New conversation")).to_be_visible()
        seen(ines, "menu")
    assert faults == []


def test_the_first_page_is_light_and_comes_from_here_alone(window: Callable[..., Page], desk: Any) -> None:
    page = window()
    bodies: dict[str, bytes] = {}
    page.on(
        "response", lambda response: bodies.update({response.url: response.body()}) if response.ok else None
    )
    answer = page.goto("/")
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert sum(len(gzip.compress(body)) for body in bodies.values()) <= WEIGHT
    assert all(url.startswith(desk.url) for url in bodies)


def test_all_of_it_by_keyboard(person: New) -> None:
    ines = person(INES)
    page = ines.page
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type(PORT)
    page.keyboard.press("Enter")
    answer = ines.answered()
    # From the field backwards into the answer, to its first source.
    for _ in range(40):
        page.keyboard.press("Shift+Tab")
        if "source-card" in (page.evaluate("document.activeElement.className") or ""):
            break
    page.keyboard.press("Enter")
    expect(ines.panel).to_be_visible()
    page.keyboard.press("Escape")
    expect(ines.panel).to_have_count(0)
    page.keyboard.press("?")
    expect(ines.dialog).to_contain_text("Keyboard")
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+n")
    expect(page.get_by_role("heading", name="What do you need to know")).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(answer).to_be_visible()
    page.locator(".me-button").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem").first).to_be_focused()
    page.keyboard.press("End")
    expect(page.get_by_role("menuitem", name="Sign out")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".me-button")).to_be_focused()
