"""The local generator beside plain transformers and llama.cpp: alone, and with eight who ask at once.

    python -m tests.bench.bench_serving [--gguf tuned/generator-1/model.gguf] [--python /path/with/extras/python]

Every runtime reads the same prompts of about 1,200 tokens in a process of its own, one
after the other, with the same weights and all cores, and writes 64 tokens. The prompts differ
from their first words on, so nothing can be reused, but for `same sources again`, which is
what a follow-up costs. Then eight ask at the same moment, each something else: all together,
and for Deskhand also one after the other, in the order they came. Deskhand then answers on,
to see whether its memory grows, while another thread of the asker's process measures how long
it is kept from running.

transformers and llama.cpp (`xllamacpp`) come with the extra [tune] and by hand; what is absent
in `--python` is skipped, saying so. Writes results/serving.json and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from tests.bench.output import plotted, save
from tests.paths import MODELS, PROJECT

TOKENS = 64
ASKERS = 8
SOAK = 200
"""answers after which memory is looked at again"""
WORDS = (
    "account alarm archive attachment backup button calendar certificate client column contact dialog document "
    "draft error export filter folder font group header import inbox invoice key label ledger license list mailbox "
    "menu message network order outbox page panel password printer profile quota receipt report router rule "
    "schedule server session setting signature status storage sync tab template ticket token update user version"
)
SYSTEM = "You answer questions for a support desk from the sources the user gives, and from nothing else."
NAMES = {
    "local": "Deskhand (OpenVINO, 8 bits)",
    "transformers-bf16": "transformers, bf16",
    "transformers-fp32": "transformers, fp32",
    "llama.cpp": "llama.cpp",
}
NEEDS = {"transformers": ("torch", "transformers", "gguf"), "llama.cpp": ("xllamacpp",)}

Marks = Iterator[tuple[float, int]]
"""(seconds since it was asked, tokens so far), at each piece of an answer"""


def prompts(count: int, seed: int = 7) -> list[str]:
    """Made-up sources, a new draw for each; ~1,200 tokens with the chat format around them."""
    chance = random.Random(seed)
    made: list[str] = []
    for _ in range(count):
        lines = [
            f"The {' '.join(chance.sample(WORDS.split(), 8))} of release {chance.randint(2, 99)} opens the "
            f"{chance.choice(WORDS.split())} settings."
            for _ in range(60)
        ]
        made.append(
            "\n".join(lines) + "\n\nQuestion: Explain at length, in many sentences, what each release does."
        )
    return made


class Local:
    """Deskhand's own."""

    together = True

    def __init__(self, gguf: Path) -> None:
        from assistant.generate.local import LocalChat

        self.model = LocalChat(gguf=gguf, prompt_tokens=4_000)
        self.model.prepare()  # where that was never done; not what is measured
        started = time.monotonic()
        self.model.load()
        self.load_s = time.monotonic() - started
        self.processes = [psutil.Process(), *psutil.Process().children()]

    def messages(self, text: str) -> list[Any]:
        from langchain_core.messages import HumanMessage, SystemMessage

        return [SystemMessage(SYSTEM), HumanMessage(text)]

    def tokens(self, text: str) -> int:
        return self.model.get_num_tokens(self.model.prompt(self.messages(text)))

    def answer(self, text: str) -> Marks:
        start, said = time.monotonic(), ""
        for chunk in self.model.stream(self.messages(text), max_tokens=TOKENS):
            if chunk.text:
                said += chunk.text
                yield time.monotonic() - start, self.model.get_num_tokens(said)


