"""Questions that are handed over: who sees what of them, and who may change them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from typer.testing import CliRunner

from assistant.answer import handoff
from assistant.answer.handoff import HandOff
from assistant.app import NoNotes
from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.model import Access, Audience, Customer, Kind, Member, Principal, Right, SourceDocument, Upsert
from assistant.retrieve.about import About
from assistant.retrieve.evidence import evidence
from assistant.retrieve.scope import Scope
from assistant.store import conversations, escalations, principals, sources, sync
from assistant.store.escalations import State
from assistant.surfaces.cli import app
from tests.servers.test_history import (
    ACME,
    AGENT,
    GLOBEX,
    LEAD,
    STRANGER,
    Office,
    agent,
    asked,
    day,
    ticket,
)

WORKER = Principal("worker@x", frozenset({"desk/group:sales"}))
"""works on escalations, and may read nothing of the desk"""
HELPED = {
    101: "We exempted the sync host from the proxy's inspection, and then each upload got through without FS-1042.",
    102: "FS-1042 behind a proxy of yours at Globex: raise its limit for uploads to 4 GB, then restart that proxy.",
    103: "The proxy had cut uploads off after a minute; with twice the time FS-1042 did not come back to anybody.",
}
QUESTION = "Every upload stops with FS-1042 behind the proxy, and now FS-2000 too?"


def manual(number: int, title: str, text: str, access: Access) -> Upsert:
    return Upsert(
        SourceDocument(
            external_id=f"manual/{number}",
            kind=Kind.DOCUMENT,
            title=title,
            body=text.encode(),
            media_type="text/plain",
            revision="1",
            access=access,
            url=f"https://desk.example/m/{number}",
            created_at=day(1),
        )
    )


def fixed(number: int, who: str, customer: Customer = GLOBEX, **more: Any) -> Upsert:
    return ticket(
        number,
        f"{customer.name.split()[0]} uploads stop with FS-1042",
        asked("Every upload stops with FS-1042 behind the proxy.", 3),
        agent(HELPED[number], 4, is_solution=True),
        **{"customer": customer, "status": "solved", "solved_at": day(5), "assignee": who, "at": 3, **more},
    )


@pytest.fixture
def office(settings: Settings) -> Iterator[Office]:
    made = Office(settings)
    made.take(
        fixed(101, "Ana Agent", ACME, product="Sync"),
        fixed(102, "Ana Agent", product="Sync"),
        fixed(103, "Lea Lead", access=Access.of(groups=("leads",)), product="Secret"),
        ticket(104, "FS-1042 is back", asked("FS-1042 is back behind the proxy.", 10), at=10),
        manual(1, "Proxies", "Uploads behind a proxy may stop with FS-1042.", Access.public()),
        manual(
            2, "Proxies for staff", "FS-1042 behind the proxy: known to us.", Access.of(groups=("support",))
        ),
    )
    with made.assistant.database.writer() as connection:
        for person in (AGENT, LEAD, STRANGER, WORKER):
            connection.execute("insert into principal (id) values (%s)", (person.id,))
        principals.allow(connection, WORKER.id, Right.ESCALATE)
    yield made
    made.assistant.close()


def escalate(office: Office, who: Principal = AGENT, *, number: str = "104") -> UUID:
    about = office.assistant.about(who, "", ticket=number) if number else About()
    return office.assistant.escalate(about.scope(who), QUESTION, QUESTION)


def seen(office: Office, made: UUID, who: Principal) -> HandOff:
    with office.assistant.database.reader(who, Audience.INTERNAL) as connection:
        return handoff.view(connection, escalations.get(connection, str(made)))


def test_a_hand_off_tells_what_was_found_and_who_has_solved_its_like(office: Office) -> None:
    found = seen(office, escalate(office), AGENT)
    assert found.customer is not None
    assert found.customer.name == "Acme Corp"
    assert found.row["ticket"] == "https://desk.example/t/104"
    assert {"Proxies", "Proxies for staff"} <= {r.title for r in found.nearest}
    assert 0 < len(found.nearest) <= handoff.NEAREST
    assert not any("/t/104" in r.url for r in found.nearest), "the ticket itself is no news"
    assert [t.external_id for t in found.history] == ["ticket/101"]
    assert found.history[0].lines[-1].at == day(4)
    assert [(e.name, e.why) for e in found.experts] == [
        ("Ana Agent", "solved 2 of 2 tickets like this, the last on 2026-05-05")
    ]
    assert found.queue == "Sync"


def test_others_tickets_do_not_tell_whose_they_are(office: Office) -> None:
    found = seen(office, escalate(office), AGENT)
    (other,) = [r for r in found.nearest if r.url.endswith("/102")]
    assert "FS-1042" in other.title
    assert "globex" not in other.title.lower()


def test_each_sees_of_a_hand_off_what_they_may_read(office: Office) -> None:
    made = escalate(office, LEAD)
    full = seen(office, made, LEAD)
    assert {e.name for e in full.experts} == {"Ana Agent", "Lea Lead"}
    with office.assistant.database.writer() as connection:
        principals.allow(connection, AGENT.id, Right.ESCALATE)
    less = seen(office, made, AGENT)
    assert {e.name for e in less.experts} == {"Ana Agent"}, "and the expert of a hidden ticket is hidden"
    assert "of 2 tickets" in less.experts[0].why, "not even in a number"
    nothing = seen(office, made, WORKER)
    assert nothing.row["question"] == QUESTION
    assert [r.title for r in nothing.nearest] == ["Proxies"], "what everybody may read"
    assert (nothing.customer, nothing.row["ticket"], nothing.history, nothing.experts) == (None, None, (), ())
    assert nothing.queue == ""


def test_the_record_holds_no_word_of_the_sources(office: Office) -> None:
    escalate(office)
    with office.assistant.database.reader(WORKER, Audience.INTERNAL) as connection:
        (row,) = connection.execute("select * from escalation").fetchall()
    packet = row["packet"]
    assert packet.keys() == {"audience", "before", "nearest", "history", "alike"}
    words = re.findall(r"[^\W\d]+", json.dumps([packet["nearest"], packet["history"], packet["alike"]]))
    assert set(words) <= {"document", "ticket", "history"}


def test_without_the_right_nothing_of_others_is_seen(office: Office) -> None:
    made = escalate(office)
    with office.assistant.database.reader(STRANGER, Audience.INTERNAL) as connection:
        assert escalations.listing(connection, states=list(State)) == []
        with pytest.raises(ConfigError, match="no escalation"):
            escalations.get(connection, str(made))
        assert (
            connection.execute("update escalation set state = 'closed', changed_by = 'stranger@x'").rowcount
            == 0
        )
        with pytest.raises(ConfigError, match="no escalation"):
            escalations.move(connection, {"id": made}, State.TAKEN)
    with office.assistant.database.reader(WORKER, Audience.INTERNAL) as connection:
        assert [r["question"] for r in escalations.listing(connection, states=[State.OPEN])] == [QUESTION]
    with office.assistant.database.writer() as connection:
        principals.deny(connection, WORKER.id, Right.ESCALATE)
    with office.assistant.database.reader(WORKER, Audience.INTERNAL) as connection:
        assert escalations.listing(connection, states=list(State)) == [], "it holds at once"


BORROWED = "insert into escalation (question, packet, {0}) select 'q', '{{}}', {1} from escalation"
"""of somebody else's escalation what its reader may not see"""


