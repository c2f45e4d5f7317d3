"""The admin endpoints: what an admin sees and does, who may not, and what stands in the trail afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.config import Settings
from assistant.model import Answer, Audience, Citation, Evidence, Kind, Passage, Principal
from assistant.store import breaker, conversations, failures, feedback, sources, sync, versions
from assistant.store.feedback import Verdict
from assistant.store.sources import Source
from assistant.weights import State, check
from tests.servers.served import ADA, EVE, OLA, ROOT, Served, fill, served

A = "/api/v1/admin"


@pytest.fixture
def web(settings: Settings, tmp_path: Path) -> Iterator[Served]:
    """With the weights that are here and no version that was trained here."""
    if check(settings.embedder, settings) is not State.PRESENT:
        pytest.skip("the embedding model is not here: `deskhand models pull`")
    models = tmp_path / "models"
    models.mkdir()
    (models / settings.embedder).symlink_to((settings.models_folder / settings.embedder).resolve())
    with served(settings.model_copy(update={"models": models})) as made:
        fill(made.assistant)
        yield made


@pytest.fixture
def admin(web: Served) -> Iterator[httpx.Client]:
    with web.client(ROOT) as client:
        yield client


def source(web: Served) -> Source:
    with web.assistant.database.writer() as connection:
        return sources.get(connection, "files")


def jobs(web: Served) -> list[str]:
    with web.assistant.database.writer() as connection:
        rows = connection.execute("select job from sync_run where state = 'queued' order by id").fetchall()
    return [row["job"] for row in rows]


def good(response: httpx.Response, code: int = 200) -> Any:
    assert response.status_code == code, response.text
    return response.json() if response.content else None


# ── sources ──────────────────────────────────────────────────────────────────


def test_a_source_tells_how_it_is(admin: httpx.Client) -> None:
    (row,) = good(admin.get(f"{A}/sources"))
    wanted = {
        "name": "files",
        "connector": "directory",
        "documents": 2,
        "tickets": 1,
        "failures": 0,
        "held": 0,
    }
    assert {key: row[key] for key in wanted} == wanted
    assert (row["state"], row["every"], row["cron"], row["progress"]) == ("done", "15m", "", None)
    assert row["added"] == 3
    assert row["last_run"].endswith("Z")
    assert row["next_run"].endswith("Z")


def test_progress_is_told_while_it_is_indexed(web: Served, admin: httpx.Client) -> None:
    with web.assistant.database.writer() as connection:
        run = sources.request(connection, source(web))
        connection.execute(
            "update sync_run set state = 'running', total = 8, added = 4 where id = %s", (run,)
        )
    (row,) = good(admin.get(f"{A}/sources"))
    assert (row["state"], row["progress"], row["read"], row["total"]) == ("running", 0.5, 4, 8)


def test_what_an_admin_does_with_a_source(web: Served, admin: httpx.Client) -> None:
    good(admin.post(f"{A}/sources/files/pause"))
    (row,) = good(admin.get(f"{A}/sources"))
    assert (row["state"], row["paused"]) == ("paused", "Paused by an admin.")
    good(admin.post(f"{A}/sources/files/permissions"))
    assert jobs(web) == ["permissions"]
    runs = good(admin.post(f"{A}/sources/files/resume"))
    assert jobs(web) == ["permissions", "sync", "inventory"]
    assert good(admin.post(f"{A}/sources/files/sync")) == runs, "what is asked for already is not doubled"
    good(admin.patch(f"{A}/sources/files", json={"every": "6h"}))
    assert good(admin.get(f"{A}/sources"))[0]["every"] == "6h"
    good(admin.patch(f"{A}/sources/files", json={"every": "never"}))
    assert good(admin.get(f"{A}/sources"))[0]["next_run"] is None
    done = [(actor, action) for actor, action, _ in web.trail() if action.startswith("source.")]
    assert done == [
        (ROOT, f"source.{what}")
        for what in ("pause", "permissions", "resume", "sync", "schedule", "schedule")
    ]


def test_a_wrong_interval_and_an_unknown_source_change_nothing(web: Served, admin: httpx.Client) -> None:
    for every in ("", "soon", "5s", "99999999d", "1d 2h"):
        assert admin.patch(f"{A}/sources/files", json={"every": every}).status_code in (400, 422)
    for what in ("sync", "pause", "resume", "permissions", "confirm-prune"):
        response = admin.post(f"{A}/sources/nobody/{what}")
        assert response.status_code == 404
        assert "no source «nobody»" in response.json()["detail"]
    assert jobs(web) == []
    assert web.trail() == []


def test_a_held_prune_is_shown_and_confirmed(web: Served, admin: httpx.Client) -> None:
    with web.assistant.database.writer() as connection:
        run = sources.request(connection, source(web))
        row = connection.execute("update sync_run set started_at = now() where id = %s returning *", (run,))
        breaker.missing(connection, source(web), row.fetchone(), set())
    row = good(admin.get(f"{A}/sources"))[0]
    assert (row["held"], row["held_examples"]) == (3, ["4521", "escrow", "ports"])
    good(admin.post(f"{A}/sources/files/confirm-prune"))
    with web.assistant.database.writer() as connection:
        rows = connection.execute("select prune_all from sync_run where job = 'inventory'").fetchall()
    assert [row["prune_all"] for row in rows] == [True]


def test_failures_are_listed_page_by_page_and_retried(web: Served, admin: httpx.Client) -> None:
    with web.assistant.database.writer() as connection:
        for n in range(5):
            sync.fail(connection, source(web).id, f"doc-{n}", "read", "It is encrypted.")
    first = good(admin.get(f"{A}/failures", params={"limit": 3}))
    second = good(admin.get(f"{A}/failures", params={"limit": 3, "before": first["next"]}))
    names = [row["external_id"] for part in (first, second) for row in part["items"]]
    assert names == ["doc-4", "doc-3", "doc-2", "doc-1", "doc-0"]
    assert second["next"] is None
    some = [row["id"] for row in first["items"][:2]]
    assert good(admin.post(f"{A}/sources/files/retry", json={"ids": some})) == {"queued": 2}
    assert good(admin.post(f"{A}/sources/files/retry", json={})) == {"queued": 5}
    assert jobs(web) == ["sync"]
    with web.assistant.database.writer() as connection:
        assert len(failures.due(connection, source(web), limit=9)) == 5


# ── people ───────────────────────────────────────────────────────────────────


def test_an_account_is_taken_for_somebody(web: Served, admin: httpx.Client) -> None:
    rows = good(admin.get(f"{A}/people"))
    assert [(row["account"], row["taken_for"]) for row in rows] == [("ada", ADA), ("eve", EVE)]
    wanted = {"source": "files", "account": "ada", "taken_for": EVE}
    assert good(admin.put(f"{A}/people", json=wanted))["fixed"] is True
    assert "files/group:support" in web.assistant.principal(EVE).tokens, "it holds at once"
    good(admin.put(f"{A}/people", json={**wanted, "taken_for": None}))
    assert "files/group:support" not in web.assistant.principal(EVE).tokens
    assert admin.put(f"{A}/people", json={**wanted, "account": "nobody"}).status_code == 404
    assert [(a, o) for _, a, o in web.trail()] == [("people.map", "files ada"), ("people.unmap", "files ada")]


def test_logins_are_made_changed_and_shut_out(web: Served, admin: httpx.Client) -> None:
    made = good(admin.post(f"{A}/logins", json={"email": "New@Desk.example", "name": "New"}), 201)
    assert len(made["password"]) > 20
    again = admin.post(f"{A}/logins", json={"email": "new@desk.example"})
    assert again.status_code == 400, "one address, one login"
    path = f"{A}/logins/new@desk.example"
    assert good(admin.patch(path, json={"role": "owner"}))["role"] == "owner"
    assert good(admin.post(f"{path}/reset")) != made
    token = web.token("new@desk.example")
    assert good(admin.patch(path, json={"disabled": True}))["state"] == "disabled"
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{web.url}/v1/models", headers=headers).status_code == 401, "their tokens end as well"
    assert admin.patch(f"{A}/logins/nobody@x.example", json={"role": "admin"}).status_code == 404
    last = admin.patch(f"{A}/logins/{ROOT}", json={"role": "agent"})
    assert last.status_code == 400
    assert "last admin" in last.json()["detail"]
    assert made["password"] not in str(web.trail())


# ── quality, use, trail, health ──────────────────────────────────────────────


def asked(web: Served, who: str, question: str, *, refusal: str = "", cites: str = "ports") -> int:
    with web.assistant.database.writer() as connection:
        row = connection.execute(
            "select c.id, c.document_id from chunk c join document d on d.id = c.document_id where d.external_id = %s",
            (cites,),
        ).fetchone()
    assert row is not None
    found = Passage(
        row["id"], row["document_id"], "text", cites, "", Kind.DOCUMENT, 1.0, evidence=Evidence.DOCUMENT
    )
    cited = () if refusal else (Citation(1, found, "text", (0, 5)),)
    answer = Answer("So [1].", cited, 0.9, refusal, (found,), question, "small")
    with web.assistant.database.reader(Principal(who), Audience.INTERNAL) as connection:
        talk = conversations.start(connection, title=question, surface="web")
        return conversations.record(connection, talk, question, answer)


def test_quality_tells_gaps_and_complaints_but_not_who_asked(web: Served) -> None:
    for who in (ADA, EVE):
        asked(web, who, "How do I rotate the licence of 10.1.2.3?", refusal="nothing was found")
    message = asked(web, ADA, "Which port?")
    with web.assistant.database.reader(Principal(ADA), Audience.INTERNAL) as connection:
        feedback.add(connection, message, Verdict.SOURCE_OUTDATED, source=1, comment="Ask ada@desk.example")
    with web.client(OLA) as owner:
        told = good(owner.get(f"{A}/quality"))
    (gap,) = told["gaps"]
    assert (gap["asked"], gap["declined"], gap["askers"]) == (2, 2, 2)
    assert "10.1.2.3" not in gap["question"]
    (stale,) = told["stale"]
    assert (stale["title"], stale["reason"], stale["people"]) == ("About ports", "called outdated 1×", 1)
    assert told["feedback"]["source_outdated"] == 1
    assert ADA not in str(told)
    assert web.trail()[-1][:2] == (OLA, "gaps.list"), "each look is noted"


def test_use_is_counted_by_day(web: Served, admin: httpx.Client) -> None:
    asked(web, ADA, "One?")
    asked(web, ADA, "Two?", refusal="nothing was found")
    asked(web, EVE, "Three?")
    told = good(admin.get(f"{A}/usage"))
    (day,) = told["days"]
    assert (day["questions"], day["declined"], day["people"]) == (3, 1, 2)
    assert told["totals"] == {"questions": 3, "declined": 1}


def test_the_trail_is_told_page_by_page(web: Served, admin: httpx.Client) -> None:
    for _ in range(5):
        admin.post(f"{A}/sources/files/pause")
    first = good(admin.get(f"{A}/audit", params={"limit": 3}))
    second = good(admin.get(f"{A}/audit", params={"limit": 3, "before": first["next"]}))
    entries = [*first["items"], *second["items"]]
    assert [(e["actor"], e["action"], e["object"]) for e in entries] == [(ROOT, "source.pause", "files")] * 5
    assert second["next"] is None


def test_health_is_what_the_doctor_says(admin: httpx.Client) -> None:
    told = {check["name"]: check for check in good(admin.get(f"{A}/health"))}
    assert told["database"]["ok"]
    assert told["processes"]["remedy"], "nothing supervises a test's server"


# ── models ───────────────────────────────────────────────────────────────────


def test_models_tell_progress_losses_and_figures(web: Served, admin: httpx.Client) -> None:
    with web.assistant.database.writer() as connection:
        made = versions.request(
            connection, versions.Kind.GENERATOR, base="small", dataset_hash=None, recipe={}, by=ROOT
        )
        looks = [{"step": 0, "dev_loss": 2.0}, {"step": 10, "loss": 1.5, "dev_loss": 1.2}]
        told = {"step": 10, "steps": 40, "loss": 1.5, "dev_loss": 1.2, "losses": looks, "seconds_left": 60}
        versions.progress(connection, made, told)
    (row,) = good(admin.get(f"{A}/models"))
    assert (row["name"], row["state"], row["progress"], row["seconds_left"]) == (
        made.name,
        "training",
        0.25,
        60,
    )
    assert row["losses"] == looks
    assert row["working"] is False
    with web.assistant.database.connect() as connection:
        versions.claim(connection, made)
        assert good(admin.get(f"{A}/models"))[0]["working"] is True
        measured = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 40}
        versions.finish(
            connection,
            made,
            {"dev_loss": 1.1, "stopped_early": True, "evaluated": {"set": {"score": measured}}},
        )
    (row,) = good(admin.get(f"{A}/models"))
    assert row["metrics"] == {"dev_loss": 1.1, "score": 0.5}
    assert (row["state"], row["progress"]) == ("candidate", None)


def test_a_version_that_cannot_be_promoted_says_why(web: Served, admin: httpx.Client) -> None:
    assert admin.post(f"{A}/models/nothing/promote", json={}).status_code == 404
    with web.assistant.database.writer() as connection:
        made = versions.request(
            connection, versions.Kind.GENERATOR, base="small", dataset_hash=None, recipe={}, by=ROOT
        )
    response = admin.post(f"{A}/models/{made.name}/promote", json={})
    assert response.status_code == 400, "echo is no generator that can be tuned"
    assert "Nothing was" in response.json()["detail"]
    assert admin.post(f"{A}/models/{made.name}/rollback").status_code == 400
    assert admin.post(f"{A}/models/nothing/rollback").status_code == 404
    with web.assistant.database.writer() as connection:
        other = versions.request(
            connection, versions.Kind.EMBEDDER, base="small", dataset_hash=None, recipe={}, by=ROOT
        )
        versions.promote(connection, other, by=ROOT)
    back = admin.post(f"{A}/models/{other.name}/rollback")
    assert back.status_code == 400, "the generator is not taken back in its place"
    assert "no generator" in back.json()["detail"]


def test_a_comparison_is_a_process_of_its_own_and_leaves_its_reason(web: Served, settings: Settings) -> None:
    local = settings.model_copy(update={"generator": "local", "state": settings.state / "other"})
    with web.assistant.database.writer() as connection:
        made = versions.request(
            connection, versions.Kind.GENERATOR, base="small", dataset_hash="none", recipe={}, by=ROOT
        )
        versions.finish(connection, made, {})
    from assistant.app import Assistant
    from assistant.tune import promoting

    assistant = Assistant(local)
    promoting.start(assistant, made.name, by=ROOT)
    until = time.monotonic() + 60
    while True:
        with assistant.database.writer() as connection:
            version = versions.get(connection, made.name)
        if version.reason or time.monotonic() > until:
            break
        time.sleep(0.2)
    assistant.close()
    assert version.state == "candidate"
    assert version.reason, "its files are not there, and its row says so"


# ── tokens ───────────────────────────────────────────────────────────────────


def test_a_token_makes_no_tokens(web: Served) -> None:
    with web.client(ADA) as client:
        assert client.get("/api/v1/tokens").status_code == 403
        assert client.post("/api/v1/tokens", json={"name": "more", "scopes": ["chat"]}).status_code == 403
