"""Coming in and going out."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from assistant.store import logins
from assistant.store.logins import Role
from tests.browser.desk import DALE, MARA, PASSWORD, PRIYA, Desk
from tests.browser.person import Person

New = Callable[..., Person]
REFUSED = "status of 401"


def test_a_wrong_password_then_the_right_one(window: Callable[..., Page], trouble: list[str]) -> None:
    mara = Person(window())
    mara.page.goto("/")
    mara.page.get_by_label("E-mail").fill(MARA)
    mara.page.get_by_label("Password").fill("wrong horse")
    mara.page.keyboard.press("Enter")
    expect(mara.page.get_by_role("alert")).to_contain_text("don't belong together")
    expect(mara.page.get_by_label("Password")).to_have_value("")
    mara.sign_in(MARA, PASSWORD)
    mara.sign_out()
    mara.page.goto("/account")
    expect(mara.button("Sign in")).to_be_visible()
    assert all(REFUSED in one for one in trouble), trouble
    trouble.clear()


def test_too_many_guesses_lock_the_login(desk: Desk, window: Callable[..., Page], trouble: list[str]) -> None:
    email = "guessed.at@fernhill.example"
    with desk.installation.assistant() as assistant, assistant.database.writer() as connection:
        logins.add(connection, email, Role.AGENT, password=PASSWORD)
    page = window()
    page.goto("/")
    for number in range(logins.ATTEMPTS + 1):
        page.get_by_label("E-mail").fill(email)
        page.get_by_label("Password").fill(f"guess number {number}")
        with page.expect_response("**/api/v1/login"):
            page.keyboard.press("Enter")
        expect(page.get_by_label("Password")).to_have_value("")
    expect(page.get_by_role("alert")).to_contain_text("minutes")
    trouble.clear()


def test_a_second_window_that_signed_out(person: New, trouble: list[str]) -> None:
    first = person(DALE)
    second = first.page.context.new_page()
    second.goto("/")
    Person(second).sign_out()
    first.send("Is anybody there?")
    expect(first.dialog).to_contain_text("Your session has ended")
    trouble.clear()


def test_a_password_is_changed_by_its_owner(desk: Desk, person: New, trouble: list[str]) -> None:
    priya = person(PRIYA)
    priya.page.goto("/account")
    priya.page.get_by_label("Old password").fill("not the old one")
    priya.page.get_by_label("New password").fill("another fine battery")
    priya.button("Change it").click()
    expect(priya.page.get_by_role("alert")).to_contain_text("not your present password")
    priya.page.get_by_label("Old password").fill(PASSWORD)
    priya.button("Change it").click()
    expect(priya.page.locator(".toast")).to_contain_text("Your password was changed")
    # The session is another one now, and so is its CSRF token: the next change still works.
    priya.page.get_by_label("Old password").fill("another fine battery")
    priya.page.get_by_label("New password").fill(PASSWORD)
    priya.button("Change it").click()
    expect(priya.page.get_by_label("Old password")).to_have_value("")
    assert all("status of 400" in one for one in trouble), trouble
    trouble.clear()
