"""Time to first token, decoding speed and memory: the local generator beside plain transformers.

    python tests/bench/bench_generator.py [--runs 5] [--transformers-python /path/to/python]

Every runtime reads the same prompts of about 1,200 tokens in a process of its own,
one after the other, and writes 64 tokens. The prompts differ from their first
words on, so nothing can be reused, but for the line `same sources again`, which is
what a follow-up question costs. transformers needs the [tune] extra; where torch or
transformers is absent that part is skipped and the reason recorded. Writes
results/generator.json and, with matplotlib, results/generator.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
TOKENS = 64
WORDS = (
    "account alarm archive attachment backup button calendar certificate client column contact dialog document "
    "draft error export filter folder font group header import inbox invoice key label ledger license list mailbox "
    "menu message network order outbox page panel password printer profile quota receipt report router rule "
    "schedule server session setting signature status storage sync tab template ticket token update user version"
)
SYSTEM = "You answer questions for a support desk from the sources the user gives, and from nothing else."
NAMES = {
    "local": "deskhand local (Q8_0, OpenVINO)",
    "transformers-bf16": "transformers bf16",
    "transformers-fp32": "transformers fp32",
}


def prompts(runs: int) -> list[str]:
    """Made-up sources, a new draw for each run; ~1,200 tokens with the chat format around them."""
    chance = random.Random(7)
    made: list[str] = []
    for _ in range(runs):
        lines = [
            f"The {' '.join(chance.sample(WORDS.split(), 8))} of release {chance.randint(2, 99)} opens the "
            f"{chance.choice(WORDS.split())} settings."
            for _ in range(60)
        ]
        made.append(
            "\n".join(lines) + "\n\nQuestion: Explain at length, in many sentences, what each release does."
        )
    return made


def high_water() -> float:
    """Peak resident memory of this process in MB since it started or since `reset_high_water`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def reset_high_water() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(generate: Any, texts: list[str]) -> dict[str, Any]:
    """`generate(text)` yields (seconds since the start, tokens so far)."""
    first: list[float] = []
    speed: list[float] = []
    for text in texts:
        marks = list(generate(text))
        first.append(marks[0][0])
        speed.append((marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0]))
    return {
        "first_token_s": round(statistics.median(first), 3),
        "tokens_per_s": round(statistics.median(speed), 1),
        "first_token_s_all": [round(value, 3) for value in first],
        "tokens_per_s_all": [round(value, 1) for value in speed],
    }


def run_local(gguf: Path, runs: int) -> dict[str, Any]:
    from langchain_core.messages import HumanMessage, SystemMessage

    from assistant.generate.local import LocalChat

    LocalChat(gguf=gguf).pipeline()  # prepares the weights where that was never done; not what is measured
    started = time.monotonic()
    model = LocalChat(gguf=gguf, prompt_tokens=4_000)
    model.pipeline()
    result: dict[str, Any] = {"load_s": round(time.monotonic() - started, 2)}

    def generate(text: str):
        start, said = time.monotonic(), ""
        for chunk in model.stream([SystemMessage(SYSTEM), HumanMessage(text)], max_tokens=TOKENS):
            said += chunk.text
            yield time.monotonic() - start, model.get_num_tokens(said)

    texts = prompts(runs)
    list(generate("Say hello."))
    reset_high_water()
    result["prompt_tokens"] = model.get_num_tokens(
        model.prompt([SystemMessage(SYSTEM), HumanMessage(texts[0])])
    )
    result |= measure(generate, texts)
    again = texts[-1].rpartition("Question:")[0] + "Question: And which of them is the newest?"
    result["same_sources_again_s"] = round(next(generate(again))[0], 3)
    return result


