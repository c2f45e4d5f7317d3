"""Answers that no generator writes: the sources' own sentences, a customer's tickets line by line, a refusal."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from assistant.answer import cite, extract
from assistant.answer.events import Event, TextDelta
from assistant.answer.growing import Growing
from assistant.model import TIMELINE, Passage
from assistant.retrieve.cues import Listing
from assistant.text.sentences import clean, safe_url, without_bullet

NEAREST = 3
"""Sources a refusal names."""
NEAR, NEAR_SHARE = 0.45, 0.8
"""What a customer's ticket must score, absolutely and beside the best passage, to be told instead of an answer."""
DOUBTFUL = 0.1
"""Confidence below which not even what comes nearest is told: it would be about something else."""


def quote(draft: Growing, candidates: Sequence[extract.Candidate]) -> Generator[Event, None, str]:
    """What the sources say, but for what the draft says already; returns why there is nothing to quote, or nothing."""
    said = draft.text
    for stretch in extract.choose(candidates, question=draft.question):
        for sentence, quote, line in zip(stretch.sentences, stretch.quotes, stretch.breaks, strict=True):
            if without_bullet(sentence) not in said:
                marked = cite.with_markers(sentence, [stretch.marker])
                yield draft.add(marked, [(stretch.marker, quote)], line=line)
    return "" if draft.text else "nothing in the sources could be quoted"


def listed(draft: Growing, listing: Listing) -> Generator[Event]:
    """What is open for a customer, what was tried with them or what helped others: each ticket's lines, dated."""
    draft.confidence = 1.0
    for marker, passage in enumerate(draft.passages, 1):
        facts, *lines = clean(passage.text).split("\n")
        if listing is Listing.OPEN:
            if passage.outcome == "solved":
                continue
            lines = lines[-1:]
        heading = cite.with_markers(f"{_title(passage)}. {facts}", [marker])
        yield draft.add(heading, [(marker, facts)], line=True)
        for line in lines:
            yield draft.add(cite.with_markers(f"- {line}", [marker]), [(marker, line)], line=True)
    if not draft.text:
        draft.text = "Nothing is open for this customer among the tickets you may read."
        yield TextDelta(draft.text)
    yield draft.done()


def decline(draft: Growing, reason: str, candidates: Sequence[extract.Candidate] = ()) -> Generator[Event]:
    """Say that the sources don't have it, tell what comes nearest and offer a person."""
    draft.citations.clear()
    draft.text = "I could not find the answer to this in the sources I may read."
    if near := _nearest_of_customer(draft.passages):
        passage = draft.passages[near - 1]
        draft.text += f"\nNearest in this customer's history, {_title(passage)}:"
        for line in clean(passage.text).split("\n"):
            draft.add(cite.with_markers(f"- {line}", [near]), [(near, line)], line=True)
    elif draft.confidence >= DOUBTFUL:
        _nearest_words(draft, candidates)
    lines = [draft.text]
    nearest: dict[str, str] = {}
    for passage in draft.passages:
        nearest.setdefault(_title(passage), safe_url(passage.url))
    if nearest:
        # A paragraph of its own, as the question at the end: else Markdown takes them for the item before.
        lines += ["", "The nearest I found:"]
        lines += [
            f"- {title}: {url}" if url else f"- {title}" for title, url in list(nearest.items())[:NEAREST]
        ]
    lines += ["", "Shall I hand this over to a person?"]
    draft.text = "\n".join(lines)
    yield TextDelta(draft.text)
    yield draft.done(refusal=reason)


def _nearest_words(draft: Growing, candidates: Sequence[extract.Candidate]) -> None:
    """What would have been quoted first: whoever knows the desk sees at once whether it answers."""
    for stretch in extract.choose(candidates, question=draft.question)[:1]:
        draft.text += "\nThis comes nearest, and may not answer it:"
        for sentence, quote in zip(stretch.sentences, stretch.quotes, strict=True):
            draft.add(
                cite.with_markers(f"- {sentence}", [stretch.marker]), [(stretch.marker, quote)], line=True
            )


def _title(passage: Passage) -> str:
    return " ".join(clean(passage.title).split()) or "untitled"


def _nearest_of_customer(passages: Sequence[Passage]) -> int:
    """Marker of the customer's ticket that is nearest to the question, where nothing is much nearer; else 0."""
    top = max((p.score for p in passages), default=0.0)
    told = [(p.score, -n) for n, p in enumerate(passages, 1) if p.role == TIMELINE]
    score, marker = max(told, default=(0.0, 0))
    return -marker if score >= NEAR_SHARE * top and score >= NEAR else 0