@pytest.mark.parametrize(
    ("who", "statement"),
    [
        (AGENT, "update escalation set state = 'delivered', changed_by = 'agent@x'"),
        (AGENT, "update escalation set state = 'closed', changed_by = 'worker@x'"),
        (AGENT, "update escalation set question = 'another'"),
        (WORKER, "update escalation set packet = '{}'"),
        (WORKER, "update escalation set principal_id = 'worker@x'"),
        (WORKER, "delete from escalation"),
        (STRANGER, "insert into principal_right (principal_id, name) values ('stranger@x', 'escalate')"),
        (WORKER, "insert into escalation (principal_id, question, packet) values ('agent@x', 'q', '{}')"),
        (WORKER, "insert into escalation (question, packet, state) values ('q', '{}', 'delivered')"),
        (WORKER, BORROWED.format("ticket_id", "(packet->'history'->>0)::bigint")),
        (WORKER, BORROWED.format("message_id", "message_id")),
        (WORKER, BORROWED.format("customer_id", "customer_id")),
    ],
)
def test_nobody_does_more_than_their_rights_allow(office: Office, who: Principal, statement: str) -> None:
    with office.assistant.database.reader(AGENT, Audience.INTERNAL) as connection:
        talk = conversations.start(connection, title="t", surface="cli")
        message = connection.execute(
            "insert into message (conversation_id, role, content) values (%s, 'user', 'Why?') returning id",
            (talk,),
        ).fetchone()
    assert message is not None
    about = office.assistant.about(AGENT, "", ticket="104")
    office.assistant.escalate(about.scope(AGENT), QUESTION, QUESTION, message=message["id"])
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        office.assistant.database.reader(who, Audience.INTERNAL) as connection,
    ):
        connection.execute(statement.encode())


