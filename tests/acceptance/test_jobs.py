"""The jobs of a source through a whole running installation: hints, people, deletions, turns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.model import Audience
from assistant.store import principals, schedule, sources
from assistant.store.schedule import Job, Times
from tests.installation import Installation, installation, wait
from tests.paths import MODELS

pytestmark = pytest.mark.timeout(400)

ADA, BOB = "ada@acme.example", "bob@acme.example"


@pytest.fixture(scope="module")
def desk(folder: Path) -> Iterator[Installation]:
    with installation(folder / "jobs", MODELS) as made:
        yield made


def people(share: Path, **groups: list[str]) -> None:
    users = [{"id": name, "email": f"{name}@acme.example", "groups": of} for name, of in groups.items()]
    (share.parent / f"{share.name}.json").write_text(json.dumps({"users": users}))


@pytest.fixture
def share(desk: Installation, folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder that is a source of the test's name, never due by itself."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40]
    path = folder / name
    path.mkdir()
    people(path, ada=["staff"], bob=["staff"])
    settings = {"path": str(path), "access": ["group:staff"], "people": str(folder / f"{name}.json")}
    desk.add(name, "directory", settings)
    wait(lambda: idle(desk, name), what="the first runs")
    yield path
    with desk.assistant() as assistant, assistant.database.writer() as connection:
        sources.remove(connection, sources.get(connection, name))
    shutil.rmtree(path)


def idle(desk: Installation, name: str) -> bool:
    with desk.assistant() as assistant, assistant.database.writer() as connection:
        source = sources.get(connection, name)
        row = next(r for r in sources.overview(connection) if r["name"] == name)
        return not sources.active(connection, source.id) and not row["pending"] and bool(row["run_state"])


def ask_for(desk: Installation, name: str, job: Job, **options: Any) -> dict[str, Any]:
    """Request a job and wait for its end; the run's row."""
    with desk.assistant() as assistant, assistant.database.writer() as connection:
        run_id = sources.request(connection, sources.get(connection, name), job=job, **options)

    def row() -> dict[str, Any]:
        with desk.assistant() as assistant, assistant.database.writer() as connection:
            return sources.run(connection, run_id) or {}

    wait(lambda: row()["state"] in ("done", "failed"), what=f"the {job} of {name}")
    return row()


def names(desk: Installation, person: str) -> set[str]:
    """Names, without suffix, of the files the person may read, through the reader's policies."""
    with desk.assistant() as assistant:
        with assistant.database.writer() as connection:
            principal = principals.load(connection, person)
        with assistant.database.reader(principal, Audience.INTERNAL) as connection:
            rows = connection.execute(
                "select distinct d.external_id from chunk c join document d on d.id = c.document_id"
            )
            return {row["external_id"].removesuffix(".md") for row in rows}


def test_a_change_in_a_watched_folder_is_found_without_a_schedule(desk: Installation, share: Path) -> None:
    (share / "stays.md").write_text(
        "# Stays\n\nA folder that is emptied looks like a mount that is missing.\n"
    )
    (share / "pangolin.md").write_text("# Pangolins\n\nThe pangolin protocol listens on port 4711.\n")
    wait(lambda: "pangolin" in names(desk, ADA), what="the new file", seconds=60)
    (share / "pangolin.md").unlink()
    wait(lambda: "pangolin" not in names(desk, ADA), what="its end", seconds=60)


def test_who_loses_a_group_loses_its_documents_with_one_permission_sync(
    desk: Installation, share: Path
) -> None:
    (share / "wages.md").write_text("# Wages\n\nWhat everybody earns.\n")
    ask_for(desk, share.name, Job.SYNC)
    wait(lambda: "wages" in names(desk, BOB), what="the indexed file")
    people(share, ada=["staff"], bob=[])
    assert ask_for(desk, share.name, Job.PERMISSIONS)["state"] == "done"
    assert "wages" not in names(desk, BOB)
    assert "wages" in names(desk, ADA)


def test_an_unreadable_list_of_people_changes_nobodys_rights(desk: Installation, share: Path) -> None:
    (share / "plan.md").write_text("# Plan\n\nWhat comes next.\n")
    ask_for(desk, share.name, Job.SYNC)
    wait(lambda: "plan" in names(desk, BOB), what="the indexed file")
    (share.parent / f"{share.name}.json").write_text("{ not json")
    run = ask_for(desk, share.name, Job.PERMISSIONS)
    assert run["state"] == "failed"
    assert "left as they were" in run["error"]
    assert "plan" in names(desk, BOB)


def test_no_inventory_is_asked_of_a_source_that_holds_nothing(desk: Installation, share: Path) -> None:
    run = ask_for(desk, share.name, Job.INVENTORY)
    assert (run["state"], run["error"], run["note"]) == ("done", "", "")


def test_a_folder_that_empties_at_once_keeps_its_documents(desk: Installation, share: Path) -> None:
    for number in range(8):
        (share / f"paper-{number}.md").write_text(f"# Paper {number}\n\nAbout the number {number}.\n")
    ask_for(desk, share.name, Job.SYNC)
    wait(lambda: len(names(desk, ADA)) >= 8, what="the indexed files")
    for file in share.iterdir():
        file.unlink()
    assert "mount" in ask_for(desk, share.name, Job.INVENTORY)["note"]
    assert len([t for t in names(desk, ADA) if t.startswith("paper")]) == 8


def test_a_schedule_runs_its_job(desk: Installation, share: Path) -> None:
    with desk.assistant() as assistant, assistant.database.writer() as connection:
        source = sources.get(connection, share.name)
        before = connection.execute("select coalesce(max(id), 0) as id from sync_run").fetchone()
        schedule.put(connection, source.id, Job.RETRY, Times(every=10), now=True)
    assert before is not None

    def done() -> bool:
        with desk.assistant() as assistant, assistant.database.writer() as connection:
            rows = connection.execute(
                "select state from sync_run where id > %s and job = 'retry' and source_id = %s",
                (before["id"], source.id),
            ).fetchall()
            return [row["state"] for row in rows] == ["done"]

    wait(done, what="the scheduled retry", seconds=30)
