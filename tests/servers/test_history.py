"""A customer's history: what it shows, as of when, and to whom."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from assistant.answer.draft import draft
from assistant.app import Assistant
from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.model import (
    TIMELINE,
    Access,
    Audience,
    Customer,
    Event,
    Evidence,
    Kind,
    Line,
    Part,
    Principal,
    SourceDocument,
    Step,
    Ticket,
    Upsert,
)
from assistant.retrieve.evidence import alike, evidence
from assistant.retrieve.scope import Scope
from assistant.store import history
from assistant.store.search import Filters
from assistant.surfaces import asking
from tests import handed

AGENT = Principal("agent@x", frozenset({"desk/group:support"}))
LEAD = Principal("lead@x", frozenset({"desk/group:support", "desk/group:leads"}))
STRANGER = Principal("stranger@x", frozenset({"desk/group:sales"}))
ACME = Customer("acme", "Acme Corp", ("acme.example",))
GLOBEX = Customer("globex", "Globex Maschinenbau GmbH", ("globex.example",))


def day(number: int) -> dt.datetime:
    return dt.datetime(2026, 5, number, 12, tzinfo=dt.UTC)


def ticket(
    number: int,
    title: str,
    *parts: Part,
    customer: Customer = ACME,
    at: int = 1,
    access: Access | None = None,
    **facts: object,
) -> Upsert:
    told = {
        "status": "open",
        "requester": "Ana Rossi",
        "requester_email": f"ana@{customer.domains[0]}",
        **facts,
    }
    return Upsert(
        SourceDocument(
            external_id=f"ticket/{number}",
            kind=Kind.TICKET,
            title=title,
            body=parts,
            revision="1",
            access=access or Access.of(groups=("support",)),
            url=f"https://desk.example/t/{number}",
            created_at=day(at),
            customer=customer,
            ticket=Ticket(**told),
        )
    )


def asked(text: str, at: int = 1) -> Part:
    return Part(text, role="customer", created_at=day(at))


def agent(text: str, at: int = 2, **more: object) -> Part:
    return Part(text, role="agent", created_at=day(at), **more)


def lines(ticket: history.PastTicket, step: Step) -> list[Line]:
    return [line for line in ticket.lines if line.step is step]


class Office:
    """A desk's tickets, indexed as the workers do it."""

    def __init__(self, settings: Settings) -> None:
        self.assistant = Assistant(settings)
        handed.add_source(self.assistant)

    def take(self, *changes: Upsert) -> None:
        handed.commit(self.assistant, changes)
        handed.index(self.assistant)

    def history(
        self, who: Principal = AGENT, audience: Audience = Audience.INTERNAL, before: int | None = None
    ) -> history.History:
        ids = self.assistant.customer(AGENT, "acme").ids
        with self.assistant.database.reader(who, audience) as connection:
            return history.history(connection, ids, before=day(before) if before else None)


@pytest.fixture
def office(settings: Settings) -> Iterator[Office]:
    made = Office(settings)
    made.take(
        ticket(
            101,
            "Uploads stop with FS-1042",
            asked("Every upload stops with FS-1042 behind the new proxy."),
            agent("Switch off content scanning for the sync host.", 2),
            agent("Licence is unpaid, be careful what you promise.", 3, audience=Audience.INTERNAL),
            agent(
                "The security team found their password in a dump.",
                3,
                audience=Audience.INTERNAL,
                access=Access.of(groups=("leads",)),
            ),
            asked("Did not help.", 4),
            agent("Set chunk_size = 4 in server.ini and restart the service.", 5, is_solution=True),
            status="closed",
            solved_at=day(7),
            product="Server",
            version="5.1",
            events=(
                Event(day(5), "open", "solved"),
                Event(day(6), "solved", "open"),
                Event(day(7), "open", "closed"),
            ),
        ),
        ticket(
            102,
            "FS-1042 again",
            asked("FS-1042 is back since the update.", 10),
            at=10,
            version="5.2",
            product="Server",
        ),
        ticket(
            201,
            "Globex uploads stop with FS-1042",
            asked("Our uploads at Globex stop with FS-1042, customer number CANARY-77120.", 3),
            agent(
                "Hi Ana, exempt *.globex.example from TLS inspection on srv-fin-07, then uploads work again.",
                4,
                is_solution=True,
            ),
            agent("Globex pays late. CANARYNOTE everywhere.", 4, audience=Audience.INTERNAL),
            customer=GLOBEX,
            status="solved",
            solved_at=day(5),
            at=3,
        ),
    )
    yield made
    made.assistant.close()