class Transformers:
    """As anybody would write it."""

    together = False

    def __init__(self, gguf: Path, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        with tempfile.TemporaryDirectory() as folder:
            # Beside an adapter it would look for the base on a hub.
            (Path(folder) / gguf.name).symlink_to(gguf.resolve())
            started = time.monotonic()
            self.tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
            self.model = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=gguf.name, dtype=getattr(torch, dtype)
            ).eval()
            self.load_s = time.monotonic() - started
        self.processes = [psutil.Process()]

    def encode(self, text: str) -> Any:
        chat = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        formatted = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return self.tokenizer(formatted, return_tensors="pt", add_special_tokens=False)

    def tokens(self, text: str) -> int:
        return int(self.encode(text).input_ids.shape[1])

    def answer(self, text: str) -> Marks:
        import torch

        seen: list[tuple[float, int]] = []
        start = time.monotonic()

        class Streamer:
            """transformers hands it the prompt first, then every token."""

            count = 0

            def put(self, value: Any) -> None:
                if self.count:
                    seen.append((time.monotonic() - start, self.count))
                self.count += 1

            def end(self) -> None: ...

        with torch.inference_mode():
            self.model.generate(
                **self.encode(text),
                max_new_tokens=TOKENS,
                min_new_tokens=TOKENS,
                do_sample=False,
                streamer=Streamer(),
            )
        return iter(seen)


class LlamaCpp:
    """llama.cpp's server, in the same process and without HTTP."""

    together = True

    def __init__(self, gguf: Path) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(gguf)
        parameters.n_parallel = ASKERS
        parameters.n_ctx = 2_048 * ASKERS
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = os.cpu_count() or 1
        parameters.warmup = True
        started = time.monotonic()
        self.server = xllamacpp.Server(parameters)
        self.load_s = time.monotonic() - started
        self.processes = [psutil.Process()]

    def prompt(self, text: str) -> str:
        return f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"

    def tokens(self, text: str) -> int:
        asked = {"prompt": self.prompt(text), "max_tokens": 1}
        return int(self.server.handle_completions(asked)["usage"]["prompt_tokens"])

    def answer(self, text: str) -> Marks:
        seen: list[tuple[float, int]] = []
        start = time.monotonic()

        def piece(chunk: Any) -> None:
            if chunk["choices"] and chunk["choices"][0]["text"]:
                seen.append((time.monotonic() - start, len(seen) + 1))

        asked = {"prompt": self.prompt(text), "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
        self.server.handle_completions({**asked, "stream": True}, piece)
        return iter(seen)


def alone(runtime: Any, texts: list[str]) -> dict[str, Any]:
    first: list[float] = []
    speed: list[float] = []
    for text in texts:
        marks = list(runtime.answer(text))
        first.append(marks[0][0])
        speed.append((marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0]))
    return {
        "first_token_s": round(statistics.median(first), 3),
        "tokens_per_s": round(statistics.median(speed), 1),
        "first_token_s_all": [round(value, 3) for value in first],
        "tokens_per_s_all": [round(value, 1) for value in speed],
    }


def at_once(runtime: Any, texts: list[str], *, askers: int) -> dict[str, Any]:
    """All ask at the same moment; `askers` are served side by side, the others when one is done."""
    began = time.monotonic()

    def ask(text: str) -> tuple[float, int]:
        waited = time.monotonic() - began
        marks = list(runtime.answer(text))
        return waited + marks[0][0], marks[-1][1]

    with ThreadPoolExecutor(askers) as pool:
        found = list(pool.map(ask, texts))
    seconds = time.monotonic() - began
    first = sorted(waited for waited, _ in found)
    return {
        "tokens_per_s": round(sum(count for _, count in found) / seconds, 1),
        "seconds": round(seconds, 2),
        "first_token_s_p50": round(statistics.median(first), 2),
        "first_token_s_p95": round(first[int(0.95 * (len(first) - 1))], 2),
        "first_token_s_last": round(first[-1], 2),
    }


def soak(runtime: Any) -> dict[str, Any]:
    """Memory before and after many answers, and how long another thread was kept from running meanwhile."""
    longest, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal longest
        while not done.wait(0.001):
            before = time.perf_counter()
            time.sleep(0)
            longest = max(longest, time.perf_counter() - before)

    for text in prompts(ASKERS, seed=1):
        list(runtime.answer(text))
    before = resident(runtime)
    watching = threading.Thread(target=watch)
    watching.start()
    with ThreadPoolExecutor(ASKERS) as pool:
        for _ in pool.map(lambda text: list(runtime.answer(text)), prompts(SOAK, seed=2)):
            pass
    done.set()
    watching.join()
    return {
        "answers": SOAK,
        "mb_before": round(before),
        "mb_after": round(resident(runtime)),
        "other_thread_kept_s": round(longest, 3),
    }


