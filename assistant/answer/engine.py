"""From a question to a cited answer: the LlamaIndex query engine every surface asks.

`stream` yields events; the CLI, the web, Slack and `answer` all drain the same
ones. Text comes sentence by sentence, each after it was verified: what was once
shown is never taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from enum import StrEnum

import structlog
from langchain_core.language_models import BaseChatModel
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.base.response.schema import Response
from llama_index.core.prompts.mixin import PromptMixinType
from llama_index.core.schema import QueryBundle

from assistant import traces
from assistant.answer import abstain, cite, disagree, extract, prompt, rewrite, tell
from assistant.answer.events import Done, Event, Sources, Status
from assistant.answer.growing import Growing
from assistant.errors import ModelBusy
from assistant.generate import base
from assistant.model import TIMELINE, Answer, Turn
from assistant.retrieve.cues import cues
from assistant.retrieve.nodes import from_node, to_node
from assistant.text.sentences import ENDING, sentences

log = structlog.get_logger()

RELIABLE = 0.5
"""Share of the generator's sentences that must hold; else what it had to say is completed by quoting."""
OTHERWISE = "A document says otherwise, and counts more than a ticket:"


class Strategy(StrEnum):
    QUOTE = "quote"
    """the sources' own sentences; the generator is not asked"""
    WRITE = "write"
    """the generator's sentences, those that hold"""


