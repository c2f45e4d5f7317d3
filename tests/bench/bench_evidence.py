"""What other customers' tickets and the customer's own history add to the evidence of real answers.

    python -m tests.bench.bench_evidence STATE/calm [--limit N]

Over an installation that `bench_sync STATE` left: the Thunderbird knowledge base and its
tickets. Each question is a real ticket, asked as of its own day, without itself. `article`
is the share of questions (kb_retrieval dev) where the article that a helper linked is among
the passages, or is named by one of them; `nearest` the mean token F1 of the accepted
solution (qa_solved dev, self-contained ones) with the passage that is nearest to it. Each
system has the same number of passages, its best by score. Questions of customers with an
earlier ticket are counted apart, as only there a history can help. Writes results/evidence.json and .png.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from assistant.app import Assistant
from assistant.evaluate import beir
from assistant.evaluate.marks import token_f1
from assistant.evaluate.statistics import Estimate, estimate
from assistant.model import TIMELINE, Audience, Kind, Passage, Principal
from assistant.retrieve.evidence import evidence
from assistant.retrieve.scope import Scope
from assistant.store.search import Filters
from tests.bench.bench_sync import SUPPORT
from tests.bench.output import plotted, save
from tests.installation import REALM, installation
from tests.paths import DATA, MODELS

KB, SOLVED = "thunderbird/bench/kb_retrieval", "thunderbird/bench/qa_solved"
SYSTEMS = ("documents", "tickets", "history")
BUDGET = 12
"""passages a system may show"""
READER = Principal("bench", frozenset({f"{REALM}/{SUPPORT}", SUPPORT}))


@dataclass(frozen=True, slots=True)
class Asked:
    text: str
    document: int
    customer: int | None
    earlier: int
    """tickets that this customer had before"""
    scope: Scope


def undated(assistant: Assistant) -> None:
    """Today's knowledge base stands for that of each day: its files tell their last revision alone, and what a
    helper linked was there then."""
    with assistant.database.owner() as connection:
        connection.execute(
            "update chunk c set created_at = '2000-01-01' from document d"
            " where d.id = c.document_id and d.kind = 'document'"
        )


def asked(assistant: Assistant, ticket: str, text: str) -> Asked | None:
    """The ticket as a question: nothing newer than it, and not itself."""
    with assistant.database.reader(READER, Audience.INTERNAL) as connection:
        row = connection.execute(
            "select d.id, d.customer_id, d.created_at, (select count(*) from document e where"
            " e.kind = 'ticket' and e.customer_id = d.customer_id and e.created_at < d.created_at) as earlier"
            " from document d where d.kind = 'ticket' and d.external_id = %s",
            (ticket,),
        ).fetchone()
    if row is None:
        return None
    scope = Scope(READER, filters=Filters(before=row["created_at"]), without=row["id"])
    return Asked(text, row["id"], row["customer_id"], row["earlier"], scope)


def found(assistant: Assistant, question: Asked, system: str) -> list[Passage]:
    """The system's best passages."""
    scope = question.scope
    if system == "documents":
        scope = replace(scope, filters=replace(scope.filters, kinds=(Kind.DOCUMENT,)))
    elif system == "history":
        scope = replace(scope, customer=(question.customer,) if question.customer else ())
    messages = [p for p in evidence(assistant.retriever, question.text, scope) if p.role != TIMELINE]
    return sorted(messages, key=lambda p: -p.score)[:BUDGET]


def names(passage: Passage, article: str, title: str) -> bool:
    """Whether a passage is of the article, or tells of it by its address or title."""
    text = passage.text.lower()
    if passage.kind is Kind.DOCUMENT and re.search(
        rf"(^|/){re.escape(article)}(\.[a-z]+)?$", passage.external_id
    ):
        return True
    return f"/kb/{article}" in text or (len(title.split()) > 2 and title.lower() in text)


def kb(assistant: Assistant, limit: int | None) -> Iterator[tuple[str, Asked, float]]:
    """System, question, and whether the article is in the evidence."""
    task = beir.task(DATA / KB, split="dev")
    titles = {r.id: r.title for r in beir.corpus(DATA / KB)}
    for query in task.queries[:limit]:
        question = asked(assistant, query.id, query.text)
        if question is None:
            continue
        for system in SYSTEMS:
            passages = found(assistant, question, system)
            hit = any(names(p, a, titles.get(a, "")) for p in passages for a in task.relevant[query.id])
            yield system, question, float(hit)


def solved(assistant: Assistant, limit: int | None) -> Iterator[tuple[str, Asked, float]]:
    """System, question, and F1 of the accepted solution with the nearest passage."""
    folder = DATA / SOLVED
    clean = set((folder / "dev_clean_ids.txt").read_text().split())
    rows = [json.loads(line) for line in (folder / "dev.jsonl").read_text().splitlines()]
    for row in [r for r in rows if r["id"] in clean][:limit]:
        question = asked(assistant, row["id"], f"{row['subject']}\n{row['question']}")
        if question is None:
            continue
        for system in SYSTEMS:
            passages = found(assistant, question, system)
            best = max((token_f1(p.text, row["solution"]) for p in passages), default=0.0)
            yield system, question, best


def table(rows: Sequence[tuple[str, Asked, float]]) -> dict[str, dict[str, Estimate | None]]:
    return {
        system: {
            "all": estimate([mark for s, _, mark in rows if s == system]),
            "with earlier tickets": estimate([m for s, q, m in rows if s == system and q.earlier]),
        }
        for system in SYSTEMS
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("installation", type=Path)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    result: dict[str, Any] = {}
    with installation(options.installation, MODELS) as desk, desk.assistant() as assistant:
        undated(assistant)
        for name, rows in (("article", kb), ("nearest", solved)):
            marks = list(rows(assistant, options.limit))
            questions = [q for s, q, _ in marks if s == SYSTEMS[0]]
            measured = table(marks)
            result[name] = {
                "questions": len(questions),
                "with earlier tickets": sum(q.earlier > 0 for q in questions),
                **{s: {k: asdict(v) for k, v in of.items() if v is not None} for s, of in measured.items()},
            }
            print(name, len(questions), {s: {k: str(v) for k, v in of.items()} for s, of in measured.items()})
    save("evidence", result)
    with plotted("evidence", columns=2, size=(8, 3.2)) as axes:
        for axis, (name, of) in zip(axes, result.items(), strict=True):
            axis.bar(SYSTEMS, [of[s]["with earlier tickets"]["value"] for s in SYSTEMS], color="#2f6690")
            axis.set_title(f"{name}: customers with earlier tickets", fontsize=9)


if __name__ == "__main__":
    main()