def test_a_history_says_what_was_tried_what_helped_and_what_comes_again(office: Office) -> None:
    found = office.history()
    assert (found.tickets, found.open_tickets) == (2, 1)
    assert [t.title for t in found.latest] == ["FS-1042 again", "Uploads stop with FS-1042"]
    assert [t.title for t in found.open] == ["FS-1042 again"]
    assert [(r.what, r.tickets) for r in found.recurring] == [("FS-1042", 2)]
    assert [(p, v) for p, v, _ in found.versions] == [("Server", "5.2"), ("Server", "5.1")]
    old = found.latest[1]
    assert (old.reopened, old.is_open, old.codes) == (1, False, ("FS-1042",))
    assert [line.text for line in lines(old, Step.SOLUTION)] == [
        "Set chunk_size = 4 in server.ini and restart the service."
    ]
    assert any("content scanning" in line.text for line in lines(old, Step.TRIED))


def test_as_of_a_day_nothing_newer_is_told(office: Office) -> None:
    found = office.history(before=4)
    assert (found.tickets, found.open_tickets) == (1, 1)
    only = found.latest[0]
    assert (only.status, only.is_open, only.solved_at, only.reopened) == ("open", True, None, 0)
    assert not lines(only, Step.SOLUTION)
    assert office.history(before=5).latest[0].status == "solved"


def test_lines_are_told_by_the_same_rights_as_the_messages_they_are_of(office: Office) -> None:
    def told(who: Principal, audience: Audience = Audience.INTERNAL) -> str:
        found = office.history(who, audience)
        return " ".join(line.text for t in found.latest for line in t.lines)

    assert "unpaid" in told(AGENT)
    assert "password" not in told(AGENT)
    assert "password" in told(LEAD)
    assert "unpaid" not in told(LEAD, Audience.PUBLIC)
    assert told(STRANGER) == ""
    assert office.history(STRANGER).tickets == 0, "not even a number"


def test_a_ticket_that_may_not_be_read_is_as_one_that_does_not_exist(office: Office) -> None:
    office.take(ticket(300, "Secret", asked("Nobody knows."), access=Access.of(groups=("leads",))))
    errors: list[str] = []
    for number in ("300", "301"):
        with pytest.raises(ConfigError) as caught:
            office.assistant.about(AGENT, "", ticket=number)
        errors.append(str(caught.value).replace(number, "N"))
    assert errors[0] == errors[1]
    assert office.assistant.about(AGENT, "what about ticket 300?").ticket is None
    assert office.assistant.about(LEAD, "what about ticket 300?").ticket is not None


@pytest.mark.parametrize(
    ("question", "customer", "ticket"),
    [
        ("what came out of #101?", "Acme Corp", 101),
        ("see https://desk.example/t/201, please", "Globex Maschinenbau GmbH", 201),
        ("What did we tell Globex about uploads?", "Globex Maschinenbau GmbH", None),
        ("acme corp has it again", "Acme Corp", None),
        ("joe@globex.example writes that it stops", "Globex Maschinenbau GmbH", None),
        ("Why does FS-1042 come?", None, None),
        ("the acme of perfection", None, None),
        ("Did Acme and Globex both have it?", None, None),
        ("ticket 999", None, None),
    ],
)
def test_whom_a_question_is_about(
    office: Office, question: str, customer: str | None, ticket: int | None
) -> None:
    about = office.assistant.about(AGENT, question)
    assert (about.customer and about.customer.name) == customer
    assert (about.ticket and about.ticket["number"]) == (str(ticket) if ticket else None)
    if "both" in question:
        assert sorted(about.others) == ["Acme Corp", "Globex Maschinenbau GmbH"]


def test_others_tickets_help_without_saying_whose_they_are(office: Office) -> None:
    acme = office.assistant.customer(AGENT, "acme").ids
    found = evidence(office.assistant.retriever, "uploads stop with FS-1042", Scope(AGENT, customer=acme))
    kinds = {p.external_id: p.evidence for p in found}
    assert {p.external_id for p in found if p.role == TIMELINE} == {"ticket/101", "ticket/102"}
    assert kinds == {
        "ticket/101": Evidence.HISTORY,
        "ticket/102": Evidence.HISTORY,
        "ticket/201": Evidence.TICKET,
    }
    strange = [p for p in found if p.evidence is Evidence.TICKET]
    assert any("TLS inspection" in p.text for p in strange)
    text = " ".join(f"{p.title} {p.text}" for p in strange).lower()
    assert not [word for word in ("globex", "canary-77120", "srv-fin-07", "ana,") if word in text], text
    assert all(p.role == "agent" and p.customer_id is None for p in strange)


