from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.model import Access
from connectors.smb.ntacl import EVERY_USER, READ_DATA, WORLD, Acl, Evaluator, People, Person, read_acl

DOMAIN = "S-1-5-21-1-2-3"
ALICE, BOB, STAFF, HR, STRANGER = (
    f"{DOMAIN}-1",
    f"{DOMAIN}-2",
    f"{DOMAIN}-10",
    f"{DOMAIN}-11",
    "S-1-5-21-9-9-9-1",
)
READ = 0x1200A9


def sid(text: str) -> bytes:
    _, _, authority, *numbers = text.split("-")
    packed = struct.pack(f"<{len(numbers)}I", *map(int, numbers))
    return bytes([1, len(numbers)]) + int(authority).to_bytes(6, "big") + packed


def descriptor(*entries: tuple[int, int, int, str], owner: str = ALICE, control: int = 0x8004) -> bytes:
    """Of (kind, flags, mask, trustee)."""
    aces = b""
    for kind, flags, mask, trustee in entries:
        packed = sid(trustee)
        aces += struct.pack("<BBHI", kind, flags, 8 + len(packed), mask) + packed
    packed = sid(owner)
    acl = struct.pack("<BBHHH", 2, 0, 8 + len(aces), len(entries), 0) + aces
    return struct.pack("<BBHIIII", 1, 0, control, 20, 0, 0, 20 + len(packed)) + packed + acl


def people() -> People:
    return People(
        (
            Person(ALICE, "alice", EVERY_USER | {ALICE, STAFF}),
            Person(BOB, "bob", EVERY_USER | {BOB, STAFF, HR}),
        ),
        frozenset({DOMAIN}),
    )


def who(*entries: tuple[int, int, int, str], guests: bool = False, **named: object) -> set[str]:
    acl = read_acl(descriptor(*entries, **named), READ_DATA)
    return {token.removeprefix("group:") for token in Evaluator(people, guests=guests).access([acl]).tokens}


def test_entries_count_in_their_order() -> None:
    assert who((0, 0, READ, STAFF)) == {STAFF}
    assert who((1, 0, READ, HR), (0, 0, READ, STAFF)) == {ALICE}, "bob is of the denied group"
    assert who((0, 0, READ, STAFF), (1, 0, READ, HR)) == {STAFF}, "allowed before the deny"
    assert who((1, 0, READ, WORLD), (0, 0, READ, STAFF)) == set()
    assert who((0, 0, READ, HR), (1, 0, READ, BOB), (0, 0, READ, STAFF)) == {HR, ALICE}


def test_a_deny_that_can_not_be_known_ends_the_list() -> None:
    assert who((1, 0, READ, STRANGER), (0, 0, READ, STAFF)) == set()
    assert who((0, 0, READ, HR), (1, 0, READ, STRANGER), (0, 0, READ, STAFF)) == {HR}
    assert who((10, 0, READ, STAFF), (0, 0, READ, WORLD)) == set(), "a deny with a condition"


def test_what_is_not_about_reading_does_not_count() -> None:
    assert who((0, 0, 0x120088, STAFF)) == set(), "attributes alone"
    assert who((1, 0, 0x2, HR), (0, 0, READ, STAFF)) == {STAFF}, "a deny of writing"
    assert who((0, 8, READ, STAFF)) == set(), "for heirs only"
    assert who((1, 8, READ, STAFF), (0, 0, READ, HR)) == {HR}
    assert who((9, 0, READ, STAFF), (5, 0, READ, HR)) == set(), "conditional, and of objects"


@pytest.mark.parametrize("mask", [0x80000000, 0x10000000, 0x1, 0x1F01FF])
def test_rights_that_include_reading(mask: int) -> None:
    assert who((0, 0, mask, STAFF)) == {STAFF}


def test_names_that_stand_for_others() -> None:
    assert who((0, 0, READ, "S-1-3-4")) == {ALICE}, "the owner"
    assert who((0, 0, READ, "S-1-3-0"), (0, 0, READ, "S-1-5-18")) == set(), "heirs' owner, the system"
    assert who((1, 0, READ, "S-1-5-7"), (0, 0, READ, WORLD)) == {WORLD}, "the anonymous are nobody"


def test_no_list_and_an_empty_one() -> None:
    assert who(control=0x8000) == {WORLD}
    assert who() == set()


def test_guests() -> None:
    assert who((0, 0, READ, WORLD), guests=True) == {WORLD, "everyone"}
    assert who((0, 0, READ, "S-1-5-11"), guests=True) == {WORLD}, "every user of the source, no guest"
    assert who((1, 0, READ, "S-1-5-32-546"), (0, 0, READ, WORLD), guests=True).isdisjoint({"everyone"})


def test_several_lists_must_all_agree() -> None:
    evaluator = Evaluator(people, guests=False)
    staff, hr, world = (Acl(((True, sid),)) for sid in (STAFF, HR, WORLD))
    assert evaluator.access([staff, world]) == Access.of(groups=(STAFF,))
    assert evaluator.access([staff, hr]) == Access.of(groups=(BOB,))
    assert evaluator.access([Acl(((True, STAFF), (True, HR))), hr]) == Access.of(groups=(HR,))
    assert evaluator.access([staff, Acl(())]) == Access.nobody()
    assert evaluator.access([]) == Access.nobody()


def test_nobody_is_known() -> None:
    evaluator = Evaluator(People, guests=False)
    assert evaluator.access([Acl(((False, HR), (True, WORLD)))]) == Access.nobody()


def test_unix_permissions_beside_the_list_withhold_more() -> None:
    def coarse(*entries: tuple[int, int, int, str]) -> set[str]:
        acl = read_acl(descriptor(*entries), READ_DATA, coarse=True)
        return {t.removeprefix("group:") for t in Evaluator(people, guests=False).access([acl]).tokens}

    assert coarse((0, 0, READ, STAFF)) == {STAFF}
    assert coarse((1, 0, READ, HR), (0, 0, READ, STAFF)) == set()
    assert coarse((0, 0, READ, STAFF), (0, 0, 0x20, BOB)) == {ALICE}, "bob's own entry counts alone"
    assert coarse((0, 0, READ, STAFF), (0, 0, 0x20, WORLD)) == {STAFF}


ENTRIES = st.lists(
    st.tuples(st.booleans(), st.sampled_from([ALICE, BOB, STAFF, HR, WORLD, STRANGER])), max_size=6
)


@given(st.lists(ENTRIES, min_size=1, max_size=3))
def test_tokens_open_it_to_nobody_whom_a_list_keeps_out(lists: list[list[tuple[bool, str]]]) -> None:
    access = Evaluator(people, guests=False).access([Acl(tuple(entries)) for entries in lists])
    for person in people().persons:
        passes = all(
            next((allow for allow, sid in entries if sid in person.sids), False) for entries in lists
        )
        opened = not access.tokens.isdisjoint({f"group:{sid}" for sid in person.sids})
        assert passes or not opened
        denied_stranger = any((False, STRANGER) in entries for entries in lists)
        assert opened or not passes or denied_stranger, "and to everybody it lets in, as far as can be known"


@given(st.binary(max_size=200))
def test_damaged_descriptors_are_refused(data: bytes) -> None:
    try:
        read_acl(data, READ_DATA)
    except ValueError:
        return


def test_cut_off_descriptors_are_refused() -> None:
    whole = descriptor((0, 0, READ, STAFF), (0, 0, READ, HR))
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"cut off|ends|identifier"):
            read_acl(whole[:length], READ_DATA)