def test_a_state_follows_on_another_and_is_audited(office: Office) -> None:
    made = escalate(office)

    def move(to: State, who: Principal = WORKER) -> None:
        with office.assistant.database.reader(who, Audience.INTERNAL) as connection:
            escalations.move(connection, escalations.get(connection, str(made)[:8]), to, note="by telephone")

    move(State.TAKEN)
    with pytest.raises(ConfigError, match="taken already, by worker@x"):
        move(State.TAKEN)
    move(State.CLOSED, AGENT)
    row = seen(office, made, AGENT).row
    assert (row["state"], row["changed_by"], row["note"]) == ("closed", AGENT.id, "by telephone")
    with pytest.raises(ConfigError, match="closed already"):
        move(State.CLOSED)


def test_only_ones_own_questions_are_handed_over_and_only_by_somebody(office: Office) -> None:
    with office.assistant.database.reader(AGENT, Audience.INTERNAL) as connection:
        talk = conversations.start(connection, title="t", surface="cli")
        statement = (
            "insert into message (conversation_id, role, content, searched) "
            "values (%s, %s, %s, %s) returning id"
        )
        rows = [
            connection.execute(statement, (talk, *values)).fetchone()
            for values in (("user", "And why?", ""), ("assistant", "Not found.", "And why? (FS-1042)"))
        ]
    question, answer = (row["id"] for row in rows if row)
    with office.assistant.database.reader(AGENT, Audience.INTERNAL) as connection:
        assert escalations.asked(connection, question)["question"] == "And why?"
        found = escalations.asked(connection, answer)
        assert (found["question"], found["searched"]) == ("And why?", "And why? (FS-1042)")
    with (
        office.assistant.database.reader(WORKER, Audience.INTERNAL) as connection,
        pytest.raises(ConfigError),
    ):
        escalations.asked(connection, answer)
    made = office.assistant.escalate(About().scope(AGENT), "And why?", "And why? (FS-1042)", message=answer)
    assert seen(office, made, AGENT).row["searched"] == "And why? (FS-1042)"
    assert seen(office, made, WORKER).row["searched"] is None, "an answer's words may be in it"
    with pytest.raises(ConfigError, match="--as EMAIL"):
        office.assistant.escalate(About().scope(office.assistant.principal("")), "Why?", "Why?")


def deliverable(office: Office, who: Principal = AGENT) -> Callable[[UUID], handoff.Delivery]:
    with office.assistant.database.writer() as connection:
        principals.allow(connection, who.id, Right.ESCALATE)
    return lambda made: office.assistant.delivery(who, str(made))


def test_a_note_tells_only_what_every_reader_of_the_ticket_may_read(office: Office) -> None:
    office.take(
        ticket(105, "FS-1042 once more", asked("FS-1042 behind the proxy."), access=Access.of(
            users=("ana",), groups=("support",))),
    )  # fmt: skip
    reader = Principal(AGENT.id, AGENT.tokens | {"desk/user:ana"})
    for number, titles in (
        ("104", {"Proxies", "Proxies for staff", "Ticket 102", QUESTION}),
        ("105", {"Proxies"}),
    ):
        made = escalate(office, number=number)
        with office.assistant.database.reader(reader, Audience.INTERNAL) as connection:
            text = handoff.note(connection, escalations.get(connection, str(made)))
        assert text.startswith(f"[deskhand escalation {made}]\nagent@x hands this question over.")
        assert f"> {QUESTION}" in text
        assert all(title in text for title in titles), text
        assert ("Proxies for staff" in text) == (number == "104"), "the requester may not read that"
        assert "Globex" not in text
        assert not [word for word in ("exempt", "4 GB", "minute") if word in text], "no text of a source"
    with office.assistant.database.reader(LEAD, Audience.INTERNAL) as connection:
        hidden = connection.execute("select id from document where external_id = 'ticket/103'").fetchone()
        assert hidden is not None
        shared = connection.execute("select id from document where external_id = 'ticket/104'").fetchone()
        assert shared is not None
        known = escalations.references(connection, [hidden["id"]], ticket=shared["id"])
        assert not known[hidden["id"]]["shared"], "though this reader sees it"


def test_a_ticket_that_nobody_may_read_shares_nothing(office: Office) -> None:
    with office.assistant.database.writer() as connection:
        connection.execute("update document set acl = '{}' where external_id = 'ticket/104'")
        ids = [row["id"] for row in connection.execute("select id from document order by external_id")]
        nobody = connection.execute("select id from document where external_id = 'ticket/104'").fetchone()
        assert nobody is not None
        assert not any(
            r["shared"] for r in escalations.references(connection, ids, ticket=nobody["id"]).values()
        )


