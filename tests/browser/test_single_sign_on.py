"""Signing in at the organisation's own identity provider, on its pages: a real one, which insists on PKCE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser import provider
from tests.browser.desk import Desk
from tests.browser.person import Person

CALLBACK = "/api/v1/oidc/sso/callback"
Away = Callable[[], Person]


@pytest.fixture
def away(desk: Desk, window: Callable[..., Page], trouble: list[str]) -> Iterator[Away]:
    """Somebody in a browser of their own who chose to sign in at the provider, and is on its page now."""

    def go() -> Person:
        page = window()
        page.route("https://fonts.googleapis.com/**", lambda route: route.abort())
        page.goto("/")
        page.get_by_role("link", name="Sign in with Single sign-on").click()
        return Person(page)

    yield go
    theirs = (desk.settings.oidc_issuer, "fonts.googleapis.com")
    trouble[:] = [one for one in trouble if not any(origin in one for origin in theirs)]


def came_in(person: Person) -> dict[str, str]:
    """Whom Deskhand takes them for."""
    expect(person.page.get_by_label("Your question")).to_be_visible()
    return person.page.context.request.get("/api/v1/session").json()["person"]


def refused(person: Person, why: str) -> None:
    expect(person.page.get_by_role("alert")).to_contain_text(why)
    assert person.page.context.request.get("/api/v1/session").status == 204


def test_somebody_signs_in_with_what_the_sources_know_of_them(away: Away) -> None:
    mara = away()
    provider.sign_in(mara.page, "mara")
    expect(mara.page.get_by_text("profile", exact=True)).to_be_visible()
    provider.consent(mara.page)
    assert came_in(mara) == {
        "id": "mara.lindqvist@fernhill.example",
        "name": "Mara Lindqvist",
        "role": "agent",
    }
    expect(mara.page.get_by_role("link", name="Admin")).to_have_count(0)
    answer = mara.ask("Which TCP port does the sync protocol use by default since version 5.0?")
    expect(answer).to_contain_text("7420")
    mara.sign_out()
    # The provider still knows them, and that they said yes.
    mara.page.get_by_role("link", name="Sign in with Single sign-on").click()
    assert came_in(mara)["name"] == "Mara Lindqvist"


def test_a_group_makes_somebody_an_admin_and_none_keeps_them_out(away: Away) -> None:
    ines = away()
    provider.sign_in(ines.page, "ines")
    provider.consent(ines.page)
    assert came_in(ines)["role"] == "admin"
    expect(ines.page.get_by_role("link", name="Admin")).to_be_visible()
    other = away()
    provider.sign_in(other.page, "outsider")
    provider.consent(other.page)
    refused(other, "None of your groups may come in here")


def test_an_address_that_is_not_verified_makes_nobody_its_owner(away: Away) -> None:
    pretender = away()
    provider.sign_in(pretender.page, "pretender")
    provider.consent(pretender.page)
    person = came_in(pretender)
    assert person["id"].startswith("oidc:"), "and not ines.okafor@fernhill.example"
    assert person["role"] == "agent"
    pretender.ask("How long is the waiting time before a deposited storage key is released?")
    expect(pretender.answers).not_to_contain_text("24 hours")


def test_who_cancels_is_told_and_may_try_again(away: Away) -> None:
    tomasz = away()
    provider.cancel(tomasz.page)
    refused(tomasz, "sign-in refused it. Try again")
    tomasz.page.get_by_role("link", name="Sign in with Single sign-on").click()
    provider.sign_in(tomasz.page, "mara")
    provider.cancel(tomasz.page)
    refused(tomasz, "sign-in refused it. Try again")
    tomasz.page.get_by_role("link", name="Sign in with Single sign-on").click()
    provider.consent(tomasz.page)
    came_in(tomasz)


def test_a_way_back_is_for_one_browser_and_one_time(away: Away, window: Callable[..., Page]) -> None:
    mara = away()
    provider.sign_in(mara.page, "mara")
    back = provider.way_back(mara.page)
    assert urlsplit(back).path == CALLBACK
    other = Person(window())
    for forged in (back, back.replace("state=", "state=x"), CALLBACK, f"{CALLBACK}?state=x&code=y"):
        other.page.goto(forged)
        refused(other, "begun in another window")
    mara.page.goto(back)
    came_in(mara)
    mara.sign_out()
    mara.page.goto(back)
    refused(mara, "Start it again")


def test_a_code_of_somebody_elses_sign_in_is_of_no_use(away: Away) -> None:
    """Whoever slips theirs in has not the verifier that it was asked for with."""
    ines, thief = away(), away()
    provider.sign_in(ines.page, "ines")
    provider.sign_in(thief.page, "mara")
    stolen, own = provider.way_back(ines.page), provider.way_back(thief.page)
    state = parse_qs(urlsplit(own).query)["state"][0]
    code = parse_qs(urlsplit(stolen).query)["code"][0]
    thief.page.goto(f"{CALLBACK}?{urlencode({'state': state, 'code': code})}")
    refused(thief, "sign-in refused it. Try again")
