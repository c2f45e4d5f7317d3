"""The pages of who runs Deskhand and of who owns its knowledge."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from assistant.store import sources
from tests.browser.desk import INES, MARA, PRIYA, Desk
from tests.browser.person import Person
from tests.browser.test_chat import NOT_THERE

New = Callable[..., Person]


def test_a_source_is_synced_paused_and_scheduled(person: New) -> None:
    ines = person(INES)
    ines.page.goto("/admin/sources")
    files = ines.page.get_by_role("article", name="fernhill-files")
    expect(files.locator(".badge")).to_have_text("in order")
    expect(files).to_contain_text("Documents")
    files.get_by_role("button", name="Sync now").click()
    expect(ines.page.locator(".toast")).to_contain_text("A sync of fernhill-files begins")

    def more(item: str) -> None:
        ines.button("More for fernhill-files").click()
        ines.page.get_by_role("menuitem", name=item).click()

    more("Schedule")
    ines.dialog.get_by_label("Every").select_option("1h")
    ines.button("Set").click()
    expect(files).to_contain_text("every 1h")
    more("Pause")
    ines.dialog.get_by_role("button", name="Pause").click()
    expect(files.locator(".badge")).to_have_text("paused")
    expect(files.get_by_role("button", name="Sync now")).to_be_disabled()
    more("Resume")
    expect(files.locator(".badge")).not_to_have_text("paused")


def test_what_could_not_be_read_is_told_and_tried_again(desk: Desk, person: New) -> None:
    with desk.installation.assistant() as assistant, assistant.database.writer() as connection:
        origin = sources.get(connection, "fernhill-files")
        connection.execute(
            "insert into failure (source_id, external_id, stage, reason) values (%s, %s, %s, %s)",
            (origin.id, "handbook/<b>scan</b>.pdf", "parse", "It has no text: a scan of 12 pages."),
        )
    ines = person(INES)
    ines.page.goto("/admin/sources")
    files = ines.page.get_by_role("article", name="fernhill-files")
    files.get_by_role("button", name=re.compile("failure")).click()
    expect(ines.dialog).to_contain_text("handbook/<b>scan</b>.pdf")
    expect(ines.dialog).to_contain_text("a scan of 12 pages")
    ines.dialog.get_by_role("button", name="Retry all").click()
    expect(ines.page.locator(".toast")).to_contain_text("will be tried again")


def test_somebody_is_let_in_and_shut_out(
    person: New, window: Callable[..., Page], trouble: list[str]
) -> None:
    ines, newcomer = person(INES), Person(window())
    email = "new.comer@fernhill.example"
    ines.page.goto("/admin/logins")
    ines.button("Add somebody").click()
    ines.dialog.get_by_label("E-mail").fill(email)
    ines.dialog.get_by_label("Name").fill("New Comer")
    ines.button("Add", exact=True).click()
    password = ines.dialog.get_by_label("Password").input_value()
    ines.page.keyboard.press("Escape")
    newcomer.page.goto("/")
    newcomer.sign_in(email, password)

    row = ines.page.get_by_role("row", name=re.compile(email))
    row.get_by_role("button", name=f"Change {email}").click()
    ines.page.get_by_role("menuitem", name="Shut out").click()
    ines.dialog.get_by_role("button", name="Shut out").click()
    expect(row).to_contain_text("disabled")
    newcomer.send("Am I still here?")
    expect(newcomer.dialog).to_contain_text("Your session has ended")
    ines.page.goto("/admin/audit")
    expect(ines.page.get_by_role("row", name=re.compile(email)).first).to_be_visible()
    trouble.clear()


def test_a_token_is_made_used_and_revoked(desk: Desk, person: New) -> None:
    mara = person(MARA)
    mara.page.goto("/account")
    mara.button("New token").click()
    mara.dialog.get_by_label("Name").fill("nightly report")
    mara.button("Make it").click()
    token = mara.dialog.get_by_label("Token").input_value()
    mara.page.keyboard.press("Escape")
    script = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{desk.url}/api/v1/conversations", headers=script).status_code == 200
    row = mara.page.get_by_role("row", name=re.compile("nightly report"))
    row.get_by_role("button", name="Revoke").click()
    mara.dialog.get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    assert httpx.get(f"{desk.url}/api/v1/conversations", headers=script).status_code == 401


def test_whose_account_it_is(person: New) -> None:
    ines = person(INES)
    ines.page.goto("/admin/people")
    ines.page.get_by_label("Search accounts").fill("dale")
    row = ines.page.get_by_role("row", name=re.compile("dale@whitcombe")).first
    expect(row).to_be_visible()
    row.get_by_role("button", name=re.compile("^Change whom")).click()
    ines.dialog.get_by_label("E-mail of the person").fill("dale@whitcombe-docs.example")
    ines.button("Set").click()
    expect(row).to_contain_text("set by an admin")


def test_the_owner_sees_what_is_asked_in_vain_and_no_more(person: New) -> None:
    person(MARA).ask(NOT_THERE)
    priya = person(PRIYA)
    priya.page.get_by_role("link", name="Quality").click()
    expect(priya.page.locator(".card-title", has_text="Kubernetes CSI").first).to_be_visible()
    expect(priya.page.locator(".side")).not_to_contain_text("Sources")
    priya.page.goto("/admin/sources")
    expect(priya.page.locator("#main")).to_contain_text("This page is for administrators")


@pytest.mark.parametrize(
    ("page", "shows"),
    [
        ("models", "Nothing was trained yet"),
        ("usage", "Questions a day"),
        ("audit", "login.in"),
        ("health", "in order"),
    ],
)
def test_what_an_admin_can_look_at(person: New, page: str, shows: str) -> None:
    ines = person(INES)
    ines.page.goto(f"/admin/{page}")
    expect(ines.page.locator("#main")).to_contain_text(shows)
