"""Retrieval, fine-tuning, both or neither: the same questions asked of the plain and of a tuned generator.

    python -m tests.bench.bench_tuned [FOLDER] [--half development] [--limit N] [--thunderbird STATE]
        [--retriever FOLDER] [--remark TEXT]

Sets, none of which was trained on: the other halves of CLAPNQ and MTRAG (their passages are the
corpus); the sample company, whose kinds of documents and product no training set has; with
`--thunderbird` accepted solutions, asked as of their day of the installation that
`bench_sync` left in STATE. Each is asked

- without retrieval, of both generators: what is in the weights;
- with retrieval, of both: the engine declines, asks, verifies each sentence and weighs a "no", as it does live;
- by quoting, without a generator: best passage, best sentences, the extractive baseline;
- of the tuned one and by quoting with `--retriever`, an embedder that was trained, where the corpus is in memory.

Perplexity on abstracts of SciFact, which neither was trained on, tells what was forgotten. FOLDER is a
version's; by default it is the adapter that comes with Deskhand. `format` and `raw grounded` are of what the
generator said, all else of what is shown. Eight are asked at once, so no times are told. Writes
results/tuned-<half>.json and .png.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from llama_index.core.base.base_retriever import BaseRetriever

from assistant.answer import cite
from assistant.answer.engine import DeskQueryEngine, Strategy
from assistant.answer.prompt import DECLINED
from assistant.app import Assistant
from assistant.config import Settings
from assistant.evaluate import marks
from assistant.evaluate.memory import MemoryRetriever
from assistant.evaluate.questions import Question, load
from assistant.evaluate.statistics import Estimate, estimate
from assistant.generate import live, local
from assistant.generate.base import PieceChat, Trust, Tuned
from assistant.generate.echo import EchoChat
from assistant.generate.local import LocalChat
from assistant.ingest.chunk import Chunker
from assistant.ingest.embed import Embedder, OnnxEmbedder
from assistant.model import Answer, Passage, Principal, Turn
from assistant.retrieve.evidence import DeskRetriever
from assistant.retrieve.scope import Scope
from assistant.runtime.up import running, standard_processes
from assistant.store.datasets import Example
from assistant.store.search import Filters
from assistant.surfaces.cli_sources import follow
from assistant.surfaces.demo import ASKER, add_sample
from assistant.tune.cases import case
from assistant.tune.evaluate import well_formed
from assistant.tune.perplexity import perplexity
from tests.bench import convert
from tests.bench.bench_history import half as sample_half
from tests.bench.output import plotted, save
from tests.paths import DATA, MODELS

ALONE = "You answer questions for a support desk. Answer in at most four sentences. If you don't know, write only "
MEASURES = (
    "f1", "rouge_l", "contains_gold", "citation_precision", "citation_recall", "declined_unanswerable",
    "declined_answerable", "grounded", "format", "raw grounded",
)  # fmt: skip

AT_ONCE = 8

Find = Callable[[Question], BaseRetriever]
Marks = dict[str, Estimate | None]


class Heard(PieceChat):
    """A generator whose last words are remembered; copies share the model."""

    inner: LocalChat
    model_name: str = "heard"
    trust: Trust = Trust()
    quotes: bool = False
    rewrites: bool = False
    prompt_tokens: int = 800
    said: str = ""
    sources: tuple[Passage, ...] = ()

    @property
    def _llm_type(self) -> str:
        return "heard"

    def _resolve_model_profile(self) -> Any:
        return self.inner.profile

    def get_num_tokens(self, text: str) -> int:
        return self.inner.get_num_tokens(text)

    def pieces(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> Generator[str]:
        self.said = ""
        self.sources = case(
            Example("answer", "", ({"role": "user", "content": messages[-1].text},), "")
        ).passages
        for piece in self.inner.pieces(messages, stop, **kwargs):
            self.said += piece
            yield piece


@dataclass(frozen=True, slots=True)
class Set:
    name: str
    questions: Sequence[Question]
    find: Find
    retuned: Find | None = None
    """the same with the embedder that was trained"""


def alone(model: Heard, question: Question) -> Answer:
    """Without sources."""
    asked = [
        SystemMessage(content=ALONE + DECLINED + "."),
        HumanMessage(content=f"Question: {question.question}"),
    ]
    text = "".join(model.pieces(asked))
    refusal = "it says so" if DECLINED in text else ""
    return Answer("" if refusal else text, (), 1.0, refusal=refusal, question=question.question)


def measured(asked: Set, assistant: Assistant, model: Heard | None, find: Find | None) -> Marks:
    """Each measure over the questions it applies to. Without a model the sources are quoted; without `find` there
    are none."""
    found: dict[str, list[float]] = {}
    encode = assistant.embedder.encode

    def one(question: Question) -> dict[str, float]:
        heard = model and model.model_copy()
        if find is None:
            assert heard is not None
            answer = alone(heard, question)
            return {
                k: v
                for k, v in marks.marks(question, answer, encode=encode).items()
                if k not in ("grounded", "retrieved_relevant", "told_relevant")
            }
        engine = DeskQueryEngine(
            find(question),
            heard or EchoChat(),
            encode=encode,
            strategy=Strategy.WRITE if heard else Strategy.QUOTE,
        )
        answer = engine.answer(question.question, history=[Turn(t.role, t.content) for t in question.history])
        return marks.marks(question, answer, encode=encode) | (_raw(heard, encode) if heard else {})

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for values in pool.map(one, asked.questions):
            for name, value in values.items():
                found.setdefault(name, []).append(value)
    return {name: estimate(found[name]) for name in MEASURES if found.get(name)}


def _raw(heard: Heard, encode: cite.Encode) -> dict[str, float]:
    """Of what the generator said, if it was asked; its markers are the prompt's."""
    if not heard.said:
        return {}
    values = {"format": float(well_formed(heard.said, len(heard.sources)))}
    if kept := heard.said.partition(DECLINED)[0].strip():
        said = Answer(kept, (), 1.0, passages=heard.sources)
        values["raw grounded"] = marks.grounded(said, encode=encode)
    return values