def resident(runtime: Any) -> float:
    """Memory of its processes in MB, shared pages counted once."""
    return sum(process.memory_full_info().pss for process in runtime.processes) / 2**20


def worker(kind: str, gguf: Path, runs: int, *, long: bool) -> dict[str, Any]:
    family = kind.partition("-")[0] if kind != "llama.cpp" else kind
    if missing := [name for name in NEEDS.get(family, ()) if find_spec(name) is None]:
        return {"skipped": f"{', '.join(missing)} not installed"}
    if family == "transformers":
        runtime: Any = Transformers(gguf, {"bf16": "bfloat16", "fp32": "float32"}[kind.rpartition("-")[2]])
    else:
        runtime = Local(gguf) if kind == "local" else LlamaCpp(gguf)
    texts = prompts(runs)
    list(runtime.answer("Say hello."))
    result = {"load_s": round(runtime.load_s, 2), "prompt_tokens": runtime.tokens(texts[0])}
    result |= alone(runtime, texts)
    again = texts[-1].rpartition("Question:")[0] + "Question: And which of them is the newest?"
    result["same_sources_again_s"] = round(next(iter(runtime.answer(again)))[0], 3)
    if runtime.together:
        result["together"] = at_once(runtime, prompts(ASKERS, seed=11), askers=ASKERS)
    if kind == "local":
        result["one_after_the_other"] = at_once(runtime, prompts(ASKERS, seed=12), askers=1)
    result["mb"] = round(resident(runtime))
    if kind == "local" and long:
        result["soak"] = soak(runtime)
    return result


def plot(results: dict[str, Any]) -> None:
    done = [kind for kind in NAMES if "first_token_s" in results.get(kind, {})]
    labels = [NAMES[kind] for kind in done]
    many = [
        (f"{NAMES[kind]}: {name.replace('_', ' ')}", results[kind][name])
        for kind in done
        for name in ("together", "one_after_the_other")
        if name in results[kind]
    ]
    ways = [name for name, _ in many]
    panels = [
        ("alone: seconds to the first token", labels, [results[kind]["first_token_s"] for kind in done]),
        ("alone: tokens a second after it", labels, [results[kind]["tokens_per_s"] for kind in done]),
        (f"{ASKERS} at once: p95 of the first token, s", ways, [f["first_token_s_p95"] for _, f in many]),
        (f"{ASKERS} at once: tokens a second in all", ways, [f["tokens_per_s"] for _, f in many]),
    ]
    with plotted("serving", columns=len(panels), size=(22, 3.2)) as axes:
        for axis, (title, names, values) in zip(axes, panels, strict=True):
            axis.bar_label(axis.barh(names, values, color="#3b6ea5"), padding=3)
            axis.set_title(title, fontsize="medium")
            axis.margins(x=0.2)
            axis.invert_yaxis()
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].figure.tight_layout()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--gguf", type=Path, help="merged weights of a version; default: the plain model")
    parser.add_argument("--python", default=sys.executable, help="one that has what is compared with")
    parser.add_argument("--short", action="store_true", help="without the many answers that show memory")
    parser.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.worker:
        print(json.dumps(worker(given.worker, given.gguf, given.runs, long=not given.short)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        gguf = given.gguf or MODELS / "smollm2-135m-instruct" / "model.gguf"
        if given.gguf is None:  # the same 8 bits for all
            from assistant.generate.gguf import rewrite

            gguf = Path(scratch) / "model.gguf"
            rewrite(MODELS / "smollm2-135m-instruct" / "model.gguf", gguf)
        results: dict[str, Any] = {}
        for kind in NAMES:
            python = sys.executable if kind == "local" else given.python
            command = [python, "-m", "tests.bench.bench_serving", "--worker", kind, "--gguf", str(gguf)]
            command += ["--runs", str(given.runs), *(["--short"] if given.short else [])]
            env = {**os.environ, "PYTHONPATH": str(PROJECT)}
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
            results[kind] = json.loads(run.stdout.splitlines()[-1])
            print(f"{NAMES[kind]}: {results[kind]}", flush=True)
    load = [round(x, 1) for x in os.getloadavg()]
    save("serving", {"new_tokens": TOKENS, "runs": given.runs, "load": load, "results": results})
    plot(results)


if __name__ == "__main__":
    main()
