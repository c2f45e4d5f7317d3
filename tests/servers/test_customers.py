"""Names of customers that come together, by themselves and by an admin's word."""

from __future__ import annotations

import pytest

from assistant.errors import ConfigError
from assistant.model import Access, Audience, Customer, Principal, Ticket, Upsert
from assistant.store import customers
from assistant.store.customers import Known
from assistant.store.db import Database
from tests.servers.desk import Desk, document

AGENT = Principal("agent@x", frozenset({"acme/group:support", "other/group:support"}))


def ticket(name: str, customer: Customer, access: Access | None = None) -> Upsert:
    return Upsert(document(name, customer=customer, ticket=Ticket(status="open"), access=access))


def resolved(desk: Desk) -> None:
    for _ in range(100):
        with desk.database.writer() as connection:
            if not customers.resolve(connection):
                return
    raise AssertionError("resolving comes to an end")


def numbers(desk: Desk) -> dict[str, int]:
    rows = desk.rows("select id, realm || ' ' || external_id as name from customer")
    return {str(row["name"]): int(str(row["id"])) for row in rows}


def seen(desk: Desk, name: str, reader: Principal = AGENT) -> Known | None:
    with desk.database.reader(reader, Audience.INTERNAL) as connection:
        return customers.known(connection, [numbers(desk)[name]])


def test_a_shared_domain_makes_two_sources_names_one_customer(database: Database) -> None:
    desk, other = Desk(database), Desk(database, "tickets", "other")
    desk.batch(ticket("a", Customer("7", "Globex", ("globex.example",), {"plan": "Team"})))
    other.batch(
        ticket("b", Customer("globex", "Globex GmbH", ("globex.example", "globex.de"), {"region": "eu"}))
    )
    other.batch(ticket("c", Customer("globex-2", "Globex", ("elsewhere.example",))))
    resolved(desk)
    found = seen(desk, "other globex")
    assert found is not None
    assert found.names == ("Globex", "Globex GmbH")
    assert found.attributes == {"plan": "Team", "region": "eu"}
    assert found.ids == (numbers(desk)["acme 7"], numbers(desk)["other globex"])
    alone = seen(desk, "other globex-2")
    assert alone is not None
    assert alone.ids == (numbers(desk)["other globex-2"],), "one name alone makes nobody the same"


def test_a_domain_that_turns_up_later_joins_what_was_apart(database: Database) -> None:
    desk = Desk(database)
    one, two = Customer("1", "One", ("one.example",)), Customer("2", "Two", ("two.example",))
    three = Customer("3", "Three", ("three.example",))
    desk.batch(ticket("a", one), ticket("b", two), ticket("c", three))
    resolved(desk)
    desk.batch(ticket("d", Customer("2", "Two", ("three.example", "one.example"))))
    resolved(desk)
    found = seen(desk, "acme 3")
    assert found is not None
    assert found.ids == tuple(numbers(desk)[f"acme {n}"] for n in (1, 2, 3))


def test_what_an_admin_parts_stays_apart_and_what_they_join_can_be_parted(database: Database) -> None:
    desk = Desk(database)
    for n in (1, 2, 3):
        desk.batch(ticket(f"t{n}", Customer(str(n), f"C{n}", ("shared.example",) if n < 3 else ())))
    resolved(desk)
    ids = [numbers(desk)[f"acme {n}"] for n in (1, 2, 3)]
    with database.writer() as connection:
        customers.split(connection, ids[0])
    desk.batch(ticket("t4", Customer("1", "C1", ("shared.example", "another.example"))))
    desk.batch(ticket("t5", Customer("2", "C2", ("another.example",))))
    resolved(desk)
    assert [known.ids for n in (1, 2) if (known := seen(desk, f"acme {n}"))] == [(ids[0],), (ids[1],)]
    with database.writer() as connection:
        moved = customers.merge(connection, ids[1], ids[2])
        assert [row["id"] for row in moved] == [ids[2]]
        with pytest.raises(ConfigError, match="one customer already"):
            customers.merge(connection, ids[2], ids[1])
        customers.split(connection, ids[2])
        with pytest.raises(ConfigError, match="no customer"):
            customers.merge(connection, ids[0], 999)
        with pytest.raises(ConfigError, match="no customer"):
            customers.split(connection, 999)
    assert [known.ids for n in (2, 3) if (known := seen(desk, f"acme {n}"))] == [(ids[1],), (ids[2],)]


def test_the_first_name_leaves_and_the_others_stay_together(database: Database) -> None:
    desk = Desk(database)
    desk.batch(*(ticket(f"t{n}", Customer(str(n), f"C{n}", ("shared.example",))) for n in (1, 2, 3)))
    resolved(desk)
    first, *rest = sorted(numbers(desk).values())
    with database.writer() as connection:
        customers.split(connection, first)
        assert customers.known(connection, [rest[1]]).ids == tuple(rest)


def test_a_customer_is_seen_only_by_who_reads_one_of_its_tickets(database: Database) -> None:
    desk = Desk(database)
    secret = Access.of(groups=("security",))
    desk.batch(ticket("a", Customer("1", "Globex", ("globex.example",))))
    desk.batch(ticket("b", Customer("2", "Hidden Globex", ("globex.example",), {"plan": "secret"}), secret))
    resolved(desk)
    found = seen(desk, "acme 1")
    assert found is not None
    assert (found.names, found.attributes) == (("Globex",), {})
    with database.reader(AGENT, Audience.INTERNAL) as connection:
        assert [row["name"] for row in customers.listing(connection)] == ["Globex"]
    desk.batch(
        Upsert(
            document(
                "a",
                revision="2",
                ticket=Ticket(status="open"),
                access=secret,
                customer=Customer("1", "Globex"),
            )
        )
    )
    assert seen(desk, "acme 1") is None, "the right to its last ticket is gone, and with it the name"
