"""What people do on a page, in their words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.paths import PROJECT

AXE = PROJECT / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@cache
def _axe() -> str:
    return AXE.read_text(encoding="utf-8")


@dataclass
class Person:
    page: Page

    def sign_in(self, email: str, password: str) -> None:
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in", exact=True).click()
        expect(self.page.get_by_label("Your question")).to_be_visible()

    def sign_out(self) -> None:
        self.page.locator(".me-button").click()
        self.page.get_by_role("menuitem", name="Sign out").click()
        expect(self.page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()

    def begin(self) -> None:
        """A new conversation."""
        self.page.get_by_role("link", name="New conversation").click()
        expect(self.page.get_by_role("heading", name="What do you need to know")).to_be_visible()

    def write(self, text: str) -> None:
        self.page.get_by_label("Your question").fill(text)

    def send(self, text: str) -> None:
        """Ask and don't wait."""
        self.write(text)
        self.page.keyboard.press("Enter")

    def ask(self, text: str) -> Locator:
        """Ask and wait for the answer."""
        before = self.answers.count()
        self.send(text)
        return self.answered(before + 1)

    def answered(self, number: int = 1) -> Locator:
        """The answer of that number, when it is finished."""
        answer = self.answers.nth(number - 1)
        expect(answer.get_by_role("group", name="This answer")).to_be_visible()
        return answer

    @property
    def answers(self) -> Locator:
        return self.page.get_by_role("article", name="Answer")

    @property
    def panel(self) -> Locator:
        return self.page.locator("aside.panel")

    @property
    def dialog(self) -> Locator:
        return self.page.locator("dialog[open]")

    def button(self, name: str | re.Pattern[str], *, exact: bool = True) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact if isinstance(name, str) else None)

    def choose_customer(self, words: str, name: str) -> None:
        self.page.locator(".chip-button").first.click()
        field = self.page.get_by_role("combobox", name="Customer's name, id or domain")
        field.fill(words)
        expect(self.page.get_by_role("option", name=name)).to_be_visible()
        self.page.keyboard.press("Enter")
        expect(self.page.locator(".chip-button").first).to_contain_text(name)

    def choose_ticket(self, reference: str) -> None:
        self.page.locator(".chip-button").nth(1).click()
        self.page.get_by_label("Ticket's id or address").fill(reference)
        self.button("Use this ticket").click()

    def faults(self) -> list[str]:
        """What axe-core finds wrong with the page as it is."""
        self.page.evaluate(_axe())
        options: dict[str, Any] = {"runOnly": RULES}
        found = self.page.evaluate("options => axe.run(document, options)", options)
        return [
            f"{fault['id']}: {fault['help']}: {node['html'][:160]}"
            for fault in found["violations"]
            for node in fault["nodes"]
        ]