def run_transformers(gguf: Path, runs: int, dtype: str) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=getattr(torch, dtype)
    ).eval()
    result: dict[str, Any] = {"load_s": round(time.monotonic() - started, 2), "torch": torch.__version__}

    class Marks:
        """A streamer: transformers hands it the prompt first, then every token."""

        def __init__(self) -> None:
            self.start, self.seen, self.marks = time.monotonic(), 0, []

        def put(self, value: Any) -> None:
            if self.seen:
                self.marks.append((time.monotonic() - self.start, self.seen))
            self.seen += 1

        def end(self) -> None:
            pass

    def encode(text: str) -> Any:
        chat = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        formatted = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return tokenizer(formatted, return_tensors="pt", add_special_tokens=False)

    def generate(text: str):
        marks = Marks()
        with torch.inference_mode():
            model.generate(
                **encode(text), max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, streamer=marks
            )
        return marks.marks

    texts = prompts(runs)
    generate("Say hello.")
    reset_high_water()
    result["prompt_tokens"] = int(encode(texts[0]).input_ids.shape[1])
    return result | measure(generate, texts)


def worker(kind: str, gguf: Path, runs: int) -> dict[str, Any]:
    if kind == "local":
        result = run_local(gguf, runs)
    else:
        missing = [name for name in ("torch", "transformers", "gguf") if find_spec(name) is None]
        if missing:
            return {"skipped": f"{', '.join(missing)} not installed: pip install 'deskhand[tune]'"}
        result = run_transformers(
            gguf, runs, {"bf16": "bfloat16", "fp32": "float32"}[kind.rpartition("-")[2]]
        )
    return result | {"answering_peak_mb": round(high_water())}


def plot(results: dict[str, Any], place: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    done = [kind for kind in NAMES if "first_token_s" in results.get(kind, {})]
    measures = [
        ("first_token_s", "seconds to the first token\n(less is better)"),
        ("tokens_per_s", "tokens a second after it\n(more is better)"),
        ("answering_peak_mb", "peak memory while answering, MB\n(less is better)"),
    ]
    figure, axes = plt.subplots(1, len(measures), figsize=(12, 3.2), layout="constrained", sharey=True)
    for axis, (key, label) in zip(axes, measures, strict=True):
        bars = axis.barh(
            [NAMES[kind] for kind in done], [results[kind][key] for kind in done], color="#3b6ea5"
        )
        axis.bar_label(bars, padding=3)
        axis.set_xlabel(label)
        axis.margins(x=0.2)
        axis.invert_yaxis() if axis is axes[0] else None
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"SmolLM2-135M-Instruct, prompt of {results['local']['prompt_tokens']:,} tokens")
    figure.savefig(place, dpi=150)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--gguf", type=Path, help="default: the configured local model")
    arguments.add_argument("--transformers-python", default=sys.executable)
    arguments.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    arguments.add_argument("--plot", action="store_true", help="only draw what results/generator.json holds")
    given = arguments.parse_args()
    if given.plot:
        plot(json.loads((RESULTS / "generator.json").read_text())["results"], RESULTS / "generator.png")
        return
    if given.worker:
        print(json.dumps(worker(given.worker, given.gguf, given.runs)))
        return
    if given.gguf is None:
        from assistant import weights
        from assistant.config import Settings

        models = os.environ.get("DESKHAND_MODELS")
        settings = Settings(models=Path(models) if models else None)
        given.gguf = weights.path(settings.local_model, settings)
    results: dict[str, Any] = {}
    for kind in NAMES:
        python = sys.executable if kind == "local" else given.transformers_python
        command = [python, __file__, "--worker", kind, "--gguf", str(given.gguf), "--runs", str(given.runs)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[kind] = json.loads(run.stdout.splitlines()[-1])
        print(f"{NAMES[kind]}: {results[kind]}")
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load": [round(x, 1) for x in os.getloadavg()],
    }
    report = {"machine": machine, "new_tokens": TOKENS, "runs": given.runs, "results": results}
    (RESULTS / "generator.json").write_text(json.dumps(report, indent=2) + "\n")
    drawn = subprocess.run([given.transformers_python, __file__, "--plot"], check=False)
    if drawn.returncode:
        print("No plot was drawn (is matplotlib installed?); the figures are in generator.json.")


if __name__ == "__main__":
    main()