def test_have_others_had_this(office: Office) -> None:
    acme = office.assistant.customer(AGENT, "acme").ids
    others = alike(office.assistant.retriever, "FS-1042 uploads stop", Scope(AGENT, customer=acme))
    assert [t.external_id for t in others] == ["ticket/201"]
    told = f"{others[0].title} {others[0].requester} " + " ".join(line.text for line in others[0].lines)
    assert "TLS inspection" in told
    assert not [word for word in ("Globex", "Ana", "CANARY", "srv-fin") if word in told], told
    assert not alike(office.assistant.retriever, "FS-1042 uploads stop", Scope(STRANGER, customer=acme))


def test_a_draft_is_of_public_material_only(office: Office) -> None:
    about = office.assistant.about(AGENT, "", ticket="102")
    assert about.customer is not None
    assert about.ticket is not None
    engine = office.assistant.engine(
        Scope(AGENT, Audience.PUBLIC, customer=about.customer.ids, without=about.ticket["id"])
    )
    engine.threshold = 0.0
    made = draft(
        engine, title="FS-1042 again", asked="FS-1042 is back since the update.", requester="Ana Rossi"
    )
    assert made.text.startswith("Hi Ana,\n\n")
    assert "[1]" not in made.text
    assert made.answer.citations
    assert all(c.passage.audience is Audience.PUBLIC for c in made.answer.citations)
    assert not any(p.document_id == about.ticket["id"] for p in made.answer.passages)
    told = made.text + " ".join(p.text for p in made.answer.passages)
    assert not [w for w in ("unpaid", "password", "CANARY", "Globex") if w in told], told


def test_a_declined_question_still_gets_the_gist_of_the_nearest_ticket(office: Office) -> None:
    acme = office.assistant.customer(AGENT, "acme").ids
    engine = office.assistant.engine(Scope(AGENT, customer=acme))
    engine.threshold = 1.1
    answer = engine.answer("uploads stop with FS-1042 behind the proxy, what did they try?")
    assert answer.refusal
    assert "2026-05-02 tried: Switch off content scanning for the sync host. [" in answer.text
    assert "password" not in answer.text, "that line is for others"
    assert all(c.passage.external_id == "ticket/101" for c in answer.citations)
    assert all(answer.text[slice(*c.span)].find(c.quote) > 0 for c in answer.citations)
    public = office.assistant.engine(Scope(AGENT, Audience.PUBLIC, customer=acme))
    public.threshold = 1.1
    assert "unpaid" not in public.answer("uploads stop with FS-1042 behind the proxy").text


def test_what_is_still_open_and_what_was_tried_are_lists_of_dated_lines(office: Office) -> None:
    acme = office.assistant.customer(AGENT, "acme").ids
    engine = office.assistant.engine(Scope(AGENT, customer=acme))
    still = engine.answer("What is still open for them?")
    assert not still.refusal
    assert {c.passage.external_id for c in still.citations} == {"ticket/102"}
    assert "FS-1042 again. Ticket of 2026-05-10, open, on Server 5.2, from Ana Rossi. [1]" in still.text
    tried = engine.answer("What have we tried with this customer so far?")
    assert {c.passage.external_id for c in tried.citations} == {"ticket/101", "ticket/102"}
    assert "2026-05-02 tried: Switch off content scanning" in tried.text
    assert "solved on 2026-05-07, reopened 1×" in tried.text
    assert "password" not in tried.text, "that line is for others"
    public = office.assistant.engine(Scope(AGENT, Audience.PUBLIC, customer=acme))
    assert "unpaid" not in public.answer("What have we tried with this customer?").text
    nobody = office.assistant.engine(Scope(STRANGER, customer=acme)).answer("What is still open for them?")
    assert nobody.refusal
    assert not nobody.citations


def test_nothing_open_is_said(office: Office) -> None:
    globex = office.assistant.customer(AGENT, "globex").ids
    answer = office.assistant.engine(Scope(AGENT, customer=globex)).answer("What is still open for them?")
    assert answer.text == "Nothing is open for this customer among the tickets you may read."
    assert not answer.citations


