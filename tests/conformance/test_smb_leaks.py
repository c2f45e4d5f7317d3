"""Whether anybody could read more here than the server shows them: asked of the server, as each person."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from assistant.model import Member
from tests.conformance.connector import Replica
from tests.conformance.test_smb import ALIASES, EVERYONE, GROUPS, PEOPLE, Share, running
from tests.conformance.test_smb import owner as owner
from tests.conformance.test_smb import samba as samba
from tests.servers.samba import FULL, PASS, READ, READER, Ace, Samba, Visitor

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

FILES, ROUNDS, PAIRS = 200, 5, 400
MASKS = (READ, READ, READ, FULL, 0x1, 0x80000000, 0x10000000, PASS, 0x120088)
"""mostly read; also the data bit alone, generic rights, and rights that are not to read"""


@pytest.fixture(params=[False, True], ids=["lets all pass", "checks folders"])
def tree(samba: Samba, owner: Visitor, request: pytest.FixtureRequest) -> Iterator[Share]:
    """A share full of files, on a server that lets everybody pass through folders and on one that does not."""
    with ExitStack() as stack:
        if request.param:
            samba = stack.enter_context(running(checks_folders=True))
            owner = stack.enter_context(Visitor(samba, READER))
            owner.protect("", [(True, EVERYONE, READ, 0)])
        share = Share(samba, owner, lists_alone=not request.param)
        for number in range(FILES):
            path = share.path / f"d{number % 7}" / f"e{number % 3}" / f"{number}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"file {number}")
        yield share
        shutil.rmtree(share.path)


STRANGER = "S-1-5-21-9-9-9-1000"
"""of a domain the server can't list"""


class World:
    """Random lists for files and folders, and random groups."""

    def __init__(self, share: Share, seed: int) -> None:
        self.share, self.dice = share, random.Random(seed)
        self.undecidable: set[str] = set()
        """files whose list denies somebody of whom nothing is known"""
        names = [*PEOPLE, *GROUPS, *ALIASES]
        self.sids = {name: share.samba.sid(name) for name in names}
        self.trustees = [*self.sids.values(), EVERYONE, "S-1-5-11", "S-1-5-32-545", STRANGER]
        self.trustees += [self.sids[name] for name in (*GROUPS, *ALIASES)] * 3

    def entries(self) -> list[Ace]:
        dice = self.dice
        listed: list[Ace] = []
        denies = 0.3 if self.share.settings["lists_alone"] else 0.1
        for _ in range(dice.randint(0, 5)):
            allow = dice.random() >= denies
            inherit_only = 0x0B if dice.random() < 0.1 else 0
            listed.append((allow, dice.choice(self.trustees), dice.choice(MASKS), inherit_only))
        if dice.random() < 0.5:  # as Windows' own dialog orders them
            listed.sort(key=lambda entry: entry[0])
        return listed

    def change(self, files: list[str], folders: list[str]) -> None:
        for file in files:
            entries = self.entries()
            self.share.owner.protect(f"{self.share.name}/{file}", entries)
            self.undecidable.discard(file)
            if any(sid == STRANGER and not allow for allow, sid, _, _ in entries):
                self.undecidable.add(file)
        for folder in folders:
            # Where folders count, few would get anywhere past two random ones.
            open_to_all = not self.share.settings["lists_alone"] and self.dice.random() < 0.7
            entries = [(True, EVERYONE, READ, 0)] if open_to_all else self.entries()
            self.share.owner.protect(f"{self.share.name}/{folder}", entries)
        for _ in range(4):
            group, person = self.dice.choice(sorted(GROUPS)), self.dice.choice(PEOPLE)
            if person in self.share.samba.members(group):
                self.share.samba.leave(person, group)
            else:
                self.share.samba.join(person, group)


def opens(replica: Replica, members: dict[str, Member], person: str, file: str) -> bool:
    """What the store would decide: one token in common."""
    member = members.get(person)
    held = {"everyone"}
    if member is not None:
        held |= {f"user:{member.user}"} | {f"group:{group}" for group in member.groups}
    document = replica.documents.get(file)
    return document is not None and not held.isdisjoint(document.access.tokens)


def compare(
    share: Share, replica: Replica, dice: random.Random, pairs: int
) -> tuple[list[str], list[str], int]:
    """(opened here and refused by the server, the other way round, opened by both) of random pairs."""
    connector = share.connector()
    members = {member.user: member for member in connector.memberships()}
    connector.close()
    leaked, withheld, both = [], [], 0
    for person in PEOPLE:
        with Visitor(share.samba, person) as visitor:
            for file in dice.sample(sorted(replica.documents), pairs // len(PEOPLE)):
                shown = visitor.reads(f"{share.name}/{file}")
                allowed = opens(replica, members, person, file)
                both += shown and allowed
                if allowed and not shown:
                    leaked.append(f"{person} {file}")
                if shown and not allowed:
                    withheld.append(f"{person} {file}")
    return leaked, withheld, both


def test_nobody_reads_more_than_samba_shows_them(tree: Share, record_property: pytest.RecordProperty) -> None:
    world = World(tree, seed=7)
    files = [str(path.relative_to(tree.path)) for path in sorted(tree.path.rglob("*.md"))]
    folders = [str(path.relative_to(tree.path)) for path in sorted(tree.path.rglob("*")) if path.is_dir()]
    replica = Replica()
    changed = files
    counts = {"leaked": 0, "withheld": 0, "both": 0}
    for _ in range(ROUNDS):
        world.change(changed, folders)
        replica.sync(tree.connector())
        replica.check_access(tree.connector())
        assert len(replica.documents) == FILES
        leaked, withheld, both = compare(tree, replica, world.dice, PAIRS)
        assert leaked == [], "opened here, refused by the server"
        if tree.settings["lists_alone"]:
            assert {pair.partition(" ")[2] for pair in withheld} <= world.undecidable
        counts["withheld"] += len(withheld)
        counts["both"] += both
        changed = world.dice.sample(files, 40)
    record_property("pairs", ROUNDS * PAIRS)
    record_property("counts", counts)
    print(counts)
    assert counts["both"] > ROUNDS * PAIRS / 20, "the lists let somebody read at all"
    if tree.settings["lists_alone"]:
        assert counts["withheld"] < 0.1 * counts["both"]
