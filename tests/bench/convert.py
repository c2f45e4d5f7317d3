"""Public question sets as files for `deskhand eval answers`.

    python -m tests.bench.convert FOLDER

writes clapnq.jsonl, mtragun.jsonl, qa_solved.jsonl (accepted solutions that read as an
answer by themselves) and out_of_scope.jsonl (no answer in the Thunderbird sources) from
the folder of test data. The last two ask what is synced: a directory source on
thunderbird/fileshare and the tickets. With --training it writes the halves of public sets
that `deskhand tune dataset` may learn from.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

from tests.paths import DATA

Line = dict[str, Any]
SECOND = dt.timedelta(seconds=1)


def clapnq(folder: Path) -> Iterator[Line]:
    """One passage a question; half of them don't hold the answer."""
    for row in _rows(folder / "clapnq/dev_full.jsonl"):
        answers = [o["answer"] for o in row["output"] if o["answer"]]
        passages = [
            {"id": f"p{n}", "title": p["title"], "text": p["text"]} for n, p in enumerate(row["passages"])
        ]
        yield {
            "id": row["id"],
            "question": row["input"],
            "answers": answers,
            "answerable": bool(answers),
            "passages": passages,
            "relevant": ["p0"] if answers and len(passages) == 1 else [],
            "needs": "answerable" if answers else "unanswerable",
        }


def mtragun(folder: Path) -> Iterator[Line]:
    """Conversations; the reference passages are the corpus. Partly answerable and conversational turns are left out."""
    for row in _rows(folder / "mtragun/tasks_full.jsonl"):
        kind = row["answerability"][0].lower()
        if kind not in {"answerable", "unanswerable", "underspecified"} or not row["contexts"]:
            continue
        *before, last = row["input"]
        roles = {"user": "user", "agent": "assistant"}
        yield {
            "id": row["task_id"],
            "question": last["text"],
            "history": [{"role": roles[t["speaker"]], "content": t["text"]} for t in before],
            "answers": [t["text"] for t in row["targets"]] if kind == "answerable" else [],
            "answerable": kind == "answerable",
            "passages": [
                {"id": c["document_id"], "title": c.get("title") or "", "text": c["text"]}
                for c in row["contexts"]
            ],
            "needs": kind,
            "metadata": {"group": row["task_id"].partition("<::>")[0]},
        }


def qa_solved(folder: Path, *, split: str = "dev") -> Iterator[Line]:
    """Tickets with their accepted solution, asked as of the moment they were written.

    That leaves out files that state no date, which are as old as their copy: it measures mostly
    answering from past tickets.
    """
    place = folder / "thunderbird/bench/qa_solved"
    clean = set((place / f"{split}_clean_ids.txt").read_text().split())
    for row in _rows(place / f"{split}.jsonl"):
        if row["id"] in clean:
            yield {
                "id": row["id"],
                "question": f"{row['subject']}\n{row['question']}",
                "answers": [row["solution"]],
                "answerable": True,
                # A second before, so that the ticket does not find itself.
                "as_of": (dt.datetime.fromisoformat(_iso(row["created"])) - SECOND).isoformat(),
            }


def out_of_scope(folder: Path) -> Iterator[Line]:
    """Questions about another product: to be declined."""
    for row in _rows(folder / "firefox_questions/out_of_scope_500.jsonl"):
        text = " ".join(unescape(re.sub(r"<[^>]+>", " ", row["html"])).split())
        yield {
            "id": row["id"],
            "question": f"{row['subject']}\n{text}",
            "answers": [],
            "answerable": False,
            "needs": "out of scope",
        }


def stackfaq(folder: Path) -> Iterator[Line]:
    """Paraphrases of FAQ questions with the answers of their thread; the first answer is the best voted one."""
    corpus = {row["_id"]: row for row in _rows(folder / "stackfaq/corpus.jsonl")}
    threads: dict[int, list[Line]] = defaultdict(list)
    for row in corpus.values():
        threads[row["metadata"]["thread"]].append(row)
    for row in _rows(folder / "stackfaq/queries.jsonl"):
        known = threads[row["metadata"]["thread"]][:3]
        yield {
            "id": row["_id"],
            "question": row["text"],
            "answerable": True,
            "passages": [{"id": d["_id"], "title": d["title"], "text": d["text"]} for d in known],
            "relevant": [d["_id"] for d in known],
            "metadata": {"group": f"thread {row['metadata']['thread']}"},
        }


def knowledge_base(folder: Path) -> Iterator[Line]:
    """Tickets of the training part with the articles that helpers linked."""
    place = folder / "thunderbird/bench/kb_retrieval"
    corpus = {row["_id"]: row for row in _rows(place / "corpus.jsonl")}
    linked: dict[str, list[str]] = defaultdict(list)
    for line in (place / "qrels/train.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        ticket, article, _ = line.split("\t")
        linked[ticket].append(article)
    for row in _rows(place / "queries.jsonl"):
        if articles := [corpus[name] for name in linked.get(row["_id"], ()) if name in corpus]:
            yield {
                "id": row["_id"],
                "question": " ".join(row["text"].split()[:120]),
                "answerable": True,
                "passages": [{"id": d["_id"], "title": d["title"], "text": d["text"]} for d in articles],
                "relevant": [d["_id"] for d in articles],
                "metadata": {"group": articles[0]["_id"]},
            }


def training(folder: Path, *, data: Path = DATA) -> dict[str, int]:
    """Files for `deskhand tune dataset`: of each public set the half that nothing is judged by.

    By the SHA-256 of what groups its questions (a thread, an article), else of a question's id: even ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for made in (clapnq, mtragun, stackfaq, knowledge_base):
        lines = [line for line in made(data) if trained_on(line)]
        _write(folder / f"{made.__name__}-training.jsonl", lines)
        counts[f"{made.__name__}-training"] = len(lines)
    return counts


SETS = {"clapnq": clapnq, "mtragun": mtragun, "qa_solved": qa_solved, "out_of_scope": out_of_scope}


def write(folder: Path, *, data: Path = DATA) -> dict[str, int]:
    """One file a set; returns how many questions each has."""
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for name, lines in SETS.items():
        found = list(lines(data))
        _write(folder / f"{name}.jsonl", found)
        counts[name] = len(found)
    return counts


def _write(file: Path, lines: Iterable[Line]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    file.write_text(text, encoding="utf-8")


def trained_on(line: Line) -> bool:
    """Whether it is in the half that `training` writes."""
    return draw(line.get("metadata", {}).get("group") or line["id"]) % 2 == 0


def draw(name: str) -> int:
    """A lot that depends on nothing but a name."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)


def _rows(file: Path) -> Iterator[Line]:
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def _iso(date: str) -> str:
    return re.sub(r" (?=[+-]\d{4}$)", "", date)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--training", action="store_true", help="the halves to train with instead")
    options = parser.parse_args()
    made = training(options.folder) if options.training else write(options.folder)
    for name, count in made.items():
        print(f"{count:5} {name}")
