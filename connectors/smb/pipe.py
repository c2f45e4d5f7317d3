"""A named pipe of an SMB server, over which its remote calls go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smbprotocol.exceptions import SMBResponseException
from smbprotocol.header import NtStatus
from smbprotocol.ioctl import SMB2IOCTLRequest, SMB2IOCTLResponse
from smbprotocol.open import Open

from assistant.errors import SourceError


class Pipe:
    """A named pipe in message mode, as `msrpc` needs one."""

    def __init__(self, file: Open, judge: Callable[[Exception], SourceError]) -> None:
        self._file: Any = file
        self._judge = judge
        self._guard(lambda: self._file.create(2, 0x12019F, 0, 3, 1, 0))

    def write(self, data: bytes) -> None:
        self._guard(lambda: self._file.write(data))

    def transact(self, data: bytes) -> bytes:
        return self._guard(lambda: self._transact(data))

    def read(self) -> bytes:
        return self._guard(lambda: self._file.read(0, 65536))

    def close(self) -> None:
        self._guard(lambda: self._file.close())

    def _transact(self, data: bytes) -> bytes:
        request = SMB2IOCTLRequest()
        request["ctl_code"] = 0x0011C017  # FSCTL_PIPE_TRANSCEIVE
        request["file_id"] = self._file.file_id
        request["max_output_response"] = 65536
        request["flags"] = 1
        request["buffer"] = data
        tree, connection = self._file.tree_connect, self._file.connection
        sent = connection.send(request, tree.session.session_id, tree.tree_connect_id)
        try:
            answer = connection.receive(sent)
        except SMBResponseException as error:
            if error.status != NtStatus.STATUS_BUFFER_OVERFLOW:
                raise
            answer = error.header
        parsed = SMB2IOCTLResponse()
        parsed.unpack(answer["data"].get_value())
        return parsed["buffer"].get_value()

    def _guard(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:
            raise self._judge(error) from error
