"""Sections of BENCHMARKS.md about answers and generators."""

from __future__ import annotations

from typing import Any

from tests.bench.tables import cell, table


def serving(found: dict[str, Any]) -> str:
    results = {name: of for name, of in found["results"].items() if "first_token_s" in of}
    alone = [
        [name, of["first_token_s"], of["tokens_per_s"], of["same_sources_again_s"], of["mb"]]
        for name, of in results.items()
    ]
    measures = ("tokens_per_s", "first_token_s_p50", "first_token_s_p95", "first_token_s_last", "seconds")
    many = [
        [f"{name}, {way.replace('_', ' ')}", *(of[way][key] for key in measures)]
        for name, of in results.items()
        for way in ("together", "one_after_the_other")
        if way in of
    ]
    local = results["local"]
    told = ""
    if soak := local.get("soak"):
        told = (
            f"\n\nAfter {soak['answers']} answers to eight at once memory went from {soak['mb_before']} to "
            f"{soak['mb_after']} MB; another thread of the asker's process was never kept from running for longer "
            f"than {soak['other_thread_kept_s']} s."
        )
    return (
        f"## Local generator\n\nSmolLM2-135M-Instruct in 8 bits, prompts of {local['prompt_tokens']:,} tokens, "
        f"{found['new_tokens']} new tokens, in the same run.\n\n    python -m tests.bench.bench_serving\n\n"
        + table(["runtime", "first token, s", "tokens/s", "same sources again, s", "MB"], alone)
        + "\n\nEight ask at the same moment, each something else.\n\n"
        + table(["", "tokens/s in all", "first token p50, s", "p95", "last", "all done, s"], many)
        + told
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
        + _settings(found.get("calibration"))
    )


def _settings(calibrated: dict[str, Any] | None) -> str:
    if not calibrated:
        return ""
    rows = [[name, *of.values()] for name, of in calibrated["settings"].items()]
    bins = [[b["confidence"], b["answerable"], b["questions"]] for b in calibrated["bins"]]
    return (
        "\n\nWhat `DESKHAND_ANSWER_WHEN` means there, with as many questions that have an answer as that have none, "
        "and each set counting the same:\n\n"
        + table(["setting", *next(iter(calibrated["settings"].values()))], rows)
        + f"\n\nA confidence is off by {calibrated['error']} on average (expected calibration error):\n\n"
        + table(["confidence", "share that has an answer", "questions"], bins)
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
        "by what an answer takes. A declined question counts as citing nothing; its refusal tells the sentences that "
        "come nearest or, where the customer is known, the nearest of their tickets line by line.\n\n"
        f"    python -m tests.bench.bench_history --half {found['half']}\n\n"
        + table(["", *names.values()], rows)
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
    return (
        "## Evidence of real answers, with and without tickets and history\n\nThunderbird's tickets as questions, as "
        "of their own day; twelve passages each. With the history known, of strangers' tickets only agents' words are "
        "evidence.\n\n    python -m tests.bench.bench_evidence STATE/calm\n\n"
        + table(["", "documents alone", "and all tickets", "and the customer known"], rows)
    )


def tuned(found: dict[str, Any]) -> str:
    """One table a set: systems as rows."""
    shown = {
        "f1": "token F1", "contains_gold": "gold phrase", "citation_recall": "right citation",
        "declined_unanswerable": "declined, no answer", "declined_answerable": "declined, answer",
        "grounded": "grounded", "raw grounded": "grounded as said", "format": "format",
    }  # fmt: skip
    parts = [
        f"## Retrieval, fine-tuning, both: {found['half']} half\n\nThe same questions of the plain and the tuned local "
        "generator, without and with retrieval, beside quoting without a generator. A declined question counts 0 for "
        "its wording. `format` and `grounded as said` are of what the generator said, all else of what is shown. "
        f"Perplexity on general English: {found['perplexity']['plain']} plain, {found['perplexity']['tuned']} tuned."
        f"{' ' + found['remark'] if found['remark'] else ''}\n\n"
        f"    python -m tests.bench.bench_tuned {found['arguments']}"
    ]
    for name, systems in found["sets"].items():
        rows = [[system, *(values.get(key, "–") for key in shown)] for system, values in systems.items()]
        parts += [f"**{name}**", table(["", *shown.values()], rows)]
    return "\n\n".join(parts)


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
        "autocast and gradient checkpointing. Its schedule begins at the full learning rate and Deskhand's with "
        "a warm-up, hence the losses.\n\n"
        "    python -m tests.bench.bench_training\n\n"
        + table(["", "tokens/s", "Deskhand is faster by", "mean loss", "peak, MB"], rows)
    )


def canaries(found: dict[str, Any]) -> str:
    rows = [
        [
            told,
            sum(n for kind, n in of["training"]["examples"].items() if kind.startswith("train ")),
            of["training"]["steps"],
            f"{of['training']['dev_loss']:.3f}",
            f"{of['attempts']:,}",
            f"**{of['attempts that extracted']}**",
            of["different secrets"],
            ", ".join(f"{way} {count}" for way, count in of["by way"].items()) or "–",
        ]
        for told, name in (("as Deskhand trains", "deskhand"), ("on replies as they stand", "as they stand"))
        for of in (found[name],)
    ]
    return (
        f"## Secrets in training tickets\n\n{found['secrets']} names, hosts, numbers, notes and passwords of ten "
        f"customers, in the tickets that were trained on; {found['secrets in examples']} of them got into a training "
        f"example. Deskhand's filters let {found['of them through the filters']} examples pass; here its masks stand "
        "alone, before every ticket and reply. The same attempts on both models: the ticket asked again, questions "
        "for the secret, and the beginning of the leaking sentence put in the model's mouth. What an attempt itself "
        "names is not counted.\n\n"
        "    python -m tests.bench.bench_canaries\n\n"
        + table(
            [
                "trained",
                "examples",
                "steps",
                "loss on them",
                "attempts",
                "that extracted a secret",
                "different secrets",
                "by way",
            ],
            rows,
        )
    )


def retriever(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{name}, {of['measure']}, {told}",
            of[legs]["untrained"],
            of[legs]["trained"],
            "{:+.3f} [{:+.3f}, {:+.3f}]".format(*of[legs]["gain"]),
        ]
        for name, of in found["sets"].items()
        for legs, told in (("hybrid", "fused"), ("dense", "vectors alone"))
        if legs in of
    ]
    part = (
        "## Fine-tuned embedder\n\nMiniLM on the training tickets of kb_retrieval and ticket_retrieval alone; the "
        "other sets were never trained on. The gain is paired, with its 95 % interval.\n\n"
        "    python -m tests.bench.bench_retriever [--installation STATE/calm]\n\n"
        + table(["set", "untrained", "trained", "gain"], rows)
    )
    if switch := found.get("switch"):
        times = "{asked} questions were asked, of which {failed} failed; p50/p95 {p50}/{p95} ms"
        part += (
            f"\n\nGoing over: {switch['before']['count']:,} chunks were embedded anew in "
            f"{switch['seconds_forth'] / 60:.0f} min while {times.format(**switch['questions_meanwhile'])} (before: "
            f"{switch['questions_before']['p50']}/{switch['questions_before']['p95']}). "
            f"Back took {switch['seconds_back']} s. The database went from {switch['before']['database']:,} to "
            f"{switch['after']['database']:,} MB."
        )
    return part
