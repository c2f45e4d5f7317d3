"""A folder whose listing is had whole: compare it with the snapshot, carry out step by step, hand over in batches.

For a tree that is too slow to be listed at once see `tree.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from assistant.model import AccessChanged, Batch, Change, Failed, Upsert
from connectors.shares.files import Pending
from connectors.shares.listing import File, Listing
from connectors.shares.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about one file."""

    kind: Literal["read", "access", "rename", "delete", "fail"]
    id: str
    file: File | None = None
    old_id: str = ""
    reason: str = ""


def batches(
    steps: list[Step], known: Snapshot, carry_out: Callable[[Step, Snapshot], list[Change]]
) -> Iterator[Batch]:
    """What carrying out the steps hands over; `known` follows, so that each batch's checkpoint fits it."""
    pending = Pending()
    for step in steps:
        changes = carry_out(step, known)
        # The snapshot must not know of this step yet when the batch before it is closed.
        if not pending.has_room_for(changes):
            yield Batch(pending.take(), known.checkpoint(), total=len(steps))
        _record(step, changes, known)
        pending.add(changes)
    if pending:
        yield Batch(pending.take(), known.checkpoint(), total=len(steps))


def plan(known: Snapshot, listing: Listing) -> list[Step]:
    """The steps from `known` to `listing`, files in the order of their ids, then deletions and failures.

    A rename is only seen where the old path is gone and the new one was unknown: then
    steps never depend on each other, whatever was swapped with whatever.
    """
    gone = {file for file in known.files if file not in listing.files and listing.covers(file)}
    movable = {(known.files[file].content, PurePosixPath(file).suffix): file for file in sorted(gone)}
    steps: list[Step] = []
    for name, file in sorted(listing.files.items()):
        before = known.files.get(name)
        if before == file.seen:
            continue
        if before is None:
            old = movable.pop((file.seen.content, PurePosixPath(name).suffix), None)
            if old is None:
                steps.append(Step("read", name, file))
            else:
                gone.discard(old)
                steps.append(Step("rename", name, file, old_id=old))
        elif before.content == file.seen.content and before.access != file.seen.access:
            steps.append(Step("access", name, file))
        else:
            # A ctime that moved alone may be an edit whose mtime a tool set back.
            steps.append(Step("read", name, file))
    steps += [Step("delete", name) for name in sorted(gone)]
    steps += [Step("fail", name, reason=reason) for name, reason in sorted(listing.unseen.items())]
    return steps


def _record(step: Step, changes: list[Change], known: Snapshot) -> None:
    """Write into the snapshot what `changes` hand over; a file that failed stays due."""
    if step.kind in ("delete", "rename"):
        known.drop(step.old_id or step.id)
    if step.file is None or not changes:
        return
    before = known.files.get(step.id)
    access = _access(changes, step.file.seen.access)
    if not any(isinstance(change, Failed) for change in changes):
        known.set(step.id, step.file.seen._replace(access=access))
    elif before is not None and before.access != access:
        known.set(step.id, before._replace(access=access))


def _access(changes: list[Change], listed: tuple[str, ...]) -> tuple[str, ...]:
    """The tokens that `changes` hand over; where they are about something else, those of the listing."""
    for change in changes:
        match change:
            case Upsert(document):
                return tuple(sorted(document.access.tokens))
            case AccessChanged(_, access):
                return tuple(sorted(access.tokens))
            case _:
                continue
    return listed