class DeskQueryEngine(BaseQueryEngine):
    """Answers for whomever its retriever asks as: make one a request, they cost nothing.

    `encode` turns texts into L2-normalised rows and sharpens the choice of sentences;
    without it words decide. `strategy` defaults to quoting for a small local model
    and to writing for any other.
    """

    def __init__(
        self,
        retriever: BaseRetriever,
        model: BaseChatModel,
        *,
        encode: cite.Encode | None = None,
        strategy: Strategy | None = None,
        threshold: float = abstain.THRESHOLD,
        question_max_chars: int = 20_000,
    ) -> None:
        super().__init__(callback_manager=None)
        self.retriever = retriever
        self.model = model
        self.llm = base.DeskLLM(model)
        self.encode = encode
        self.strategy = strategy or (Strategy.QUOTE if base.quotes(model) else Strategy.WRITE)
        self.threshold = threshold
        self.trust = base.trust(model) if self.strategy is Strategy.WRITE else base.Trust()
        self.question_max_chars = question_max_chars

    def answer(self, question: str, *, history: Sequence[Turn] = ()) -> Answer:
        """The whole answer at once. Raises what `stream` raises."""
        for event in self.stream(question, history=history):
            if isinstance(event, Done):
                return event.answer
        raise AssertionError("a stream ends with Done")

    def stream(self, question: str, *, history: Sequence[Turn] = ()) -> Generator[Event]:
        """Events up to one `Done`. Closing it stops the generator at its next token.

        Raises `QuestionRejected` for a question that is empty or too long, `ModelBusy`
        when too many are being answered.
        """
        question = rewrite.checked(question, self.question_max_chars)
        draft = Growing(question, base.name(self.model), traces.Answering(question))
        try:
            yield from self._answered(draft, history)
        except Exception as error:
            draft.span.failed(error)
            raise
        finally:
            draft.span.end()

    def _answered(self, draft: Growing, history: Sequence[Turn]) -> Generator[Event]:
        yield Status("searching")
        with draft.timed("rewrite"):
            draft.question = self._standalone(draft.question, history)
        with draft.timed("retrieve"):
            nodes = self.retriever.retrieve(QueryBundle(draft.question))
            draft.passages = tuple(from_node(node) for node in nodes)
        yield Sources(draft.passages)
        if not draft.passages:
            yield from tell.decline(draft, "nothing was found")
            return
        listing = cues(draft.question).listing
        if listing and all(p.role == TIMELINE for p in draft.passages):
            yield from tell.listed(draft, listing)
            return
        yield Status("reading")
        with draft.timed("read"):
            candidates = extract.read(draft.question, draft.passages, encode=self.encode)
            found = abstain.features(draft.question, draft.passages, candidates)
            draft.confidence = abstain.confidence(found)
        # Of what would not be sure enough even if the generator answered it is not asked.
        sure = abstain.moved(draft.confidence, self.trust.answers)
        if sure < self.threshold:
            reason = f"confidence {sure:.2f} is below {self.threshold:.2f}"
            yield from tell.decline(draft, reason, candidates)
            return
        yield Status("answering")
        if self.strategy is Strategy.WRITE:
            try:
                refusal = yield from self._write(draft, candidates)
            except ModelBusy:
                raise  # it will be free in a moment, and then answer as it always does
            except Exception as error:  # whatever a provider raises, the sources are still there to be quoted
                log.warning("generate.failed", error=type(error).__name__)
                refusal = "" if draft.text else (yield from tell.quote(draft, candidates))
        else:
            refusal = yield from tell.quote(draft, candidates)
        if refusal:
            yield from tell.decline(draft, refusal, candidates)
            return
        yield from self._otherwise(draft)
        yield draft.done()

    def _standalone(self, question: str, history: Sequence[Turn]) -> str:
        if not history:
            return question
        if self.strategy is Strategy.WRITE and base.rewrites(self.model):
            try:
                written = self.llm.chat(prompt.condensing(question, history)).message.content or ""
            except Exception as error:  # a provider's own errors; the rule needs no provider
                log.warning("rewrite.failed", error=type(error).__name__)
            else:
                if 0 < len(written := " ".join(written.split())) <= 2 * len(question) + 500:
                    return written
        return rewrite.carry_over(question, history)

    def _write(self, draft: Growing, candidates: Sequence[extract.Candidate]) -> Generator[Event, None, str]:
        """The generator's sentences as they hold; returns why there is no answer, or nothing."""
        limits = base.limits(self.model)
        messages, sources = prompt.answering(
            draft.question,
            draft.passages,
            candidates,
            count=lambda text: base.count_tokens(self.model, text),
            limit=limits.prompt,
        )
        markers = [m for m, _ in sources]
        shown = [cite.Source(p.text, p.title) for p in (draft.passages[m - 1] for m in markers)]
        seen, held, found = 0, 0, draft.confidence
        declined = "no sentence of the generator was supported by the sources"
        for sentence, line in self._generated(draft, messages):
            if prompt.DECLINED in sentence:
                declined = "the generator found no answer in the sources"
                break
            seen += 1
            with draft.timed("verify"):
                verified = cite.verify(sentence, shown, encode=self.encode)
            if verified:
                held += 1
                cited = [(markers[n - 1], quote) for n, quote in verified[1]]
                said = cite.with_markers(cite.split_markers(verified[0])[0], [m for m, _ in cited])
                if said not in draft.text:  # small models repeat themselves
                    draft.confidence = abstain.moved(found, self.trust.answers)
                    yield draft.add(said, cited, line=line)
        log.info("answer.verified", sentences=seen, held=held)
        if draft.text:
            return "" if held >= RELIABLE * seen else (yield from tell.quote(draft, candidates))
        # It is mistaken at times, too: where retrieval is surer than that, the sources are quoted.
        draft.confidence = abstain.moved(found, self.trust.declines)
        return declined if draft.confidence <= self.threshold else (yield from tell.quote(draft, candidates))

    def _otherwise(self, draft: Growing) -> Generator[Event]:
        """A document's sentence that says other numbers than a ticket which the answer rests on."""
        if self.encode is None:
            return
        said = [(citation.marker, citation.quote) for citation in draft.citations]
        with draft.timed("compare"):
            found = disagree.otherwise(said, draft.passages, encode=self.encode)
        for marker, sentence in found:
            if sentence not in draft.text:
                marked = cite.with_markers(f"{OTHERWISE} {sentence}", [marker])
                yield draft.add(marked, [(marker, sentence)], line=True)

    def _generated(self, draft: Growing, messages: list[ChatMessage]) -> Generator[tuple[str, bool]]:
        """Sentences as soon as they are complete, and whether each begins a line."""
        pieces = self.llm.stream_chat(messages)
        text, sent, growing = "", 0, 0
        try:
            with draft.timed("generate", yields=True):
                for piece in pieces:
                    text += piece.delta or ""
                    if not ENDING.search(text, growing):
                        continue
                    # The last one may still grow, or be followed by its marker.
                    found = sentences(text)
                    for sentence in found[sent:-1]:
                        yield sentence.text, "\n" in text[: sentence.start].rstrip(" ")[-1:]
                    sent = max(sent, len(found) - 1)
                    growing = found[-1].start if found else 0
            for sentence in sentences(text)[sent:]:
                yield sentence.text, "\n" in text[: sentence.start].rstrip(" ")[-1:]
        finally:
            pieces.close()

    def _query(self, query_bundle: QueryBundle) -> Response:
        answer = self.answer(query_bundle.query_str)
        return Response(
            response=answer.text,
            source_nodes=[to_node(passage) for passage in answer.passages],
            metadata={"answer": answer},
        )

    async def _aquery(self, query_bundle: QueryBundle) -> Response:
        return await asyncio.to_thread(self._query, query_bundle)

    def _get_prompt_modules(self) -> PromptMixinType:
        return {}
