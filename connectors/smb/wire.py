"""A connection to one SMB server, with what the connector needs: list, read, permissions, pipes.

`smbprotocol` makes, signs and encrypts the packets. Bodies of the requests that are sent
by the thousand are packed here, because its descriptions of structures cost most of the
time of a listing ([MS-SMB2] 2.2.13, 2.2.37, 2.2.15; [MS-FSCC] 2.4.20).
"""

from __future__ import annotations

import logging
import socket
import struct
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from smbprotocol import exceptions as smb
from smbprotocol.connection import Connection
from smbprotocol.file_info import FileInformationClass
from smbprotocol.header import Commands, NtStatus
from smbprotocol.open import Open, SMB2QueryDirectoryRequest
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from assistant.errors import SourceBusy, SourceError, SourceRefused
from connectors.network import Network
from connectors.smb.pipe import Pipe

TIMEOUT = 30.0
"""seconds to wait for any answer"""
IN_FLIGHT = 24
"""questions about permissions sent before the first answer is read"""
PIECE = 2**20
"""bytes asked for at once"""
DIRECTORY, REPARSE, SURROGATE = 0x10, 0x400, 0x20000000
_READ_DATA, _READ_ATTRIBUTES, _READ_CONTROL = 0x1, 0x80, 0x20000
_DIRECTORY_FILE, _NON_DIRECTORY_FILE, _OPEN_REPARSE_POINT = 0x1, 0x40, 0x200000
_OWNER_AND_DACL = 0x5
_SAME_HANDLE = b"\xff" * 16
_ENTRY = struct.Struct("<IIqqqqQQIIIIQ")
# Its logger names files; what matters is raised.
logging.getLogger("smbprotocol").setLevel(logging.CRITICAL + 1)

GONE = (
    NtStatus.STATUS_OBJECT_NAME_NOT_FOUND,
    NtStatus.STATUS_OBJECT_PATH_NOT_FOUND,
    NtStatus.STATUS_NO_SUCH_FILE,
    NtStatus.STATUS_DELETE_PENDING,
    0xC0000123,  # STATUS_FILE_DELETED
)
_WRONG_PASSWORD = (
    *(0xC000006D, 0xC000006E, 0xC0000064, 0xC000006A, 0xC0000071, 0xC0000072, 0xC0000193),
    *(0xC0000224, 0xC0000234, 0xC000015B, 0xC000006F, 0xC0000070),
)
_OF_ONE_ITEM = {
    0xC0000022: "Deskhand's account may not: give it the right to read",
    0xC0000043: "another program has it open for itself alone",
    0xC0000054: "another program has locked it",
    0xC000003A: "it is gone",
    0xC0000034: "it is gone",
    0xC0000056: "it is being deleted",
    0xC00000BA: "it is a folder now",
    0xC0000103: "it is no folder any more",
    0xC0000033: "its name is one the server refuses",
    0xC0000185: "the server's disk reports an error",
    0xC0000032: "the server's disk is damaged there",
    0xC000003E: "the server's disk reports an error",
    0xC0000181: "it is stored elsewhere and can't be brought back",
    0xC000CF06: "it is stored in a cloud that does not answer",
}


