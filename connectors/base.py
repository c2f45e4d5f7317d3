"""What a connector is. One source is one file beside this one and one line in `registry.py`.

A connector knows its source and nothing of the store. It yields batches; the
worker commits each batch together with its checkpoint, so a run that dies
goes on from the last one committed. Its rules:

- `sync(None)` reads everything, `sync(checkpoint)` what changed since. Yielding
  the same document twice is harmless, leaving one out is not.
- An item that can't be read becomes `Failed`; only trouble with the whole source
  is raised (`SourceRefused`, `SourceBusy`).
- Access that can't be determined is `Access.nobody()`.
- Deletions are inferred from `inventory()`, and only after it was read to its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from assistant.model import Batch, Member

BATCH_SIZE = 32
"""documents in a batch: large enough for the queue's throughput, small enough to lose little"""


class ConnectorSettings(BaseModel):
    """Base of every connector's settings; a field of type `SecretStr` is kept encrypted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@runtime_checkable
class Connector(Protocol):
    """Constructed as `SomeConnector(settings)` with an instance of its own `Settings`."""

    Settings: ClassVar[type[ConnectorSettings]]

    def check(self) -> str:
        """Reach the source and say in one sentence what was found; raises `SourceError`."""
        ...

    def sync(self, checkpoint: Mapping[str, Any] | None) -> Iterator[Batch]:
        """Batches of at most `BATCH_SIZE` changes since `checkpoint`; raises `SourceError`."""
        ...

    def inventory(self) -> Iterator[str]:
        """External ids of everything that exists now; raises `SourceError` when unsure."""
        ...

    def memberships(self) -> Iterator[Member]:
        """The source's users and their groups; empty where the source has none."""
        ...

    def close(self) -> None: ...
