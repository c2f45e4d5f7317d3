"""The web chat: how long answers and pages take, with one person and with many at once.

    python -m tests.bench.bench_web [--people 1,10,50] [--questions 60] [--conversations 5000] [--visits 5]

A real `deskhand up` with the sample company and the settings as shipped. People of the support desk, each
signed in as themselves, ask the sample's questions over SSE, so many of them at the same moment, each something
else; they take turns, so that nobody meets the limit of questions a minute. Then one person gets thousands of
conversations: the list and its search over HTTP, and the first page in Debian's Chromium (extra [browser]) on
throttled lines, with an empty and a full cache. Writes results/web.json and .png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from assistant.config import Settings
from assistant.evaluate.statistics import p50, p95
from assistant.store import logins
from assistant.store.logins import Role
from assistant.surfaces.api.serve import address
from assistant.surfaces.demo import add_sample
from tests.bench.output import plotted, save
from tests.browser import desk as desks
from tests.installation import Installation, wait
from tests.paths import MODELS, SAMPLE
from tests.servers.web import PASSWORD, events, signed_in

READER = "reader@fernhill.example"
"""has the thousands of conversations"""
MOMENTS = {"data-status": "status", "data-sources": "source", "text-delta": "token"}
LINES = {
    "1.6 Mbit/s, 150 ms": (1.6e6, 0.75e6, 150),
    "10 Mbit/s, 40 ms": (10e6, 5e6, 40),
    "not throttled": (-1, -1, 0),
}
"""bits a second down and up, ms until an answer begins"""
SEARCHES = {
    "a search for a frequent word": ["server", "sync", "the", "version", "client", "error"],
    "a search for a rare word": ["harbour 17 lantern", "harbour 4021 lantern", "Harbour 99 Lantern"],
    "a search for what nobody said": ["zebrafish", "no such words here", "FS-9999"],
}
TIMES = 50
"""pages, and searches of each kind"""


def spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {"count": 0}
    return {"count": len(seconds), "p50": round(float(p50(seconds)), 3), "p95": round(float(p95(seconds)), 3)}


@contextmanager
def company(folder: Path, people: list[str]) -> Generator[Installation]:
    """The sample company, with these people more on its support desk."""
    sample = folder / "sample"
    shutil.copytree(SAMPLE, sample)
    known = json.loads((sample / "directory.json").read_text())
    known["users"] += [{"id": person, "name": person, "groups": ["support"]} for person in people]
    (sample / "directory.json").write_text(json.dumps(known))
    settings = Settings(state=folder / "state", models=MODELS, log_level="WARNING")
    with desks.up(settings, folder):
        made = Installation(settings)
        with made.assistant() as assistant:
            add_sample(assistant, sample)
            with assistant.database.writer() as connection:
                for person in people:
                    logins.add(connection, person, Role.AGENT, password=PASSWORD)
        wait(made.finished, what="the sync of the sample company", seconds=900)
        yield made


def questions() -> list[str]:
    """Those of the sample that a desk's agent asks without having said anything before."""
    lines = (SAMPLE / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    every = [json.loads(line) for line in lines]
    return [one["question"] for one in every if one["as"] == "agent" and not one["history"]]


def asked(client: httpx.Client, question: str) -> dict[str, float]:
    """Seconds from submitting until each moment of its answer."""
    began, found = time.perf_counter(), dict[str, float]()
    for part in events(client, "POST", "/api/v1/chat", json={"text": question}):
        assert part["type"] != "error", part
        if name := MOMENTS.get(part["type"]):
            found.setdefault(name, time.perf_counter() - began)
    return {**found, "whole": time.perf_counter() - began}


def at_once(clients: list[httpx.Client], people: int, count: int) -> dict[str, Any]:
    """So many ask at the same moment, and again when all have their answers."""
    texts, turn = questions(), itertools.cycle(clients)
    assert people <= min(len(clients), len(texts)), "each asks something else, as themselves"
    found: list[dict[str, float]] = []
    for round_ in range(max(2, -(-count // people))):
        start = threading.Barrier(people)

        def one(client: httpx.Client, text: str, start: threading.Barrier = start) -> dict[str, float]:
            start.wait()
            return asked(client, text)

        chosen = [texts[(round_ * people + number) % len(texts)] for number in range(people)]
        with ThreadPoolExecutor(people) as pool:
            found += pool.map(one, [next(turn) for _ in chosen], chosen)
    moments = ("status", "source", "token", "whole")
    return {moment: spread([one[moment] for one in found if moment in one]) for moment in moments}


def memory(desk: Installation) -> dict[str, float]:
    """MB of the web process; with the child that a generator which writes has."""
    top = psutil.Process(desk.pid("web"))
    sizes = [process.memory_full_info() for process in (top, *top.children(recursive=True))]
    return {kind: round(sum(getattr(size, kind) for size in sizes) / 2**20, 1) for kind in ("rss", "pss")}


def fill(desk: Installation, count: int) -> None:
    """Two questions and answers in each conversation, made of what the sample's tickets say."""
    chance = random.Random(5)
    with desk.assistant() as assistant, assistant.database.owner() as connection:
        texts = [row["text"] for row in connection.execute("select text from chunk where length(text) > 300")]
        talks = connection.execute(
            "insert into conversation (principal_id, title, surface, updated_at) select %s, 'Talk ' || n, 'web',"
            " now() - make_interval(mins => n) from generate_series(1, %s) n returning id",
            (READER, count),
        ).fetchall()
        with connection.cursor().copy("copy message (conversation_id, role, content) from stdin") as copy:
            for number, talk in enumerate(talks):
                for role, text in itertools.product(("user", "assistant"), chance.sample(texts, 2)):
                    said = text[:120] if role == "user" else f"{text} (harbour {number} lantern)"
                    copy.write_row((talk["id"], role, said))
    with desk.assistant() as assistant:
        connection = assistant.database.connect("deskhand_owner")
        connection.execute("vacuum (analyze) conversation, message")
        connection.close()


def listed(client: httpx.Client) -> dict[str, dict[str, float]]:
    def read(**query: str) -> tuple[float, str]:
        began = time.perf_counter()
        page = client.get("/api/v1/conversations", params=query).raise_for_status().json()
        return time.perf_counter() - began, page["next"] or ""

    pages: list[float] = []
    place = ""
    for _ in range(TIMES):
        seconds, place = read(before=place)
        pages.append(seconds)
    searches = {
        kind: spread([read(query=word)[0] for word in itertools.islice(itertools.cycle(words), TIMES)])
        for kind, words in SEARCHES.items()
    }
    return {"a page": spread(pages), **searches}


def visits(url: str, client: httpx.Client, count: int) -> dict[str, Any]:
    """The first page in a browser: what it weighs, when something shows, when the list does."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import FLAGS

    cookies = [{"name": c.name, "value": c.value or "", "url": url} for c in client.cookies.jar]
    found: dict[str, Any] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for line, limits in LINES.items():
            seen: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
            for _ in range(count):
                context = browser.new_context(base_url=url)
                context.add_cookies(cookies)
                for cache in seen:
                    seen[cache].append(visit(context.new_page(), limits))
                context.close()
            found[line] = {
                cache: {what: spread([one[what] for one in many]) for what in many[0]}
                for cache, many in seen.items()
            }
        browser.close()
    return found


def visit(page: Any, line: tuple[float, float, float]) -> dict[str, float]:
    """Seconds since the visit began, and kB that came over the line until the list was there."""
    wire: list[float] = []
    session = page.context.new_cdp_session(page)
    session.on("Network.loadingFinished", lambda event: wire.append(event["encodedDataLength"]))
    session.send("Network.enable")
    down, up, latency = line
    session.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": latency,
            "downloadThroughput": down / 8 if down > 0 else -1,
            "uploadThroughput": up / 8 if up > 0 else -1,
        },
    )
    page.goto("/", wait_until="commit")
    page.wait_for_selector(".conversation", timeout=120_000)
    listed = page.evaluate("performance.now()")
    paints = dict(
        page.evaluate("performance.getEntriesByType('paint').map(entry => [entry.name, entry.startTime])")
    )
    page.wait_for_load_state("networkidle")
    page.close()
    return {
        "first paint": paints["first-paint"] / 1000,
        "first contentful paint": paints["first-contentful-paint"] / 1000,
        "list shown": listed / 1000,
        "kB": sum(wire) / 1024,
    }


def draw(found: dict[str, Any]) -> None:
    with plotted("web", columns=len(found), size=(3.2 * len(found), 3)) as axes:
        for place, (people, moments) in zip([axes] if len(found) == 1 else axes, found.items(), strict=True):
            seen = {name: of for name, of in moments.items() if of["count"]}
            place.bar(list(seen), [of["p95"] for of in seen.values()], color="#9bb8d3", label="p95")
            place.bar(list(seen), [of["p50"] for of in seen.values()], color="#2f6690", label="p50")
            place.set(title=f"{people} at once, seconds")
            place.legend()


def measured(name: str, measure: Callable[[], Any]) -> Any:
    found = measure()
    print(f"{name}: {json.dumps(found)}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", default="1,10,50")
    parser.add_argument(
        "--questions", type=int, default=60, help="at least so many for each number of people"
    )
    parser.add_argument("--conversations", type=int, default=5_000)
    parser.add_argument("--visits", type=int, default=5)
    options = parser.parse_args()
    levels = [int(number) for number in options.people.split(",")]
    people = [f"agent{number}@fernhill.example" for number in range(max(10, *levels))]
    with tempfile.TemporaryDirectory(prefix="dh-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        desk = stack.enter_context(company(folder, [*people, READER]))
        url = address(desk.settings.state)
        clients = [stack.enter_context(signed_in(url, person)) for person in (READER, *people)]
        for client in clients:
            client.timeout = httpx.Timeout(600)
        reader, *agents = clients
        asked(reader, questions()[0])  # what loads with the first question
        result: dict[str, Any] = {"conversations": options.conversations, "questions": options.questions}
        result["memory"] = {"before": memory(desk)}
        result["people"] = {
            number: measured(f"{number} at once", lambda n=number: at_once(agents, n, options.questions))
            for number in levels
        }
        result["memory"]["after"] = memory(desk)
        fill(desk, options.conversations)
        result["list"] = measured("list", lambda: listed(reader))
        result["visits"] = measured("visits", lambda: visits(url, reader, options.visits))
        result["memory"]["at the end"] = measured("memory", lambda: memory(desk))
    save("web", result)
    draw(result["people"])


if __name__ == "__main__":
    main()