def public(chosen: str, limit: int | None, assistant: Assistant, trained: Embedder | None) -> Generator[Set]:
    """The halves of CLAPNQ and MTRAG that no training file has, cut in two again."""

    def by(embedder: Embedder) -> Find:
        chunker = Chunker(embedder.tokenizer_file)
        return lambda question: MemoryRetriever(question.passages or (), embedder=embedder, chunker=chunker)

    for name, lines in (("CLAPNQ", convert.clapnq), ("MTRAG", convert.mtragun)):
        every = [Question.model_validate(line) for line in lines(DATA) if not convert.trained_on(line)]
        these = [q for q in every if convert.draw(f"half {q.id}") % 2 == (chosen == "test")]
        yield Set(name, these[:limit], by(assistant.embedder), by(trained) if trained else None)


def general() -> str:
    """English that no set has."""
    with gzip.open(DATA / "scifact/corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        return "\n".join(json.loads(line)["text"] for line in itertools.islice(lines, 40))


def sample(chosen: str, limit: int | None, assistant: Assistant) -> Set:
    asker = assistant.principal(ASKER)
    with as_file(files("assistant") / "sample") as folder:
        every = [q for q in load(folder / "questions.jsonl") if sample_half(q) == chosen]

    def find(question: Question) -> BaseRetriever:
        known = assistant.customer(asker, question.customer) if question.customer else None
        scope = Scope(asker, filters=Filters(before=question.as_of), customer=known.ids if known else None)
        return DeskRetriever(assistant.retriever, scope)

    return Set("sample company", every[:limit], find)


def thunderbird(chosen: str, limit: int | None, assistant: Assistant) -> Set:
    """Accepted solutions; those of the development part only, by halves."""
    with assistant.database.writer() as connection:
        rows = connection.execute(b"select distinct unnest(acl) as token from document where kind = 'ticket'")
        who = Principal("bench", frozenset(row["token"] for row in rows))
    every = [Question.model_validate(line) for line in convert.qa_solved(DATA)]
    these = [q for q in every if convert.draw(f"half {q.id}") % 2 == (chosen == "test")]

    def find(question: Question) -> BaseRetriever:
        return DeskRetriever(assistant.retriever, Scope(who, filters=Filters(before=question.as_of)))

    return Set("Thunderbird, as of its day", these[: limit or 150], find)


def version(folder: Path) -> Tuned:
    """One that was trained here, with what `tune evaluate` or `promote` measured of it in its recipe.json."""
    recipe = json.loads((folder / "recipe.json").read_text()) if (folder / "recipe.json").exists() else {}
    return Tuned(folder.name, folder, True, recipe.get("prompt_tokens"), Trust(**recipe.get("trust", {})))


@contextmanager
def sample_desk() -> Generator[Assistant]:
    """The sample company, synced."""
    with tempfile.TemporaryDirectory(prefix="dh-") as folder, as_file(files("assistant") / "sample") as place:
        Path(folder).chmod(0o711)
        config = Settings(state=Path(folder) / "s", models=MODELS, generator="echo")
        with running(
            config, migrate=lambda _: Assistant(config).migrate(), processes=standard_processes(config)
        ):
            assistant = Assistant(config)
            for runs in add_sample(assistant, place):
                follow(assistant, runs)
            yield assistant
            assistant.close()


@contextmanager
def state_desk(state: Path) -> Generator[Assistant]:
    config = Settings(state=state, models=MODELS, generator="echo")
    with running(config, migrate=lambda _: Assistant(config).migrate(), processes=()):
        assistant = Assistant(config)
        yield assistant
        assistant.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--half", choices=("development", "test"), default="development")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--thunderbird", type=Path)
    parser.add_argument("--retriever", type=Path)
    parser.add_argument("--remark", default="", help="what a reader should know of this version")
    return parser.parse_args()


