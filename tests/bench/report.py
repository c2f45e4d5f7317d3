"""Writes BENCHMARKS.md from what the benchmarks left in results/: `python -m tests.bench.report`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.bench.output import RESULTS
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


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def cell(of: dict[str, Any], measure: str) -> str:
    one = of[measure]
    return f"{one['value']:.2f} ±{(one['high'] - one['low']) / 2:.2f}" if one else "–"


def retrieval(found: dict[str, Any]) -> str:
    rows: list[list[object]] = []
    for name, systems in found["sets"].items():
        measure = "recall@10" if name == "ticket_retrieval" else "ndcg@10"
        rows.append([f"{name}, {measure}", *(systems.get(s, {}).get(measure, "–") for s in SYSTEMS)])
    return "\n\n".join(
        [
            "## Retrieval\n\nOne configuration for all sets, through the real store. ± is half the 95 % bootstrap "
            "interval. Constants were fitted on training parts and half of StackFAQ. The test parts were not "
            "unseen: an exploratory run had printed single-leg figures on them before the constants were fixed."
            f"{' ' + found['remark'] if 'remark' in found else ''}\n\n"
            "    python -m tests.bench.bench_retrieval --installation STATE/calm",
            table(["set", *SYSTEMS.values()], rows),
        ]
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


def generator(found: dict[str, Any]) -> str:
    rows = [
        [name, of["first_token_s"], of["tokens_per_s"], of["answering_peak_mb"]]
        for name, of in found["results"].items()
        if "first_token_s" in of
    ]
    prompt = found["results"]["local"]["prompt_tokens"]
    return (
        f"## Local generator\n\nSmolLM2-135M-Instruct, a prompt of {prompt:,} tokens, in the same run.\n\n"
        "    python tests/bench/bench_generator.py\n\n"
        + table(["runtime", "first token, s", "tokens/s", "peak MB"], rows)
    )


def abstain(found: dict[str, Any]) -> str:
    curve = found["declined of answerable, of unanswerable, by threshold (shipped coefficients)"]
    rows = [
        [
            threshold,
            *(
                " / ".join("–" if v is None else f"{v:.2f}" for v in of["test"][threshold])
                for of in curve.values()
            ),
        ]
        for threshold in curve["all"]["test"]
    ]
    return (
        "## Declining\n\nShare of answerable / of unanswerable questions declined, on the halves that no coefficient "
        "was fitted on (they were seen while features were chosen), by threshold "
        f"({found['shipped threshold']} is shipped). `taken-out`: the thunderbird tickets without the articles "
        "that answer them.\n\n    python -m tests.bench.bench_abstain\n\n"
        + table(["threshold", *curve], rows)
    )


def answers(found: dict[str, Any]) -> str:
    # A row a measure: there are more of them than sets, and a wide table is read by nobody.
    rows = [
        [measure.replace("_", " "), *(of.get(measure, "–") for of in found["sets"].values())]
        for measure in found["measures"]
    ]
    return (
        f"## Answers, {found['half']} half\n\nQuoted answers to public questions, each over its own passages. "
        "`asked`: what a person gets, declined questions included; `quoted`: the answerable ones, none declined. "
        "± is half the 95 % bootstrap interval.\n\n"
        f"    python -m tests.bench.bench_answers --half {found['half']}\n\n"
        + table(["", *found["sets"]], rows)
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


def history(found: dict[str, Any]) -> str:
    systems = found["systems"]

    names = {
        "documents": "documents alone",
        "tickets": "and tickets, of nobody in particular",
        "history": "and the customer known",
        "history alone": "the customer's tickets, nobody else's",
    }
    rows: list[list[object]] = []
    for needs, what in (
        ("document", "a document"),
        ("ticket", "somebody else's ticket"),
        ("history", "the history"),
    ):
        count = systems["history"][needs]["questions"]
        for measure, shown in (
            ("right source", "cites a right source"),
            ("told", "cites it, or tells it in a refusal"),
            ("gold", "holds the gold phrase"),
        ):
            rows.append(
                [f"needs {what} ({count}): {shown}", *(cell(systems[s][needs], measure) for s in names)]
            )
    count = systems["history"]["none"]["questions"]
    rows.append(
        [f"has no answer ({count}): declined", *(cell(systems[s]["none"], "declined") for s in names)]
    )
    rows.append(["seconds, p50", *(f"{systems[s]['seconds']['p50']['value']:.2f}" for s in names)])
    rows.append(["seconds, p95", *(f"{systems[s]['seconds']['p95']['value']:.2f}" for s in names)])
    return (
        f"## What history adds, {found['half']} half of the sample's questions\n\nThe sample company's 80 questions, "
        "by what an answer takes. A declined question counts as citing nothing; where the customer is known, its "
        "refusal tells the nearest of their tickets line by line, with its date and source.\n\n"
        f"    python -m tests.bench.bench_history --half {found['half']}\n\n"
        + table(["", *names.values()], rows)
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


def hostile(found: dict[str, Any]) -> str:
    ways = ", ".join(f"{name} {count}" for name, count in found["ways"].items())
    rows: list[list[object]] = [
        ["questions", f"{found['questions']:,} ({ways})"],
        ["passages retrieved for them", f"{found['passages']:,}"],
        ["canaries planted", found["canaries"]],
        ["answers, drafts, JSON or sources with a canary", f"**{found['answers with canaries']}**"],
        ["canaries in the logs of all processes", f"**{found['canaries in logs']}**"],
    ]
    return (
        "## Hostile questions\n\nQuestions for other customers' data and internal notes, in the ways people try it, "
        "to a desk of ten customers; one half answered by quoting, one by a generator that repeats all it is given.\n\n"
        "    python -m tests.bench.bench_hostile\n\n" + table(["", ""], rows)
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


def training(found: dict[str, Any]) -> str:
    names = {
        "deskhand": "**Deskhand**",
        "trl": "plain TRL, same settings",
        "trl-defaults": "plain TRL, its defaults",
    }
    rows = [
        [
            names[kind],
            f"{found['tokens_per_s'][kind]:.0f}",
            f"{found['times_faster_than'][kind]:.2f}×" if kind in found["times_faster_than"] else "",
            f"{runs[0]['loss']:.3f}",
            f"{max(run['peak_mb'] for run in runs):,}",
        ]
        for kind, runs in found["runs"].items()
    ]
    return (
        f"## Training\n\n{found['base']}, LoRA of rank 16 on all linear layers, prompts of about 1,000 tokens; medians "
        f"of {len(found['runs']['deskhand'])} runs taken in turn. TRL's defaults are float32 weights under bfloat16 "
        "autocast and gradient checkpointing. The losses show that the same is learnt.\n\n"
        "    python -m tests.bench.bench_training\n\n"
        + table(["", "tokens/s", "Deskhand is faster by", "mean loss", "peak, MB"], rows)
    )


def cost(found: dict[str, Any]) -> str:
    rows = [
        [name, f"{of['p50']['value'] * 1000:.0f}", f"{of['p95']['value'] * 1000:.0f}"]
        for name, of in found["seconds"].items()
    ]
    return (
        "## What knowing the customer costs an answer\n\n50,000 tickets; the same questions, answered by quoting.\n\n"
        "    python -m tests.bench.bench_history_cost STATE\n\n" + table(["", "p50, ms", "p95, ms"], rows)
    )


def evidence(found: dict[str, Any]) -> str:
    rows: list[list[object]] = []
    for name, what in (
        ("article", "the article a helper linked is in the evidence, or named there"),
        ("nearest", "token F1 of the accepted solution and the nearest passage"),
    ):
        of = found[name]
        for group in ("all", "with earlier tickets"):
            count = of["questions"] if group == "all" else of["with earlier tickets"]
            who = "" if group == "all" else ", of customers with an earlier ticket"
            cells = [cell(of[system], group) for system in ("documents", "tickets", "history")]
            rows.append([f"{what}{who} ({count})", *cells])
    rows.append(
        [
            "seconds, p95",
            *(f"{found['article'][s]['p95']['value']:.2f}" for s in ("documents", "tickets", "history")),
        ]
    )
    return (
        "## Evidence of real answers, with and without tickets and history\n\nThunderbird's tickets as questions, as "
        "of their own day; twelve passages each. With the history known, of strangers' tickets only agents' words are "
        "evidence.\n\n    python -m tests.bench.bench_evidence STATE/calm\n\n"
        + table(["", "documents alone", "and all tickets", "and the customer known"], rows)
    )


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "retrieval": retrieval,
    "sync": sync,
    "ingest": ingest,
    "latency": latency,
    "answers": answers,
    "abstain": abstain,
    "generator": generator,
    "listing": listing,
    "schedule": turns,
    "storm": storm,
    "leaks": leaks,
    "history-": history,
    "hostile": hostile,
    "memory": memory,
    "training": training,
    "cost": cost,
    "evidence": evidence,
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