def test_one_ticket_is_summed_up_and_others_that_had_it_are_told_without_names(office: Office) -> None:
    about = office.assistant.about(AGENT, "", ticket="101")
    assert about.customer is not None
    assert about.ticket is not None
    engine = office.assistant.engine(Scope(AGENT, customer=about.customer.ids, ticket=about.ticket["id"]))
    summary = engine.answer("Summarise this ticket")
    assert {c.passage.external_id for c in summary.citations} == {"ticket/101"}
    assert "solution: Set chunk_size = 4" in summary.text
    still = engine.answer("What is still open for them?")
    assert {c.passage.external_id for c in still.citations} == {"ticket/102"}, (
        "of the customer, not the ticket"
    )
    others = engine.answer("Have others had this?")
    assert {c.passage.external_id for c in others.citations} == {"ticket/201"}
    assert all(c.passage.evidence is Evidence.TICKET for c in others.citations)
    assert "TLS inspection" in others.text
    assert not [w for w in ("Globex", "Ana", "CANARY", "srv-fin") if w in others.text], others.text


def test_an_old_ticket_is_summed_up_as_well_and_as_of_its_day(office: Office) -> None:
    office.take(*(ticket(400 + n, f"Question {n}", asked("What now?", 20), at=20) for n in range(12)))
    about = office.assistant.about(AGENT, "", ticket="101")
    answer = office.assistant.engine(about.scope(AGENT)).answer("Summarise this ticket")
    assert {c.passage.external_id for c in answer.citations} == {"ticket/101"}
    early = about.scope(AGENT, filters=Filters(before=day(2)))
    assert "solution" not in office.assistant.engine(early).answer("Summarise this ticket").text
    assert "TLS inspection" not in office.assistant.engine(early).answer("Have others had this?").text


def test_somebody_elses_ticket_is_never_told_to_a_customer(office: Office) -> None:
    acme = office.assistant.customer(AGENT, "acme").ids
    slip = Scope(AGENT, Audience.PUBLIC, customer=acme, ticket=_id(office, "201"))
    for question in ("Summarise this ticket", "uploads stop with FS-1042"):
        answer = office.assistant.engine(slip).answer(question)
        told = answer.text + " ".join(f"{p.title} {p.text}" for p in answer.passages)
        assert not [word for word in ("Globex", "CANARY", "srv-fin") if word in told], told
    with pytest.raises(ConfigError, match="not one of Acme"):
        asking.about(office.assistant, AGENT, "What now?", customer="acme", ticket="201")


def test_structure_finds_a_ticket_that_meaning_does_not(office: Office) -> None:
    acme = office.assistant.customer(AGENT, "acme").ids
    office.take(
        ticket(103, "Printer", asked("The label printer prints blank pages.", 20), at=20, requester="Bo Lund")
    )
    scope = Scope(AGENT, customer=acme)

    def told(question: str) -> list[str]:
        found = evidence(office.assistant.retriever, question, scope)
        return [p.external_id for p in found if p.role == TIMELINE]

    assert told("Lund called. What did we tell him?")[0] == "ticket/103"
    assert told("Is there FS-1042 in any of them?")[0] in ("ticket/101", "ticket/102")
    ticket_itself = Scope(AGENT, customer=acme, ticket=_id(office, "101"))
    found = evidence(office.assistant.retriever, "the printer prints blank pages", ticket_itself)
    assert next(p.external_id for p in found if p.role == TIMELINE) == "ticket/101", "the ticket in question"


def _id(office: Office, number: str) -> int:
    row = office.assistant.about(AGENT, "", ticket=number).ticket
    assert row is not None
    return int(row["id"])


def test_of_equally_likely_tickets_the_solved_and_then_the_newer_one_comes_first(office: Office) -> None:
    said = "The gyroscope drifts to the left after calibration."
    office.take(
        *(
            ticket(
                number,
                "Gyroscope drifts",
                asked(said, at),
                agent(f"Look at case {number}.", at, **more),
                at=at,
            )
            for number, at, more in ((301, 1, {}), (302, 4, {"is_solution": True}), (303, 28, {}))
        )
    )

    def found(before: int | None) -> list[str]:
        scope = Scope(AGENT, filters=Filters(before=day(before) if before else None))
        ranked = office.assistant.retriever.documents(said, scope)
        return [p.external_id for _, p in ranked if p.title == "Gyroscope drifts"]

    assert found(30) == ["ticket/302", "ticket/303", "ticket/301"]
    assert found(None)[0] == "ticket/302"
    assert found(4)[:1] == ["ticket/301"], "its solution had not been written by then"
