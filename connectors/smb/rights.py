"""Who may read a file of a share: the lists of the file, of the folders above it and of the share together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from assistant.errors import SourceRefused
from assistant.model import Access
from connectors.smb import msrpc
from connectors.smb.ntacl import NOBODY, READ_DATA, TRAVERSE, WORLD, Acl, Evaluator, People, read_acl
from connectors.smb.people import Knowledge, read_knowledge
from connectors.smb.wire import Refused, Server

log = structlog.get_logger(__name__)


class Rights:
    """What was read of people, folders and the share is kept until `forget`."""

    def __init__(
        self,
        share: str,
        server: Callable[[], Server],
        controller: Callable[[], Server | None],
        *,
        share_readers: tuple[str, ...],
        lists_alone: bool,
        guests: bool,
        people: Path | None,
    ) -> None:
        self._share = share
        self._server = server
        self._controller = controller
        self._readers = share_readers
        self._lists_alone = lists_alone
        self._guests = guests
        self._file = people
        self.forget()

    def forget(self) -> None:
        self._knowledge: Knowledge | None = None
        self._readers_acl: Acl | None = None
        self._folders: dict[str, Acl] = {}
        self._evaluator = Evaluator(self._people, guests=self._guests)

    def access(self, path: str, descriptor: bytes | Refused) -> Access:
        """Who may read the file at `path`, given its own security descriptor."""
        above = _above(path)
        self.read_folders([path])
        acls = [self._of_share(), _acl(descriptor, READ_DATA, coarse=not self._lists_alone)]
        acls += [self._folders[folder] for folder in above if not self._lists_alone]
        return self._evaluator.access(acls)

    def read_folders(self, files: Iterable[str]) -> None:
        """Have the lists of all folders above these files, as far as they are needed."""
        if self._lists_alone:
            return
        missing = sorted({folder for file in files for folder in _above(file)} - set(self._folders))
        if missing:
            found = self._server().permissions(self._share, [(folder, True) for folder in missing])
            for folder, descriptor in zip(missing, found, strict=True):
                self._folders[folder] = _acl(descriptor, TRAVERSE, coarse=True)

    def knowledge(self) -> Knowledge:
        """Raises `SourceRefused` where it may not be read."""
        if self._knowledge is None:
            controller = self._controller()
            pipe = controller.pipe if controller is not None else None
            self._knowledge = read_knowledge(self._server().pipe, pipe, self._file)
        return self._knowledge

    def _people(self) -> People:
        """Those whom lists are evaluated for; nobody where the server does not tell."""
        try:
            return self.knowledge().people
        except SourceRefused as refused:
            log.warning("people unknown, lists with a deny are withheld", reason=str(refused))
            return People()

    def _of_share(self) -> Acl:
        """Who may connect, as the settings say."""
        if self._readers_acl is None:
            server = self._server()
            names = [name for name in self._readers if name.casefold() != "everyone"]
            sids = {name: name for name in names if name.startswith("S-1-")}
            asked = [name for name in names if name not in sids]
            sids |= msrpc.look_up_names(server.pipe, asked) if asked else {}
            unknown = [name for name in names if name not in sids]
            if unknown:
                raise SourceRefused(
                    f"{server.name} knows nobody of the name «{unknown[0]}», which share_readers has. Nothing "
                    "was changed; write the name as the server does, with its domain if need be."
                )
            everybody = len(names) < len(self._readers)
            entries = ((True, WORLD),) if everybody else tuple((True, sids[name]) for name in names)
            self._readers_acl = Acl(entries)
        return self._readers_acl


def _acl(descriptor: bytes | Refused, right: int, *, coarse: bool) -> Acl:
    """Nobody's where it can't be read or understood."""
    if isinstance(descriptor, Refused):
        return NOBODY
    try:
        return read_acl(descriptor, right, coarse=coarse)
    except ValueError:
        return NOBODY


def _above(path: str) -> list[str]:
    """The folders a file lies in, from the share's top (the empty path) on."""
    pieces = path.split("\\")[:-1]
    return ["\\".join(pieces[:depth]) for depth in range(len(pieces) + 1)]
