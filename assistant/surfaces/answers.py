"""An answer on a terminal: streamed text, then its sources."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape

from assistant.answer.events import Done, Event, Status, TextDelta
from assistant.model import Answer, Evidence, Passage

QUOTE = 160
KINDS = {
    Evidence.DOCUMENT: "document",
    Evidence.TICKET: "ticket",
    Evidence.HISTORY: "this customer's ticket",
}
"""characters of a quote shown"""
_MARKERS = re.compile(r"\s*(?:\[\d+\])+$")


class Runs:
    """Shows a marker once, after the last of the sentences that follow one another and share it.

    The answer itself keeps one after every sentence, so that each can be traced.
    """

    def __init__(self) -> None:
        self.held = ""

    def add(self, text: str) -> str:
        """What can be shown when `text`, a sentence with its markers, has come."""
        found = _MARKERS.search(text)
        bare, markers = (text[: found.start()], found[0]) if found else (text, "")
        shown = bare if markers == self.held else self.held + bare
        self.held = markers
        return shown


def drain(events: Iterable[Event], console: Console, *, quiet: bool = False) -> Answer:
    """Show the events as they come and return the finished answer."""
    answer: Answer | None = None
    runs = Runs()
    with console.status("searching …") as status:
        for event in events:
            if isinstance(event, Status) and not quiet:
                status.update(f"{event.step} …")
            elif isinstance(event, TextDelta) and not quiet:
                status.stop()
                console.print(escape(runs.add(event.text)), end="", soft_wrap=True)
            elif isinstance(event, Done):
                answer = event.answer
    assert answer is not None, "a stream ends with Done"  # noqa: S101 - states an invariant
    if not quiet:
        console.print(escape(runs.held), soft_wrap=True)
        show_sources(answer, console)
    return answer


def show_sources(answer: Answer, console: Console) -> None:
    """Each cited source once, with the first words that bear the answer out."""
    quotes: dict[int, list[str]] = {}
    passages = {citation.marker: citation.passage for citation in answer.citations}
    for citation in answer.citations:
        quote = " ".join(citation.quote.split())
        if quote not in quotes.setdefault(citation.marker, []):
            quotes[citation.marker].append(quote)
    if quotes:
        console.print()
    for marker, found in sorted(quotes.items()):
        console.print(f"[bold]\\[{marker}][/] {escape(describe(passages[marker]))}", soft_wrap=True)
        more = f" [dim](and {len(found) - 1} more)[/]" if len(found) > 1 else ""
        cut = "…" if len(found[0]) > QUOTE else ""
        console.print(f"    [dim]“{escape(found[0][:QUOTE])}{cut}”[/]{more}", soft_wrap=True)


def describe(passage: Passage) -> str:
    """Where a passage is from, on one line."""
    where = " › ".join([passage.title, *[h for h in passage.headings if h != passage.title]])
    date = f", {passage.created_at:%Y-%m-%d}" if passage.created_at else ""
    page = f", page {passage.page}" if passage.page else ""
    note = ", internal note" if passage.audience == "internal" else ""
    kind = KINDS[passage.evidence] + (f", {passage.outcome}" if passage.outcome else "")
    return f"{where} ({kind}{page}{date}{note}) {passage.url}".rstrip()


def as_json(answer: Answer) -> dict[str, Any]:
    """An answer as a script reads it."""
    return {
        "text": answer.text,
        "declined": bool(answer.refusal),
        "reason": answer.refusal,
        "confidence": round(answer.confidence, 4),
        "question": answer.question,
        "model": answer.model,
        "timings": {step: round(seconds, 4) for step, seconds in answer.timings.items()},
        "citations": [
            {"marker": c.marker, "quote": c.quote, "span": list(c.span), **passage_json(c.passage)}
            for c in answer.citations
        ],
        "passages": [passage_json(p) for p in answer.passages],
    }


def passage_json(passage: Passage) -> dict[str, Any]:
    return {
        "source": passage.source,
        "id": passage.external_id,
        "title": passage.title,
        "url": passage.url,
        "kind": passage.kind.value,
        "evidence": passage.evidence.value,
        "outcome": passage.outcome,
        "audience": passage.audience.value,
        "headings": list(passage.headings),
        "page": passage.page,
        "created_at": passage.created_at,
        "score": round(passage.score, 4),
        "text": passage.text,
    }
