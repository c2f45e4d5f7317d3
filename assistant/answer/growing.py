"""An answer as it grows: text that was verified, what it cites, and how long each step took."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from assistant import metrics, traces
from assistant.answer.events import Done, TextDelta
from assistant.model import Answer, Citation, Passage

log = structlog.get_logger()


@dataclass(slots=True)
class Growing:
    question: str
    model: str
    span: traces.Answering
    text: str = ""
    citations: list[Citation] = field(default_factory=list[Citation])
    passages: tuple[Passage, ...] = ()
    confidence: float = 0.0
    timings: dict[str, float] = field(default_factory=dict[str, float])
    started: float = field(default_factory=time.monotonic)

    def add(self, sentence: str, held: Sequence[tuple[int, str]], *, line: bool) -> TextDelta:
        """Append a verified sentence (markers included) and its citations."""
        gap = ("\n" if line else " ") if self.text else ""
        start = len(self.text) + len(gap)
        self.timings.setdefault("first_token", time.monotonic() - self.started)
        self.text += gap + sentence
        cited = tuple(
            Citation(marker, self.passages[marker - 1], quote, (start, len(self.text)))
            for marker, quote in held
        )
        self.citations += cited
        return TextDelta(gap + sentence, cited)

    @contextmanager
    def timed(self, step: str, *, yields: bool = False) -> Generator[None]:
        """Time a step. `yields`: whoever drains the answer gets to run in between."""
        start = time.monotonic()
        try:
            with self.span.step(step, yields=yields):
                yield
        finally:
            self.timings[step] = self.timings.get(step, 0.0) + time.monotonic() - start

    def done(self, refusal: str = "") -> Done:
        log.info(
            "answer.done",
            passages=len(self.passages),
            citations=len(self.citations),
            confidence=round(self.confidence, 3),
            refused=bool(refusal),
        )
        self.span.tell(
            self.text,
            model=self.model,
            passages=len(self.passages),
            citations=len(self.citations),
            confidence=self.confidence,
            declined=bool(refusal),
        )
        whole = time.monotonic() - self.started
        metrics.answered(declined=bool(refusal), first=self.timings.get("first_token"), whole=whole)
        return Done(
            Answer(
                text=self.text,
                citations=tuple(self.citations),
                confidence=self.confidence,
                refusal=refusal,
                passages=self.passages,
                question=self.question,
                model=self.model,
                timings=self.timings,
            )
        )
