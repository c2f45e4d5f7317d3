"""What a connector is. One source is one file beside this one and one line in `registry.py`.

A connector knows its source and nothing of the store. It yields batches; the
worker commits each batch together with its checkpoint, so a run that dies
goes on from the last one committed. Its rules:

- `sync(None)` reads everything, `sync(checkpoint)` what changed since. Yielding
  the same document twice is harmless, leaving one out is not.
- An item that can't be read becomes `Failed`, and is asked for again by `read`; only
  trouble with the whole source is raised (`SourceRefused`, `SourceBusy`).
- Access that can't be determined is `Access.nobody()`. Where many items share a
  right (a queue, a project, a role), the right is a group that `memberships()` puts
  people into: taking it from somebody is then one change instead of thousands.
- Deletions are inferred from `inventory()`, and only after it was read to its end.
- Every wait for the source has a time limit, and no address outside `network` is reached.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from assistant.model import AccessChanged, Batch, Change, Member
from connectors.network import PUBLIC, Network

BATCH_SIZE = 32
"""changes in a batch: enough for the queue's throughput, few enough to lose little"""


class ConnectorSettings(BaseModel):
    """Base of every connector's settings; a field of type `SecretStr` is kept encrypted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NotesSettings(ConnectorSettings):
    """Of a connector that is also `Notes`."""

    notes: bool = Field(
        default=False,
        description="Deskhand may write internal notes on tickets, when a person who has the right hands a "
        "question over.",
    )


@runtime_checkable
class Notes(Protocol):
    """What a connector that can write is besides."""

    notes: bool
    """as its setting says"""

    def note(self, external_id: str, text: str, marker: str) -> None:
        """Write it on a ticket where no customer sees it, unless a note with `marker` is there.

        Raises `ItemError` when the ticket is gone or takes no note, `SourceError`.
        """
        ...


class Connector(ABC):
    """Made anew for every slice of a run, from an instance of its own `Settings`."""

    Settings: ClassVar[type[ConnectorSettings]]

    @abstractmethod
    def __init__(self, settings: Any, network: Network = PUBLIC) -> None: ...

    @abstractmethod
    def check(self) -> str:
        """Reach the source and say in one sentence what was found; raises `SourceError`."""

    @abstractmethod
    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        """Batches of at most `BATCH_SIZE` changes since `checkpoint`; raises `SourceError`."""

    @abstractmethod
    def inventory(self) -> Iterator[str]:
        """External ids of everything that exists now; raises `SourceError` when unsure."""

    def read(self, ids: Collection[str]) -> Iterator[Change]:
        """These items anew with all that hangs on them, because reading them failed; raises `SourceError`.

        `Delete` for one that is gone or not to be read. None where every sync tries them again by itself.
        """
        return iter(())

    def memberships(self) -> Iterator[Member]:
        """The source's users and their groups, read anew; none where the source has none."""
        return iter(())

    def accesses(self) -> Iterator[AccessChanged]:
        """Who may read each item now, where a right changes without its item (an NT ACL); else none."""
        return iter(())

    def hint(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether this call of a webhook (names of headers in small letters) is signed by the source."""
        return False

    def watched(self) -> tuple[str, ...]:
        """Local folders whose changes call for a sync at once."""
        return ()

    def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Give up what is held open; may be called twice."""
