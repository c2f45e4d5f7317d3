"""Asking, and everything that can be done with an answer, as a person does it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.desk import DALE, INES, TOMASZ, Desk
from tests.browser.person import Person

PORT = "Which port does the sync protocol use since version 5.0?"
NOT_THERE = "How do I use Fernhill Sync as a Kubernetes CSI volume driver?"
ESCROW = "Who may open the key escrow, and how many people does it take?"

PASTE = """text => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text", text);
    const paste = new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true});
    document.getElementById("question").dispatchEvent(paste);
}"""

New = Callable[..., Person]


def test_an_answer_leads_to_the_very_words_of_its_source(person: New) -> None:
    mara = person()
    answer = mara.ask(PORT)
    expect(answer).to_contain_text("7420")
    expect(mara.page).to_have_url(re.compile(r"/c/[0-9a-f-]{36}$"))
    marker = answer.locator("button.marker").first
    marker.focus()
    mara.page.keyboard.press("Enter")
    expect(mara.panel.locator("mark").first).to_be_visible()
    quoted = " ".join(mara.panel.locator("mark").all_inner_texts())
    first = answer.locator(".prose").inner_text()
    assert set(re.findall(r"\w{5,}", quoted)) & set(re.findall(r"\w{5,}", first))
    expect(mara.panel).to_contain_text("From a document")
    mara.page.keyboard.press("Escape")
    expect(mara.panel).to_have_count(0)
    expect(marker).to_be_focused()


def test_the_kind_of_evidence_is_told_in_words(person: New) -> None:
    mara = person()
    mara.choose_customer("orrin", "Orrin")
    answer = mara.ask("What does their carrier in Fremantle drop?")
    kinds = answer.locator(".source-card .kind")
    expect(kinds.first).to_be_visible()
    assert set(kinds.all_inner_texts()) <= {"Document", "Past ticket", "This customer"}


def test_what_the_sources_lack_goes_to_a_person(person: New) -> None:
    mara, tomasz = person(), person(TOMASZ)
    answer = mara.ask(NOT_THERE)
    expect(answer).to_contain_text("The sources don’t have it")
    expect(answer.get_by_label("Nearest sources").locator(".source-card").first).to_be_visible()
    answer.get_by_role("button", name="Hand over to a person").click()
    mara.dialog.get_by_role("button", name="Hand over", exact=True).click()
    expect(mara.dialog).to_contain_text("It waits for a person now")
    expect(mara.dialog.locator(".packet")).to_contain_text("Nearest sources")
    mara.dialog.get_by_role("button", name="Done").click()

    tomasz.page.get_by_role("link", name="Hand-overs").click()
    tomasz.page.get_by_role("link", name=re.compile("Kubernetes CSI")).first.click()
    tomasz.button("Take it").click()
    expect(tomasz.page.locator(".badge").first).to_have_text("taken")
    tomasz.button("Close").click()
    tomasz.dialog.get_by_label("What came of it").fill("There is none; told the customer.")
    tomasz.button("Close it").click()
    expect(tomasz.page.locator(".badge").first).to_have_text("closed")
    expect(tomasz.page.locator(".page")).to_contain_text("told the customer")


def test_two_people_get_what_each_may_read(person: New) -> None:
    allowed, other = person(INES).ask(ESCROW), person().ask(ESCROW)
    expect(allowed.locator(".source-card", has_text=re.compile("escrow", re.I)).first).to_be_visible()
    assert "key-escrow" not in other.inner_text().lower()
    expect(other.locator(".source-card", has_text=re.compile("escrow procedure", re.I))).to_have_count(0)


def test_a_follow_up_an_edit_and_asking_again(person: New) -> None:
    mara = person()
    mara.ask(PORT)
    second = mara.ask("And which one does the web interface use?")
    expect(second).to_be_visible()
    question = mara.page.get_by_role("group", name="Question").nth(1)
    question.hover()
    question.get_by_role("button", name="Edit the question").click()
    mara.page.get_by_role("textbox", name="Edit the question").fill("What is FS-1042?")
    mara.page.keyboard.press("Enter")
    expect(mara.answered(2)).to_contain_text("1042")
    expect(mara.page.get_by_role("group", name="Question")).to_have_count(2)
    mara.answers.nth(1).get_by_role("button", name="Ask again").click()
    mara.answered(2)
    mara.page.reload()
    expect(mara.page.get_by_role("group", name="Question")).to_have_count(2)
    expect(mara.page.get_by_role("group", name="Question").nth(1)).to_contain_text("FS-1042")


def test_stopping_keeps_what_was_written(desk: Desk, person: New) -> None:
    mara = person()
    with desk.model.slow(0.3):
        mara.send(PORT)
        expect(mara.answers.first.locator(".marker").first).to_be_visible()
        mara.button("Stop").click()
        answer = mara.answered()
    expect(answer).to_contain_text("Stopped before it was finished")
    expect(mara.button("Ask")).to_be_visible()
    mara.page.reload()
    expect(mara.answered()).to_contain_text("Stopped before it was finished")


def test_a_verdict_with_its_reason_is_kept(person: New) -> None:
    mara = person()
    answer = mara.ask(PORT)
    answer.get_by_role("button", name="Bad answer").click()
    mara.dialog.get_by_label("Something is missing").check()
    mara.dialog.get_by_label("In your words").fill("It doesn't say for which version")
    mara.dialog.get_by_role("button", name="Send").click()
    expect(answer.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
    answer.locator("button.marker").first.click()
    mara.panel.get_by_role("button", name="Outdated or wrong").click()
    mara.dialog.get_by_role("button", name="Report").click()
    expect(mara.panel.get_by_role("button", name="Reported as outdated")).to_be_visible()
    mara.page.reload()
    expect(mara.answered().get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
    mara.answers.first.get_by_role("button", name="Good answer").click()
    expect(mara.answers.first.get_by_role("button", name="Good answer")).to_have_attribute(
        "aria-pressed", "true"
    )


def test_a_customers_history_beside_the_question(person: New) -> None:
    mara = person()
    mara.choose_customer("northbay", "Northbay")
    mara.button(re.compile("^History of Northbay")).click()
    expect(mara.panel.get_by_role("heading", name="Open now")).to_be_visible()
    expect(mara.panel.locator(".past").first).to_be_visible()
    past = mara.panel.locator("section", has_text="What was tried").locator(".past").first
    past.locator("summary").click()
    expect(past.locator(".lines, .hint").first).to_be_visible()
    past.get_by_role("button", name="Ask about this ticket").click()
    expect(mara.page.locator(".chip-button").nth(1)).to_contain_text("#")
    mara.page.keyboard.press("Escape")
    expect(mara.panel).to_have_count(0)


@pytest.mark.parametrize("reference", ["4325", "https://desk.fernhill.example/tickets/4325"])
def test_a_ticket_as_context_and_a_reply_draft(person: New, reference: str) -> None:
    mara = person()
    if reference.startswith("https:"):
        mara.page.evaluate(PASTE, reference)
    else:
        mara.choose_ticket(reference)
    expect(mara.page.locator(".chip-button").nth(1)).to_contain_text("#4325")
    mara.button("Show ticket 4325").click()
    expect(mara.panel).to_contain_text("Ticket 4325")
    mara.page.keyboard.press("Escape")
    answer = mara.ask("What is going on, and what helped?")
    answer.get_by_role("button", name="Reply draft").click()
    expect(mara.dialog).to_contain_text("Nothing is sent")
    expect(mara.button("Copy the draft")).to_be_enabled()
    assert mara.dialog.get_by_label("Draft", exact=True).input_value()


def test_a_ticket_that_is_not_there(person: New, trouble: list[str]) -> None:
    mara = person()
    mara.choose_ticket("99999999")
    expect(mara.page.get_by_role("alert")).to_contain_text("No ticket by that id or address")
    mara.page.wait_for_timeout(100)
    trouble.clear()  # the browser notes the 404


def test_finding_renaming_and_deleting_a_conversation(person: New) -> None:
    mara = person()
    mara.ask("How long does Fernhill support a version after its release?")
    row = mara.page.locator(".conversation.current")
    row.get_by_role("button", name=re.compile("^Actions for")).click()
    mara.page.get_by_role("menuitem", name="Rename").click()
    mara.dialog.get_by_label("Title").fill("Lifecycle <b>& co</b>")
    mara.dialog.get_by_role("button", name="Rename").click()
    expect(row).to_contain_text("Lifecycle <b>& co</b>")
    mara.page.keyboard.press("Control+k")
    mara.page.keyboard.type("lifecycle")
    expect(mara.page.locator(".conversation")).to_have_count(1)
    mara.page.keyboard.press("ArrowDown")
    expect(mara.page.locator(".conversation a")).to_be_focused()
    mara.page.locator(".conversation").hover()
    mara.page.get_by_role("button", name=re.compile("^Actions for Lifecycle")).click()
    mara.page.get_by_role("menuitem", name="Delete").click()
    mara.dialog.get_by_role("button", name="Delete").click()
    expect(mara.page.locator(".conversation")).to_have_count(0)
    expect(mara.page).to_have_url(re.compile("/$"))


def test_sharing_with_who_may_read_the_sources(person: New, trouble: list[str]) -> None:
    mara, tomasz, dale = person(), person(TOMASZ), person(DALE)
    mara.ask(PORT)
    mara.button("Share").click()
    mara.button("Make a link").click()
    link = mara.dialog.get_by_label("Link").input_value()
    tomasz.page.goto(link)
    shared = tomasz.answered()
    expect(shared).to_contain_text("7420")
    expect(shared.get_by_role("button", name="Good answer")).to_have_count(0)
    shared.locator("button.marker").first.click()
    expect(tomasz.panel.locator("mark").first).to_be_visible()
    dale.page.goto(link)
    expect(dale.page.locator("#main")).to_contain_text("This link doesn’t open for you")
    dale.page.goto(mara.page.url)
    expect(dale.page.locator("#main")).to_contain_text("This conversation isn’t here")
    mara.button("Stop sharing").click()
    expect(mara.dialog).to_have_count(0)
    tomasz.page.reload()
    expect(tomasz.page.locator("#main")).to_contain_text("This link doesn’t open for you")
    assert all("status of 404" in one for one in trouble), trouble
    trouble.clear()


def test_a_question_that_is_too_long_stays_in_the_field(person: New) -> None:
    mara = person()
    mara.write("why " * 6_000)
    expect(mara.page.locator("#question-length")).to_contain_text("Shorten it to ask")
    mara.page.keyboard.press("Enter")
    expect(mara.page.get_by_label("Your question")).to_have_value(re.compile("^why"))
    expect(mara.answers).to_have_count(0)


def test_what_is_typed_is_there_after_a_reload(person: New) -> None:
    mara = person()
    mara.write("Half a thought")
    mara.page.reload()
    expect(mara.page.get_by_label("Your question")).to_have_value("Half a thought")


def test_markup_is_shown_and_never_run(person: New) -> None:
    mara = person()
    tags = '<img src=x onerror="document.title=1"> <script>alert(1)</script>'
    mara.ask(f"{tags} [port](javascript:alert(1)) 7420 sync protocol")
    expect(mara.page.get_by_role("group", name="Question")).to_contain_text(
        '<img src=x onerror="document.title=1">'
    )
    assert mara.page.locator(".thread img, .thread script, a[href^='javascript']").count() == 0


def test_a_file_goes_with_one_question(person: New) -> None:
    mara = person()
    mara.page.locator("input[type=file]").set_input_files(
        {
            "name": "report.txt",
            "mimeType": "text/plain",
            "buffer": b"The customer's sync server reports port 17999 as blocked.",
        }
    )
    expect(mara.page.get_by_label("Files that go with this question")).to_contain_text("report.txt")
    mara.ask("Which port is blocked according to the report?")
    expect(mara.page.get_by_label("Files that go with this question")).to_have_count(0)