class Refused(Exception):
    """The server said no to one item; `status` is its NTSTATUS."""

    def __init__(self, status: int) -> None:
        super().__init__(_OF_ONE_ITEM.get(status, f"the server answers 0x{status:08x}"))
        self.status = status


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder. Times are in 100 ns since 1601."""

    name: str
    attributes: int
    size: int
    created: int
    written: int
    changed: int
    file_id: int
    reparse_tag: int


class _Raw:
    """A request whose body is packed already."""

    def __init__(self, command: int, body: bytes) -> None:
        self.COMMAND = command
        self._body = body

    def pack(self) -> bytes:
        return self._body

    def __len__(self) -> int:
        return len(self._body)


class _Connection(Connection):
    """Never waits without a limit, and counts."""

    requests = 0

    def receive(
        self, request: Any, wait: bool = True, timeout: Any = None, resolve_symlinks: bool = False
    ) -> Any:
        return super().receive(request, wait, timeout or TIMEOUT, False)

    def _send(self, messages: Any, *rest: Any, **named: Any) -> Any:
        self.requests += len(messages)
        return super()._send(messages, *rest, **named)


class Server:
    """Connected and signed in when made; raises `SourceRefused` or `SourceBusy` then and later."""

    def __init__(self, host: str, port: int, *, username: str, password: str, network: Network) -> None:
        self.name = host
        problem: Exception | None = None
        for address in network.addresses(host, port):
            # The library opens its socket itself: it is given the address that was allowed, not the name.
            self._connection = _Connection(uuid.uuid4(), address, port, require_signing=True)
            try:
                self._connection.connect(timeout=int(TIMEOUT))
                break
            except Exception as error:
                problem = error
                self.close()
        else:
            raise self._judge(problem or OSError("no address")) from problem
        transport: Any = self._connection.transport
        raw: socket.socket = transport._sock
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(TIMEOUT), 0))
        try:
            self._session = Session(
                self._connection,
                username=username,
                password=password,
                require_encryption=bool(self._connection.supports_encryption),
                hostname_override=host,
            )
            self._session.connect()
            self._connection.echo(
                sid=cast(int, self._session.session_id), timeout=int(TIMEOUT), credit_request=512
            )
        except Exception as error:
            self.close()
            raise self._judge(error) from error
        limits = (self._connection.max_read_size, self._connection.max_transact_size)
        self._most = min(PIECE, *(limit or 65536 for limit in limits))
        self._trees: dict[str, TreeConnect] = {}

    @property
    def requests(self) -> int:
        return self._connection.requests

    def close(self) -> None:
        """The socket and its thread are gone afterwards; the server ends the session by itself."""
        with suppress(OSError, AttributeError):  # it never came about
            self._connection.disconnect(close=False)

    def list(self, share: str, path: str) -> Iterator[Entry]:
        """What is in a folder, in one pass; raises `Refused`."""
        tree = self._tree(share)
        folder = Open(tree, path)
        try:
            folder.create(2, _READ_DATA | _READ_ATTRIBUTES, 0, 7, 1, _DIRECTORY_FILE)
            query = SMB2QueryDirectoryRequest()
            query["file_information_class"] = FileInformationClass.FILE_ID_FULL_DIRECTORY_INFORMATION
            query["file_id"] = folder.file_id
            query["output_buffer_length"] = min(PIECE, self._most)
            query["buffer"] = "*".encode("utf-16-le")
            while True:
                try:
                    answer = self._ask(tree, query)
                except smb.NoMoreFiles:
                    break
                yield from _entries(_buffer(answer))
            folder.close()
        except Exception as error:
            raise self._of_item(error) from error

    def read(self, share: str, path: str, *, limit: int) -> tuple[bytes, bytes, bytes]:
        """Content (at most `limit` + 1 bytes) and the permissions before and after it was read."""
        pieces: list[bytes] = []
        tree = self._tree(share)
        file = Open(tree, path)
        try:
            file.create(2, _READ_DATA | _READ_ATTRIBUTES | _READ_CONTROL, 0, 7, 1, _NON_DIRECTORY_FILE)
            before = _buffer(self._ask(tree, _query_security(file.file_id)))
            offset, end = 0, min(cast(int, file.end_of_file), limit + 1)
            while offset < end:
                size = min(self._most, limit + 1 - offset)
                try:
                    piece = cast(bytes, file.read(offset, size))
                except smb.EndOfFile:
                    break
                pieces.append(piece)
                offset += len(piece)
            after = _buffer(self._ask(tree, _query_security(file.file_id)))
            file.close()
        except Exception as error:
            raise self._of_item(error) from error
        return b"".join(pieces), before, after

    def permissions(self, share: str, paths: Iterable[tuple[str, bool]]) -> Iterator[bytes | Refused]:
        """Security descriptors of (path, whether it is a folder), in order: one round trip each, many at once."""
        tree = self._tree(share)
        flying: deque[list[Any]] = deque()
        for path, folder in paths:
            while flying and (len(flying) >= IN_FLIGHT or self._credits() < 6):
                yield self._permission(flying.popleft())
            body = _create(path, _DIRECTORY_FILE if folder else _NON_DIRECTORY_FILE)
            close = struct.pack("<HHI16s", 24, 0, 0, _SAME_HANDLE)
            messages = [
                _Raw(Commands.SMB2_CREATE, body),
                _query_security(_SAME_HANDLE),
                _Raw(Commands.SMB2_CLOSE, close),
            ]
            try:
                sent = self._connection.send_compound(
                    messages, self._session.session_id, tree.tree_connect_id, related=True
                )
            except Exception as error:
                raise self._judge(error) from error
            flying.append(sent)
        while flying:
            yield self._permission(flying.popleft())

    def pipe(self, name: str) -> Pipe:
        """Raises `SourceRefused` where the account may not open it."""
        return Pipe(Open(self._tree("IPC$"), name), self._judge)

    def descriptor(self, share: str, path: str, *, folder: bool) -> bytes | Refused:
        (found,) = self.permissions(share, [(path, folder)])
        return found

    def _permission(self, requests: list[Any]) -> bytes | Refused:
        answers: list[Any] = []
        refused: Refused | None = None
        for request in requests:
            try:
                answers.append(self._connection.receive(request))
            except smb.SMBResponseException as error:
                judged = self._of_item(error)
                if not isinstance(judged, Refused):
                    raise judged from error
                refused = refused or judged
            except Exception as error:
                raise self._judge(error) from error
        return refused if refused is not None else _buffer(answers[1])

    def _credits(self) -> int:
        window = self._connection.sequence_window
        return window["high"] - window["low"]

    def _tree(self, share: str) -> TreeConnect:
        if share not in self._trees:
            tree = TreeConnect(self._session, rf"\\{self.name}\{share}")
            try:
                tree.connect()
            except Exception as error:
                raise self._judge(error, share) from error
            if tree.is_dfs_share:
                raise SourceRefused(
                    f"«{share}» is the root of a DFS namespace, which only points to shares. Nothing was read "
                    "or deleted; name the server and the share that it points to."
                )
            self._trees[share] = tree
        return self._trees[share]

    def _ask(self, tree: TreeConnect, message: Any) -> Any:
        request = self._connection.send(message, self._session.session_id, tree.tree_connect_id)
        return self._connection.receive(request)

    def _of_item(self, error: Exception) -> Exception:
        """What to raise about one item: `Refused`, or an error of the whole source."""
        if isinstance(error, Refused | SourceError):
            return error
        status = error.status if isinstance(error, smb.SMBResponseException) else 0
        return Refused(status) if status in _OF_ONE_ITEM or status in GONE else self._judge(error)

    def _judge(self, error: Exception, share: str = "") -> SourceError:
        """What any error of the library means for the source."""
        status = error.status if isinstance(error, smb.SMBResponseException) else 0
        what = f"The server {self.name}"
        if status in _WRONG_PASSWORD or isinstance(error, smb.SMBAuthenticationError):
            return SourceRefused(
                f"{what} refuses the account (0x{status:08x}). Nothing was changed or deleted; check the "
                "user name, the password, the domain, and that the account is not disabled or expired."
            )
        if status == 0xC00000CC:
            return SourceRefused(
                f"{what} has no share «{share}». Nothing was changed or deleted; check its name."
            )
        if status == 0xC0000022:
            return SourceRefused(
                f"{what} lets the account in, but not to what was asked ({share or 'access denied'}). Nothing "
                "was changed or deleted; give the account the right to read the share."
            )
        reason = f"0x{status:08x}" if status else type(error).__name__
        return SourceBusy(
            f"{what} does not answer as it should ({reason}). Nothing was lost; it is tried again later."
        )


def _create(path: str, options: int) -> bytes:
    name = path.encode("utf-16-le", "surrogatepass")
    return struct.pack(
        "<HBBIQQIIIIIHHII",
        57,
        0,
        0,
        2,
        0,
        0,
        _READ_ATTRIBUTES | _READ_CONTROL,
        0,
        7,
        1,
        options,
        120,
        len(name),
        0,
        0,
    ) + (name or b"\0\0")


def _query_security(file_id: bytes) -> _Raw:
    body = struct.pack("<HBBIHHIII16sB", 41, 3, 0, 65536, 0, 0, 0, _OWNER_AND_DACL, 0, file_id, 0)
    return _Raw(Commands.SMB2_QUERY_INFO, body)


def _buffer(answer: Any) -> bytes:
    """The data of an answer to QUERY_INFO or QUERY_DIRECTORY, which are laid out alike."""
    body: bytes = answer["data"].get_value()
    _, offset, length = struct.unpack_from("<HHI", body)
    return body[offset - 64 : offset - 64 + length]


def _entries(data: bytes) -> Iterator[Entry]:
    at = 0
    while True:
        following, _, created, _, written, changed, size, _, attributes, length, tag, _, file_id = (
            _ENTRY.unpack_from(data, at)
        )
        start = at + _ENTRY.size
        name = data[start : start + length].decode("utf-16-le", "surrogatepass")
        if name not in (".", ".."):
            yield Entry(
                name, attributes, size, created, written, changed, file_id, tag if attributes & REPARSE else 0
            )
        if not following:
            return
        at += following
