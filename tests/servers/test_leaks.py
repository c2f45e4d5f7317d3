"""Retrievals by random people while rights change at random: nothing the source itself would refuse is found.

DESKHAND_TEST_RETRIEVALS sets how many a source (default 600); the figure in the documents
is of 10,000.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from assistant.config import Settings
from assistant.model import Audience, Passage
from tests.bench.output import save
from tests.conformance.test_redmine import Source
from tests.conformance.test_redmine import places as places
from tests.conformance.test_redmine import server as server
from tests.conformance.test_redmine import source as source
from tests.conformance.test_smb import PEOPLE, Share
from tests.conformance.test_smb import owner as owner
from tests.conformance.test_smb import samba as samba
from tests.conformance.test_smb_leaks import World
from tests.conformance.test_smb_leaks import tree as tree
from tests.servers.redmine_life import Company
from tests.servers.samba import Visitor
from tests.servers.whole_way import WholeWay, leaks

pytestmark = [pytest.mark.server, pytest.mark.timeout(3600)]

RETRIEVALS = int(os.environ.get("DESKHAND_TEST_RETRIEVALS", "600"))
ROUNDS = 3
WORDS = (
    *("harbour", "lantern", "walnut", "copper", "meadow", "falcon"),
    *("glacier", "saddle", "violin", "orchard", "pepper", "anchor"),
)


def told(name: str, found: int, bad: list[str]) -> None:
    figures = {"retrievals": RETRIEVALS, "rounds": ROUNDS, "passages": found, "leaks": len(bad)}
    save(f"leaks-{name}", {"source": name, **figures})
    assert found > RETRIEVALS, "people found something at all"
    assert not bad, f"{len(bad)}: {bad[:10]}"


@pytest.fixture
def share(tree: Share, settings: Settings) -> Iterator[tuple[Share, WholeWay]]:
    for number, path in enumerate(sorted(tree.path.rglob("*.md"))):
        path.write_text(f"File {number} of the {WORDS[number % 12]} and the {WORDS[number * 7 % 11]}.")
    values = {**tree.settings, "host": f"127.0.0.1:{tree.samba.port}"}
    way = WholeWay(settings, "samba", "smb", values)
    yield tree, way
    way.close()


def test_nobody_finds_what_samba_refuses_them(
    share: tuple[Share, WholeWay], request: pytest.FixtureRequest
) -> None:
    tree, way = share
    world, dice = World(tree, seed=11), random.Random(11)
    files = [str(path.relative_to(tree.path)) for path in sorted(tree.path.rglob("*.md"))]
    folders = [str(path.relative_to(tree.path)) for path in sorted(tree.path.rglob("*")) if path.is_dir()]
    people = {name: f"{name}@samba.example" for name in PEOPLE}
    bad, found, changed = list[str](), 0, files
    for number in range(ROUNDS):
        world.change(changed, folders)
        changed = dice.sample(files, 40)
        way.carry()
        if not number:
            way.known_as(people)
        visitors = {name: Visitor(tree.samba, name) for name in PEOPLE}
        for visitor in visitors.values():
            visitor.__enter__()

        def shown(name: str, passage: Passage, visitors: dict[str, Visitor] = visitors) -> bool:
            return visitors[name].reads(f"{tree.name}/{passage.external_id}")

        questions = [f"the {word} in file {dice.randrange(200)}" for word in WORDS]
        more, count = leaks(
            way, people=people, questions=questions, shown=shown, retrievals=RETRIEVALS // ROUNDS, dice=dice
        )
        bad, found = bad + more, found + count
        for visitor in visitors.values():
            visitor.__exit__(None, None, None)
    told(f"samba-{request.node.callspec.id.replace(' ', '-')}", found, bad)


def test_nobody_finds_what_redmine_refuses_them(source: Source, settings: Settings) -> None:
    company = Company(source.server, seed=13, people=20, groups=4, projects=7, issues=200)
    company.server.call("PUT", "/projects/support/archive.json")
    for number, issue in enumerate(company.issues):
        text = f"Issue about the {WORDS[number % 12]} and the {WORDS[number * 7 % 11]}"
        company.server.sql("update issues set subject = ?, description = ? where id = ?", text, text, issue)
        note = f"For us alone: the {WORDS[number % 12]} was paid late"
        company.server.sql("update journals set notes = ? where journalized_id = ?", note, issue)
    values = {"url": f"http://127.0.0.1:{source.port}", **source.settings}
    way = WholeWay(settings, "redmine", "redmine", values)
    dice = random.Random(13)
    people = {login: f"{login}@company.example" for login in company.logins.values()}

    listed: dict[str, set[int]] = {}

    def shown(login: str, passage: Passage) -> bool:
        if passage.external_id.startswith("wiki/"):
            return company.wiki_shown(login, int(passage.external_id.split("/")[1]))
        issue = int(passage.external_id.removeprefix("ticket/"))
        if passage.audience is Audience.INTERNAL and "For us alone" in passage.text:
            return company.note_shown(login, issue)
        if login not in listed:
            listed[login] = company.issues_shown(login)
        return issue in listed[login] or company.issue_shown(login, issue)

    bad, found = list[str](), 0
    for number in range(ROUNDS):
        done = [company.change() for _ in range(12 if number else 0)]
        way.carry()
        listed.clear()
        questions = [f"{kind} the {word}" for word in WORDS for kind in ("issue about", "paid late for")]
        more, count = leaks(
            way, people=people, questions=questions, shown=shown, retrievals=RETRIEVALS // ROUNDS, dice=dice
        )
        bad, found = bad + [f"round {number} ({', '.join(done)}): {one}" for one in more], found + count
    way.close()
    told("redmine", found, bad)