def told(given: argparse.Namespace) -> str:
    """The command line without the places of this machine."""
    words = [given.folder.name] if given.folder else []
    words += ["--half", given.half]
    words += ["--limit", str(given.limit)] if given.limit else []
    words += ["--thunderbird", "STATE"] if given.thunderbird else []
    return " ".join(words + (["--retriever", given.retriever.name] if given.retriever else []))


def compared(asked: Set, assistant: Assistant, plain: Heard, tuned: Heard) -> dict[str, Marks]:
    """Marks by system, those that the set allows."""
    rows: dict[str, Marks] = {}
    for name, model, find in (
        ("plain, no retrieval", plain, None),
        ("tuned, no retrieval", tuned, None),
        ("plain, retrieval", plain, asked.find),
        ("tuned, retrieval", tuned, asked.find),
        ("quoting", None, asked.find),
        ("tuned, tuned retriever", tuned, asked.retuned),
        ("quoting, tuned retriever", None, asked.retuned),
    ):
        if find or "no retrieval" in name:
            rows[name] = measured(asked, assistant, model, find)
            print(asked.name, "|", name, {k: str(v) for k, v in rows[name].items()}, flush=True)
    return rows


def main() -> None:
    given = arguments()
    if not DATA.is_dir():
        raise SystemExit("skipped: the data folder is absent")
    config = Settings(state=Path("unused"), models=MODELS)
    chosen = live.shipped(config) if given.folder is None else version(given.folder)
    if chosen is None:
        raise SystemExit("no adapter comes with Deskhand: name a version's folder")
    tokens = chosen.prompt_tokens or 800
    plain = Heard(inner=local.from_settings(config), prompt_tokens=tokens)
    tuned = Heard(inner=local.from_settings(config, chosen), prompt_tokens=tokens, trust=chosen.trust)
    trained = given.retriever and OnnxEmbedder(given.retriever)
    forgot = {
        name: str(perplexity(model.inner, general(), lambda *_: None))
        for name, model in (("plain", plain), ("tuned", tuned))
    }
    print("perplexity", forgot, flush=True)
    report: dict[str, dict[str, Marks]] = {}
    with sample_desk() as assistant:
        for asked in (
            *public(given.half, given.limit, assistant, trained),
            sample(given.half, given.limit, assistant),
        ):
            report[f"{asked.name} ({len(asked.questions)})"] = compared(asked, assistant, plain, tuned)
    with state_desk(given.thunderbird) if given.thunderbird else nullcontext() as assistant:
        if assistant:
            asked = thunderbird(given.half, given.limit, assistant)
            report[f"{asked.name} ({len(asked.questions)})"] = compared(asked, assistant, plain, tuned)
    plot(given.half, report)
    save(
        f"tuned-{given.half}",
        {
            "half": given.half,
            "arguments": told(given),
            "remark": given.remark,
            "trust": asdict(chosen.trust),
            "perplexity": forgot,
            "sets": {
                s: {n: {k: str(v) for k, v in row.items()} for n, row in rows.items()}
                for s, rows in report.items()
            },
        },
    )


def plot(chosen: str, report: dict[str, dict[str, Marks]]) -> None:
    shown = ("f1", "citation_recall", "declined_unanswerable", "declined_answerable")
    with plotted(f"tuned-{chosen}", columns=len(shown), size=(16, 4)) as axes:
        for place, measure in enumerate(shown):
            for number, name in enumerate(next(iter(report.values()))):
                values = [rows.get(name, {}).get(measure) for rows in report.values()]
                spots = [n + (number - 3) * 0.12 for n in range(len(values))]
                axes[place].bar(spots, [v.value if v else 0.0 for v in values], width=0.12, label=name)
            axes[place].set_xticks(
                range(len(report)), [s.split(" (")[0] for s in report], rotation=20, fontsize=7
            )
            axes[place].set_title(measure.replace("_", " "))
            axes[place].set_ylim(0, 1)
        axes[0].legend(fontsize=7)


if __name__ == "__main__":
    main()
