from __future__ import annotations

import datetime as dt

from assistant.ingest.digest import LINES, digest
from assistant.model import Access, Audience, Section, Step

DAY = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)


def test_each_message_is_told_by_what_matters_in_it() -> None:
    found = digest(
        "FS-1043 although 3 TB are free",
        [
            Section(
                "Hello team,\n\nthe server says block store read only, df shows 3 TB free.", role="customer"
            ),
            Section(
                "Hi Cem, thanks for writing. Sorry for that. Raise the number of inodes.",
                role="agent",
                created_at=DAY,
            ),
            Section(
                "No comment to the customer: the licence is unpaid.", role="agent", audience=Audience.INTERNAL
            ),
            Section("Works, thank you!", role="customer"),
            Section("Watch `df -i` as well, alarm at 90 %.", role="agent", is_solution=True),
        ],
    )
    assert [line.step for line in found.lines] == [
        Step.PROBLEM,
        Step.TRIED,
        Step.TRIED,
        Step.REPLY,
        Step.SOLUTION,
    ]
    problem, tried, note, _, solution = found.lines
    assert "read only" in problem.text
    assert tried.text == "Raise the number of inodes."
    assert tried.at == DAY
    assert note.audience is Audience.INTERNAL
    assert "df -i" in solution.text
    assert found.codes == ("FS-1043",)


def test_codes_are_taken_only_from_what_every_reader_of_the_ticket_may_read() -> None:
    found = digest(
        "It stops",
        [
            Section("It stops with 0x80070005.", role="customer"),
            Section("Really SECRET-4711.", role="agent", audience=Audience.INTERNAL),
            Section("And HIDDEN-0815.", role="agent", access=Access.of(groups=("few",))),
        ],
    )
    assert found.codes == ("0x80070005",)
    assert found.lines[2].access == Access.of(groups=("few",))


def test_a_ticket_without_end_keeps_its_beginning_and_its_end() -> None:
    found = digest(
        "Long", [Section(f"Message number {n} says it again and again.", role="agent") for n in range(500)]
    )
    assert len(found.lines) == LINES
    assert "number 0 " in found.lines[0].text
    assert "number 499 " in found.lines[-1].text


def test_politeness_alone_is_no_line() -> None:
    assert digest("Hi", [Section("Thanks!", role="agent"), Section("", role="customer")]).lines == ()
