"""Training data from feedback: answers that were given, and whether people found them good.

Each is asked again as it was then: the question and the passages that were retrieved, as far as they are
still there and everybody may read them. What rests on anything else is left out, whatever was
thought of it, since a model is everybody's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assistant.answer import cite
from assistant.model import Audience, Evidence, Passage
from assistant.retrieve.evidence import shared
from assistant.retrieve.mask import Mask, masks, unowned
from assistant.retrieve.scope import Scope
from assistant.store import datasets, search
from assistant.store.datasets import Example
from assistant.store.db import Row
from assistant.store.feedback import Verdict
from assistant.text.sentences import stems
from assistant.tune import filters
from assistant.tune.dataset import Builder, Progress
from assistant.tune.filters import Reason

GOOD = {Verdict.UP, Verdict.ACCEPTED, Verdict.SOLVED}
BAD = {Verdict.DOWN, Verdict.SOURCE_WRONG, Verdict.SOURCE_OUTDATED, Verdict.REOPENED}
LOOKED_AT = 0.2
"""share of the good and of the bad ones, the latest, that is for development: they are few"""

FEW = 3
"""topical words below which a sentence tells nothing, as one that leads to a list"""


def judged(builder: Builder, progress: Progress) -> list[Example]:
    """Examples `good` and `bad` of all answers with a verdict; why others are left out is in `builder.left_out`."""
    with builder.assistant.database.writer() as connection:
        rows = datasets.judged(connection)
    made: list[Example] = []
    for done, row in enumerate(rows, 1):
        example = _example(builder, row)
        if isinstance(example, Reason):
            builder.left_out[example] += 1
        else:
            made.append(example)
        progress("Judged answers", done, len(rows))
    return [*_parted(made, "good"), *_parted(made, "bad")]


def verdict(said: Sequence[str]) -> str | Reason:
    """`good` or `bad`, of all that was said about one answer; a reopened ticket takes back that it was solved."""
    told = {Verdict(one) for one in said}
    if Verdict.REOPENED in told:
        told.discard(Verdict.SOLVED)
    if told & GOOD and told & BAD:
        return Reason.CONTRADICTORY
    return "good" if told & GOOD else "bad"


def _example(builder: Builder, row: Row) -> Example | Reason:
    kind = verdict(row["verdicts"])
    if isinstance(kind, Reason):
        return kind
    passages, mask = _readable(builder, row)
    cited = {one["marker"]: one["chunk"] for one in row["citations"] or ()}
    own = any(one["evidence"] == Evidence.HISTORY for one in row["citations"] or ())
    if mask is None or own or not cited or not {p.chunk_id for p in passages} >= set(cited.values()):
        return Reason.PRIVATE
    question, answer = filters.written(mask(row["question"])), mask(row["answer"]).strip()
    if not stems(question) or not answer:
        return Reason.EMPTY
    if filters.instructs(question) or filters.instructs(answer):
        return Reason.INSTRUCTIONS
    messages, shown = builder.prompt(question, passages)
    places = {passage.chunk_id: number for number, passage in enumerate(shown, 1)}
    try:
        completion = cite.renumbered(answer, {marker: places[chunk] for marker, chunk in cited.items()})
    except KeyError:
        return Reason.NO_ROOM
    if not _borne_out(completion, shown):
        return Reason.UNSUPPORTED
    documents = [row["ticket_id"], *(passage.document_id for passage in shown)]
    return Example(
        kind,
        "feedback",
        tuple(messages),
        completion,
        documents=tuple(dict.fromkeys(one for one in documents if one is not None)),
        asked_at=row["created_at"],
        message=row["id"],
    )


def _readable(builder: Builder, row: Row) -> tuple[list[Passage], Mask | None]:
    """Of what was retrieved then what everybody may read, in its order; None: its ticket is not for this builder."""
    order = {chunk: place for place, chunk in enumerate(row["chunks"])}
    text = f"{row['question']}\n{row['answer']}"
    with builder.assistant.database.reader(builder.principal, Audience.PUBLIC) as connection:
        found = search.of_ids(connection, list(order))
        if row["ticket_id"] is None:
            mask = unowned(connection, text)
        else:
            mask = masks(connection, {row["ticket_id"]: text}).get(row["ticket_id"])
    found.sort(key=lambda passage: order[passage.chunk_id])
    found = [passage for passage in found if passage.document_id != row["ticket_id"]]
    return shared(builder.assistant.retriever, found, Scope(builder.principal, Audience.PUBLIC)), mask


def _borne_out(completion: str, shown: Sequence[Passage]) -> bool:
    """Whether a shown source says all that has no marker: it may come from what not everybody may read."""
    sources = [cite.Source(passage.text, passage.title) for passage in shown]
    return all(
        len(stems(said)) < FEW or any(cite.support(said, source).holds for source in sources)
        for said in cite.unmarked(completion)
    )


def _parted(made: Sequence[Example], kind: str) -> list[Example]:
    """Those of a kind, which are in the order of time, with the latest for development."""
    own = [example for example in made if example.kind == kind]
    first = round(len(own) * (1 - LOOKED_AT))
    return [replace(example, part="train" if n < first else "dev") for n, example in enumerate(own)]
