"""Expand the ticket sources to tickets.jsonl, and name tickets in the questions.

source/tickets/<organisation>.txt reads like a mail thread:

    org: id | name | domain | plan | region
    plan: 2025-09-01 Business                     (a later change of plan)
    contact: key | Name | local part of the address
    # key | contact | 2025-03-14 09:12 | priority | product version | tags | agent | satisfaction
    Subject
    body ...
    >> agent +2h [solution]                       public reply of an agent
    >> agent +5m note                             internal note
    << contact +1d [thanks]                       reply of the customer
    ! pending|solved|closed|open +3d              a change of status without a reply

Times are relative to the entry before, so they can't be out of order. A
ticket's number follows from its day: adding one never renumbers another.
`{#key}` in any text becomes that ticket's number.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

EPOCH = datetime(2024, 11, 1)
FIRST_ID, IDS_A_DAY = 4100, 3
CLOSE_BEFORE = datetime(2026, 4, 1)  # older solved tickets were closed by the desk's automation
AGENTS = {
    "mara": ("Mara Lindqvist", "mara.lindqvist@fernhill.example"),
    "tomasz": ("Tomasz Reyes", "tomasz.reyes@fernhill.example"),
    "priya": ("Priya Nandakumar", "priya.nandakumar@fernhill.example"),
    "ines": ("Ines Okafor", "ines.okafor@fernhill.example"),  # product security, takes over a few
}
PRODUCTS = {
    "server": "Fernhill Sync Server",
    "desktop": "Fernhill Sync Desktop",
    "mobile": "Fernhill Sync Mobile",
    "api": "Fernhill Sync API",
    "account": "Fernhill Account",
}
HEADER = re.compile(r"# (.+?) *\| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.*?) \| (.+?) \| (.+)")
ENTRY = re.compile(r"(>>|<<|!) (\w+) \+(\S+) ?(\w*)$")
UNITS = {"d": "days", "h": "hours", "m": "minutes"}

Json = dict[str, Any]


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(text: str) -> timedelta:
    return timedelta(**{UNITS[unit]: int(number) for number, unit in re.findall(r"(\d+)([dhm])", text)})


class Thread:
    """One ticket while it is read: keeps the clock and the status."""

    def __init__(self, header: list[str], organisation: Json, contacts: dict[str, tuple[str, str]]) -> None:
        self.key, contact, created, priority, product, tags, agent, satisfaction = header
        self.contacts = contacts
        self.now = datetime.fromisoformat(created)
        self.lines: list[str] = []
        self.replies: list[Json] = []
        self.events: list[Json] = []
        self.status = "open"
        kind, version = product.split(" ")
        words = [tag for tag in tags.split(",") if tag]
        name, email = contacts[contact]
        self.created = self.now
        self.fields: Json = {
            "priority": priority,
            "product": PRODUCTS[kind],
            "version": version,
            "tags": [tag for tag in words if not tag.startswith("lang:")],
            "language": next((tag[5:] for tag in words if tag.startswith("lang:")), "en"),
            "requester": {"name": name, "email": email},
            "organisation": organisation,
            "assignee": AGENTS[agent][1],
            "satisfaction": None if satisfaction == "-" else satisfaction,
        }

    def turn(self, status: str) -> None:
        if status != self.status:
            self.events.append({"at": iso(self.now), "from": self.status, "to": status})
            self.status = status

    def entry(self, mark: str, who: str, after: str, flag: str) -> None:
        self.now += duration(after)
        if mark == "!":
            self.turn(who)
            return
        agent = mark == ">>"
        name, email = (AGENTS if agent else self.contacts)[who]
        self.replies.append(
            {
                "author": name,
                "email": email,
                "role": "agent" if agent else "customer",
                "created": iso(self.now),
                "public": flag != "note",
                "body": [],
                "is_solution": flag == "solution",
            }
        )
        if flag == "solution":
            self.turn("solved")
        elif agent and flag != "note" and self.status == "open":
            self.turn("pending")
        elif not agent and flag != "thanks":
            self.turn("open")

    def add(self, line: str) -> None:
        (self.replies[-1]["body"] if self.replies else self.lines).append(line)

    def finish(self, number: int) -> Json:
        if self.status == "solved" and self.now < CLOSE_BEFORE:
            self.now += timedelta(days=7)
            self.turn("closed")
        replies = [
            {"id": number * 100 + place, **reply, "body": "\n".join(reply["body"]).strip()}
            for place, reply in enumerate(self.replies, 1)
        ]
        return {
            "id": number,
            "url": f"https://desk.fernhill.example/tickets/{number}",
            "created": iso(self.created),
            "updated": iso(self.now),
            "subject": self.lines[0],
            "body": "\n".join(self.lines[1:]).strip(),
            "status": self.status,
            **self.fields,
            "replies": replies,
            "events": self.events,
        }


def threads(path: Path) -> list[Thread]:
    found: list[Thread] = []
    contacts: dict[str, tuple[str, str]] = {}
    organisation: Json = {}
    plans: list[tuple[str, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if header := HEADER.fullmatch(line):
            current = dict(organisation)
            for since, plan in plans:
                if header[3] >= since:
                    current["plan"] = plan
            found.append(Thread([part.strip() for part in header.groups()], current, contacts))
        elif found and (entry := ENTRY.fullmatch(line)):
            found[-1].entry(*entry.groups())
        elif found:
            found[-1].add(line)
        elif line.startswith("org: "):
            organisation = dict(
                zip(("id", "name", "domain", "plan", "region"), line[5:].split(" | "), strict=True)
            )
        elif line.startswith("plan: "):
            since, plan = line[6:].split(" ")
            plans.append((since, plan))
        elif line.startswith("contact: "):
            key, name, local = line[9:].split(" | ")
            contacts[key] = (name, f"{local}@{organisation['domain']}")
    return found


def write(folder: Path) -> None:
    every = sorted(
        (thread for path in sorted((folder / "source/tickets").glob("*.txt")) for thread in threads(path)),
        key=lambda thread: (thread.created, thread.key),
    )
    numbers: dict[str, int] = {}
    per_day: dict[int, int] = defaultdict(int)
    for thread in every:
        if thread.key in numbers:
            raise ValueError(f"two tickets are called {thread.key!r}: rename one")
        day = (thread.created - EPOCH).days
        if per_day[day] == IDS_A_DAY:
            raise ValueError(
                f"more than {IDS_A_DAY} tickets on {thread.created:%Y-%m-%d}: move {thread.key!r}"
            )
        numbers[thread.key] = FIRST_ID + day * IDS_A_DAY + per_day[day]
        per_day[day] += 1

    def named(text: str) -> str:
        return re.sub(r"\{#([\w-]+)\}", lambda match: str(numbers[match[1]]), text)

    tickets = [named(json.dumps(t.finish(numbers[t.key]), ensure_ascii=False)) for t in every]
    (folder / "tickets.jsonl").write_text("\n".join(tickets) + "\n", encoding="utf-8")
    for name in ("questions.jsonl", "demo.json"):
        (folder / name).write_text(
            named((folder / "source" / name).read_text(encoding="utf-8")), encoding="utf-8"
        )
