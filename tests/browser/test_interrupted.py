"""What goes wrong on the way: a reload, a lost network, a model or a server that is away, a session that ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.desk import MARA, PASSWORD, Desk, answers
from tests.browser.person import Person
from tests.browser.test_chat import PORT
from tests.installation import wait

New = Callable[..., Person]


def test_an_answer_goes_on_after_a_reload(desk: Desk, person: New) -> None:
    mara = person()
    with desk.model.thinking():
        mara.send(PORT)
        mara.page.wait_for_url("**/c/*")
        mara.page.reload()
        expect(mara.page.get_by_role("group", name="Question")).to_contain_text(PORT)
        expect(mara.button("Stop")).to_be_visible()
    expect(mara.answered()).to_contain_text("7420")
    expect(mara.page.get_by_role("group", name="Question")).to_have_count(1)


def test_an_answer_goes_on_after_the_network_was_lost(desk: Desk, person: New, trouble: list[str]) -> None:
    mara = person()
    with desk.model.thinking():
        mara.send(PORT)
        mara.page.wait_for_url("**/c/*")
        mara.page.context.set_offline(True)
        expect(mara.page.locator(".reconnecting")).to_be_visible()
        mara.write("Typed while it was away")
    mara.page.context.set_offline(False)
    expect(mara.answered()).to_contain_text("7420")
    expect(mara.answers).to_have_count(1)
    expect(mara.page.locator(".reconnecting")).to_have_count(0)
    expect(mara.page.get_by_label("Your question")).to_have_value("Typed while it was away")
    assert all("ERR_INTERNET_DISCONNECTED" in one for one in trouble), trouble
    trouble.clear()


def test_a_model_that_is_away_costs_no_answer(desk: Desk, person: New) -> None:
    mara = person()
    desk.model.server.base = "another"  # it answers 404 for the one that is asked for
    try:
        expect(mara.ask(PORT)).to_contain_text("7420")
    finally:
        desk.model.server.base = "writer"


def test_the_web_server_dies_and_comes_back(desk: Desk, person: New, trouble: list[str]) -> None:
    mara = person()
    mara.ask(PORT)
    os.kill(desk.process("assistant.surfaces.api.serve").pid, signal.SIGKILL)
    mara.send("What is FS-1042?")
    # It didn't get through; once the server is back, the page knows, and keeps the question.
    expect(mara.page.locator(".reconnecting")).to_be_visible()
    wait(lambda: answers(desk.settings), what="the restart of the web server")
    mara.page.locator(".problem").get_by_role("button", name="Try again").click()
    expect(mara.answered(2)).to_contain_text("1042")
    trouble.clear()


def test_a_session_that_ends_costs_nothing(person: New, trouble: list[str]) -> None:
    mara = person()
    mara.ask(PORT)
    mara.page.context.clear_cookies()
    mara.send("What is FS-1042?")
    expect(mara.dialog).to_contain_text("Your session has ended")
    mara.dialog.get_by_label("E-mail").fill(MARA)
    mara.dialog.get_by_label("Password").fill(PASSWORD)
    mara.dialog.get_by_role("button", name="Sign in", exact=True).click()
    expect(mara.dialog).to_have_count(0)
    mara.page.locator(".problem").get_by_role("button", name="Try again").click()
    expect(mara.answered(2)).to_contain_text("1042")
    assert all("status of 401" in one for one in trouble), trouble
    trouble.clear()