def test_what_stands_in_the_way_of_a_note_is_said_and_changes_nothing(office: Office) -> None:
    assistant, made = office.assistant, escalate(office)
    with pytest.raises(ConfigError, match="people allow"):
        assistant.delivery(AGENT, str(made))
    delivery = deliverable(office)
    with assistant.database.writer() as connection:
        connection.execute("update source set connector = 'directory', settings = '{\"path\": \"/srv\"}'")
    with pytest.raises(NoNotes, match="can't write notes to «desk»"):
        delivery(made)
    with pytest.raises(ConfigError, match="no ticket that you may read"):
        delivery(escalate(office, number=""))
    with pytest.raises(ConfigError, match="no ticket that you may read"):
        assistant.delivery(WORKER, str(made))
    with assistant.database.writer() as connection:
        connection.execute(
            "update source set connector = 'redmine', settings = "
            """'{"url": "http://127.0.0.1:9", "api_key": "k"}'"""
        )
        one = sources.get(connection, "desk")
    with pytest.raises(ConfigError, match="deskhand source notes desk on"):
        delivery(made)
    with assistant.database.writer() as connection:
        sources.change(connection, one.id, {"notes": True})
        sources.pause(connection, one.id, "Paused by an admin.")
    with pytest.raises(ConfigError, match="source resume desk"):
        delivery(made)
    with assistant.database.writer() as connection:
        sources.resume(connection, one.id)
    note = delivery(made)
    assert (note.source, note.external_id) == ("desk", "ticket/104")
    with assistant.database.reader(AGENT, Audience.INTERNAL) as connection:
        escalations.move(connection, escalations.get(connection, str(made)), State.CLOSED)
    with pytest.raises(ConfigError, match="closed already"):
        assistant.deliver(AGENT, note)


def test_the_command_line_from_a_question_to_its_close(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.surfaces.terminal.settings", lambda: office.assistant.settings)

    def deskhand(*arguments: str, who: Principal = AGENT, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--as", who.id, "--json"])
        assert (result.exit_code, result.exception) == (0, None) or code, (result.output, result.exception)
        told = "\n".join(
            line for line in result.stdout.splitlines() if not re.match(r"\d{4}-", line)
        )  # no log
        return json.loads(told) if told else result.exception

    with office.assistant.database.writer() as connection:
        source = sources.get(connection, "desk")
        groups = {AGENT.id: "support", WORKER.id: "sales"}
        members = [Member(name, name, groups=frozenset({group})) for name, group in groups.items()]
        sync.commit_memberships(connection, source, members)
    asked = deskhand(
        "ask",
        "Is there a discount on walnuts?",
        "--ticket",
        "104",
        "--public",
        "--as-of",
        "2026-05-20",
        "--escalate",
    )
    assert asked["declined"]
    made = asked["escalation"]
    again = deskhand("escalation", "add", str(asked["message"]), "--question", "Walnuts: any discount?")
    assert again["escalation"] != made
    assert [row["id"] for row in deskhand("escalation", "list")] == [made, again["escalation"]]
    seen_by_worker = deskhand("escalation", "show", made, who=WORKER)
    assert seen_by_worker["question"] == "Is there a discount on walnuts?"
    assert seen_by_worker["history"] == []
    assert (seen_by_worker["audience"], seen_by_worker["before"][:10]) == ("public", "2026-05-20")
    assert deskhand("escalation", "take", made, who=WORKER)["state"] == "taken"
    assert deskhand("escalation", "close", made, "--note", "No.", who=WORKER)["state"] == "closed"
    assert deskhand("escalation", "show", made)["note"] == "No."
    assert [row["id"] for row in deskhand("escalation", "list", "--state", "closed")] == [made]
    refused = deskhand("escalation", "deliver", again["escalation"], code=1)
    assert isinstance(refused, ConfigError)
    assert "--yes" in str(refused)
    with office.assistant.database.writer() as connection:
        rows = connection.execute("select actor, action, object from audit_log order by id").fetchall()
    assert [(row["actor"], row["action"]) for row in rows if row["object"] == made] == [
        (AGENT.id, "escalation.add"),
        (WORKER.id, "escalation.take"),
        (WORKER.id, "escalation.close"),
    ]


def test_an_attachment_of_a_strangers_ticket_breaks_nothing(office: Office) -> None:
    attached = manual(9, "proxy-globex.txt", "Every upload stops with FS-1042 behind the proxy.",
                      Access.of(groups=("support",)))  # fmt: skip
    document = dataclasses.replace(attached.document, parent="ticket/102", customer=GLOBEX)
    office.take(Upsert(document))
    acme = office.assistant.customer(AGENT, "acme").ids
    found = evidence(office.assistant.retriever, QUESTION, Scope(AGENT, customer=acme), limit=20)
    assert found
    assert not any(p.external_id == "manual/9" for p in found)
