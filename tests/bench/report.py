"""Writes BENCHMARKS.md from what the benchmarks left in results/: `python -m tests.bench.report`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.bench.output import RESULTS
from tests.bench.report_answers import (
    abstain,
    answers,
    canaries,
    cost,
    evidence,
    history,
    hostile,
    retriever,
    serving,
    training,
    tuned,
)
from tests.bench.tables import table
from tests.paths import PROJECT

HEAD = """# What was measured

Made by `python -m tests.bench.report` from the benchmarks' own output; don't edit
it by hand. All figures are from one machine with {cores} cores and {memory_gb} GB
({system}, Python {python}, no GPU). Times depend on it; ratios and scores hardly do.
The public data are not part of this repository: name their folder in
`DESKHAND_TEST_DATA`. A benchmark that needs them skips, saying so, without them.
"""

SYSTEMS = {
    "hybrid": "**Deskhand, fused**",
    "dense": "vectors alone",
    "bm25": "BM25 alone",
    "peer": "LlamaIndex `PGVectorStore`, hybrid",
}


def retrieval(found: dict[str, Any]) -> str:
    rows: list[list[object]] = []
    for name, systems in found["sets"].items():
        rows.append([f"{name}, ndcg@10", *(systems.get(s, {}).get("ndcg@10", "–") for s in SYSTEMS)])
    return "\n\n".join(
        [
            "## Retrieval\n\nOne configuration for all sets, through the real store. ± is half the 95 % bootstrap "
            "interval. Constants were fitted on training parts and half of StackFAQ. The test parts were not "
            "unseen: an exploratory run had printed single-leg figures on them before the constants were fixed."
            f"{' ' + found['remark'] if 'remark' in found else ''}\n\n"
            "    python -m tests.bench.bench_retrieval",
            table(["set", *SYSTEMS.values()], rows),
        ]
    )


def tickets(found: dict[str, Any]) -> str:
    ahead = found["ahead of BM25"]
    rows = [[system, *of.values()] for system, of in found["systems"].items()]
    rows.append(["fused, ahead of BM25 (paired)", *ahead.values()])
    return (
        f"## Earlier tickets that a helper linked\n\n{found['questions']} real tickets as questions, over the whole "
        "desk and as of their own day; nothing was fitted on them.\n\n"
        "    python -m tests.bench.bench_tickets STATE/calm\n\n" + table(["", *ahead], rows)
    )


def sync(found: dict[str, Any]) -> str:
    first, second = found["first"], found["second"]
    rows: list[list[object]] = [
        ["documents + tickets", f"{first['documents']:,} + {first['tickets']:,}"],
        ["chunks", f"{first['chunks']:,}"],
        ["failures, each with its reason", first["failures"]],
        ["first sync", f"{first['seconds'] / 60:.1f} min"],
        ["second sync", f"{second['seconds']:.1f} s = {100 * second['share_of_first']:.2f} % of the first"],
        ["chunks embedded by it", second["embedded"]],
        ["memory of all processes at its peak", f"{first['peak_mb']['all']:,.0f} MB"],
        ["largest worker process", f"{first['peak_mb']['largest_worker']:,.0f} MB"],
        ["database", f"{first['database_mb']:,} MB"],
    ]
    if storm := found.get("storm"):
        rows += [
            ["killed with -9 during another first sync", ", ".join(storm["kills"])],
            ["documents and chunks compared with the calm run's", f"{storm['rows_compared']:,}"],
            ["of them different", f"**{storm['differences']}**"],
        ]
    return (
        "## Sync of a real desk\n\nA knowledge base as a file share and two years of tickets."
        f"{' ' + found['remark'] if 'remark' in found else ''}\n\n"
        "    python -m tests.bench.bench_sync STATE --storm\n\n" + table(["", ""], rows)
    )


def ingest(found: dict[str, Any]) -> str:
    def spread(key: str, digits: int) -> str:
        values = [of[key] for of in found["rounds"]]
        return f"{found['median'][key]:.{digits}f} ({min(values):.{digits}f} … {max(values):.{digits}f})"

    rows = [
        [label, spread(pipeline, 0), spread(embedder, 0), spread(ratio, 2)]
        for label, pipeline, embedder, ratio in (
            ("one process with all cores", "pipeline", "embedder", "ratio"),
            ("a process a core, as the workers", "processes", "processes_embedder", "processes_ratio"),
        )
    ]
    steps = [[step, f"{100 * share:.1f} %"] for step, share in found["profile"].items()]
    return (
        "## Ingest\n\nThe whole pipeline's chunks a second beside the embedder's own on the same texts: "
        f"{found['documents']:,} files and tickets, {found['chunks']:,} different chunks of "
        f"{found['characters'] / found['chunks']:.0f} characters. Median (least … most) of "
        f"{len(found['rounds'])} rounds; below, where one process's time goes.\n\n"
        "    python -m tests.bench.bench_ingest\n\n"
        + table(["", "pipeline, chunks/s", "embedder alone", "ratio"], rows)
        + "\n\n"
        + table(["step", "time"], steps)
    )


def latency(found: dict[str, Any]) -> str:
    rows = [
        [
            name.replace("-", ", "),
            f"{of['chunks']:,}",
            of["plan"],
            f"{of['passages_ms']['p50']} / {of['passages_ms']['p95']}",
            f"{of['passages_without_embedding_ms']['p50']} / {of['passages_without_embedding_ms']['p95']}",
            of["dense_recall@10"],
            of["bm25_overlap@10"],
        ]
        for name, of in found["results"].items()
    ]
    chunks = max(of["chunks"] for of in found["results"].values())
    head = [
        "permitted share",
        "chunks",
        "plan",
        "search p50 / p95 ms",
        "without embedding",
        "recall@10 of vectors",
        "overlap@10 of BM25",
    ]
    return (
        f"## Search at {chunks:,} chunks\n\nBy how much a person may read, at random or by topic (as permissions "
        "and customers go). Recall and overlap are against exact search."
        f"{' ' + found['remark'] if 'remark' in found else ''}\n\n"
        "    python -m tests.bench.bench_latency STATE/calm\n\n" + table(head, rows)
    )


def listing(found: dict[str, Any]) -> str:
    rows: list[list[object]] = [
        ["a plain walk that stats every file", f"{found['a plain walk, seconds']} s"],
        ["first sync, every file read", f"{found['first']['seconds']} s"],
        [
            "nothing changed",
            f"{found['unchanged']['seconds']} s, {found['unchanged']['documents']} documents",
        ],
        [
            "a thousandth changed",
            f"{found['a thousandth changed']['seconds']} s, {found['a thousandth changed']['documents']} documents",
        ],
        ["checkpoint", f"{found['checkpoint_kb']:,} kB"],
        ["memory at its peak", f"{found['peak_mb']} MB"],
    ]
    return (
        f"## A folder of {found['files']:,} small files\n\nThe `directory` connector alone, without indexing.\n\n"
        "    python -m tests.bench.bench_listing\n\n" + table(["", ""], rows)
    )


def turns(found: dict[str, Any]) -> str:
    rows = [
        [name, of["p50"], of["p95"], of["largest"]]
        for name, of in found.items()
        if isinstance(of, dict) and "p50" in of
    ]
    return (
        "## Freshness, and taking turns\n\nSeconds until a change can be found: of edits in a watched folder, and of "
        f"nine small sources of five files, alone and beside a first import of {found['files']:,} files."
        f"{' ' + found['remark'] if 'remark' in found else ''}\n\n"
        "    python -m tests.bench.bench_schedule\n\n" + table(["", "p50", "p95", "largest"], rows)
    )


def storm(found: dict[str, Any]) -> str:
    kills = ", ".join(f"{name} ×{found['kills'].count(name)}" for name in sorted(set(found["kills"])))
    rows: list[list[object]] = [
        ["killed with -9", f"{len(found['kills'])} in {found['seconds']:.0f} s: {kills}"],
        ["documents in the end", f"{found['documents']:,}"],
        ["missing or different from the server's file", f"**{found['missing or different']}**"],
        ["unknown to the server", f"**{found['unknown to the source']}**"],
        ["chunks", f"{found['chunks']:,}"],
        ["chunks embedded in batches that were committed", f"{found['embedded and committed']:,}"],
    ]
    return (
        f"## A first sync of {found['files']:,} files of a Samba server under fire\n\nA worker, the scheduler, the "
        "broker or the database is killed every few seconds until all is indexed. No more were embedded in committed "
        "batches than there are chunks, so none was embedded again that a commit had kept; fewer are told where a "
        "worker died between its commit and its line in the log.\n\n"
        "    python -m tests.bench.bench_storm\n\n" + table(["", ""], rows)
    )


def leaks(found: dict[str, Any]) -> str:
    return (
        f"## Retrievals by random people: {found['source']}\n\n20 people, 200 documents, rights changed at random "
        f"in {found['rounds']} rounds; each passage that was found is asked of the source as that person.\n\n"
        "    DESKHAND_TEST_RETRIEVALS=10000 python -m pytest -m server tests/servers/test_leaks.py\n\n"
        + table(
            ["retrievals", "passages found", "that the source refuses"],
            [[f"{found['retrievals']:,}", f"{found['passages']:,}", f"**{found['leaks']}**"]],
        )
    )


def memory(found: dict[str, Any]) -> str:
    rows = [
        [name, f"{of['peak_mb']:.0f}", f"{of['growth']:+.1f}"]
        for name, of in sorted(found["processes"].items())
    ]
    return (
        f"## Memory during an import of {found['tickets']:,} tickets\n\nEach process with its children, shared pages "
        f"counted once; {found['seconds'] / 60:.0f} min in all. Growth is that of the second half; "
        "PostgreSQL's is its buffers, which fill up to their setting (a sixteenth of the machine's memory).\n\n"
        "    python -m tests.bench.bench_memory STATE\n\n"
        + table(["process", "peak, MB", "growth, MB for 10,000 tickets"], rows)
    )


def slack(found: dict[str, Any]) -> str:
    first, acks, doubles, leaks = (found[name] for name in ("first", "acks", "doubles", "leaks"))
    seconds = "{p50:.2f} / {p95:.2f} / {p99:.2f} s"
    return (
        "## Slack\n\nSigned deliveries in process, against an API of the tests' own that takes what Slack's SDK "
        "sends. First words: questions one after the other, answered as shipped. Acknowledgements: commands at "
        "once, while answers are made. Double answers: mentions that come once to four times, as both kinds of "
        "event, over HTTP to two processes of the bot. Posts: the questions of the hostile benchmark, by random "
        "people, in a channel of strangers and one of agents.\n\n"
        "    python -m tests.bench.bench_slack\n\n"
        + table(
            ["", ""],
            [
                [f"first visible words, p50 / p95 / p99 of {first['count']}", seconds.format(**first)],
                [
                    f"acknowledgement of {acks['count']} commands at once, p50 / p95 / p99",
                    seconds.format(**acks),
                ],
                ["deliveries of mentions", f"{doubles['deliveries']:,} of {doubles['messages']:,} messages"],
                [
                    "messages answered / answered twice",
                    f"{doubles['answered']:,} / **{doubles['answered twice']}**",
                ],
                ["hostile questions, posts in channels", f"{leaks['questions']:,}, {leaks['posts']:,}"],
                ["posts with somebody else's canary", f"**{len(leaks['leaks'])}**"],
            ],
        )
    )


def web(found: dict[str, Any]) -> str:
    def times(of: dict[str, float]) -> str:
        return f"{of['p50']:.3f} / {of['p95']:.3f}" if of["count"] else "–"

    asked = [[people, *(times(of) for of in moments.values())] for people, moments in found["people"].items()]
    seen = [
        [line, "empty" if cache == "cold" else "full", f"{of['kB']['p50']:.0f}"]
        + [times(of[what]) for what in ("first paint", "first contentful paint", "list shown")]
        for line, caches in found["visits"].items()
        for cache, of in caches.items()
    ]
    sizes = [[when, of["rss"], of["pss"]] for when, of in found["memory"].items()]
    return (
        "## The web chat\n\nSeconds, p50 / p95, over HTTP against `deskhand up` with the sample company and the "
        "settings as shipped: from submitting a question until its first status, source and word, and its end. So "
        "many people ask at the same moment, each something else, and again when all have their answers."
        f"{' ' + found['remark'] if 'remark' in found else ''}\n\n    python -m tests.bench.bench_web\n\n"
        + table(["at once", "first status", "first source", "first word", "whole answer"], asked)
        + f"\n\nSomebody with {found['conversations']:,} conversations: a page of the list, and its search.\n\n"
        + table(["", "p50 / p95"], [[what, times(of)] for what, of in found["list"].items()])
        + "\n\nTheir first page in Chromium, what it weighs on the line (kB) and when it shows something.\n\n"
        + table(["line", "cache", "kB", "first paint", "first contentful paint", "the list"], seen)
        + "\n\nMemory of the web process, MB.\n\n"
        + table(["", "RSS", "PSS"], sizes)
    )


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "retrieval": retrieval,
    "tickets": tickets,
    "sync": sync,
    "ingest": ingest,
    "latency": latency,
    "answers": answers,
    "abstain": abstain,
    "serving": serving,
    "listing": listing,
    "schedule": turns,
    "storm": storm,
    "web": web,
    "leaks": leaks,
    "history-": history,
    "hostile": hostile,
    "memory": memory,
    "slack": slack,
    "training": training,
    "cost": cost,
    "evidence": evidence,
    "tuned-": tuned,
    "canaries": canaries,
    "retriever": retriever,
}


def main() -> None:
    """What has no results here is kept as it stands; a section of the same heading is replaced."""
    file = PROJECT / "BENCHMARKS.md"
    head, *present = file.read_text(encoding="utf-8").split("\n\n## ")
    parts = {part.partition("\n")[0]: f"## {part.rstrip()}" for part in present}
    for name, render in SECTIONS.items():
        for result in sorted(RESULTS.glob(f"{name}*.json")):
            found = json.loads(result.read_text())
            if "memory_gb" in found.get("machine", {}):
                head = HEAD.format(**found["machine"]).rstrip()
            part = render(found)
            parts[part.partition("\n")[0].removeprefix("## ")] = part
    file.write_text("\n\n".join([head, *parts.values()]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
