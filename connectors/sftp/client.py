"""SFTP as the connector needs it: names as bytes, every wait limited, the server's key checked first.

paramiko's own client gives up a whole folder over one name that is no UTF-8, and reads
ahead in threads whose errors nobody sees.
"""

from __future__ import annotations

import errno
import io
import logging
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import paramiko
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_DATA,
    CMD_LSTAT,
    CMD_OPEN,
    CMD_OPENDIR,
    CMD_READ,
    CMD_READDIR,
    CMD_REALPATH,
    CMD_STATUS,
    SFTP_FLAG_READ,
    int64,
)
from paramiko.ssh_exception import IncompatiblePeer

from assistant.errors import ItemError, SourceBusy, SourceError, SourceRefused
from connectors.network import Network
from connectors.sftp.hostkeys import fingerprint
from connectors.shares.posix import OVERFLOW_ID

TIMEOUT = 30.0
CONNECT_TIMEOUT = 10.0
PIECE = 32768
AHEAD = 16
"""pieces of a file asked for before the first has come"""

Result = TypeVar("Result")
logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what goes wrong is raised here, and said once


@dataclass(frozen=True, slots=True)
class Attributes:
    """`mode` is 0, owner and group are nobody's, where the server doesn't say."""

    mode: int
    owner: int
    group: int
    size: int
    modified: int


class Client:
    """An open session; every method raises `SourceBusy` when it breaks, `ItemError` when the server refuses."""

    def __init__(self, transport: paramiko.Transport, sftp: _Sftp, server: str) -> None:
        self._transport = transport
        self._sftp = sftp
        self._server = server

    def close(self) -> None:
        self._transport.close()

    def resolve(self, path: bytes) -> bytes | None:
        """The absolute path without links; None when there is nothing."""
        return self._ask(lambda: self._sftp.realpath(path))

    def list(self, path: bytes) -> list[tuple[bytes, Attributes]] | None:
        """What a folder holds; links are shown as links. None when it is gone."""
        return self._ask(lambda: self._sftp.entries(path))

    def look(self, path: bytes) -> Attributes:
        found = self._ask(lambda: self._sftp.look(path))
        if found is None:
            raise ItemError("It does not exist.")
        return found

    def is_folder(self, path: bytes) -> bool:
        found = self._ask(lambda: self._sftp.look(path))
        return found is not None and stat.S_ISDIR(found.mode)

    def is_roots(self, path: bytes) -> bool:
        """Whether it exists, is no link, and nobody but root can write it."""
        try:
            found = self._ask(lambda: self._sftp.look(path))
        except ItemError:
            return False
        return (
            found is not None
            and found.owner == 0
            and (stat.S_ISREG(found.mode) or stat.S_ISDIR(found.mode))
            and not found.mode & (stat.S_IWGRP | stat.S_IWOTH)
        )

    def gone(self, path: bytes) -> bool:
        try:
            return self._ask(lambda: self._sftp.look(path)) is None
        except ItemError:
            return False

    def read(self, path: bytes, limit: int) -> bytes | None:
        """The content of the regular file; None when it is gone; `ItemError` above `limit` bytes."""
        found = self._ask(lambda: self._sftp.look(path))
        if found is None:
            return None
        # Opening a pipe would wait forever, and a link, put in the file's or a folder's place, lead elsewhere.
        if not stat.S_ISREG(found.mode) or self.resolve(path) != path:
            raise ItemError(
                "It was replaced by something that is no file. It is tried again at the next sync."
            )
        body = self._ask(lambda: self._sftp.fetch(path, limit))
        if self.resolve(path) != path:
            raise ItemError("It was replaced while it was read. It is tried again at the next sync.")
        return body

    def _ask(self, question: Callable[[], Result]) -> Result | None:
        try:
            return question()
        except (TimeoutError, paramiko.SSHException, paramiko.SFTPError) as error:
            raise self._broken(error) from error
        except (OSError, EOFError) as error:
            if not self._transport.is_active() or self._sftp.sock.closed:
                raise self._broken(error) from error
            if isinstance(error, OSError) and error.errno == errno.ENOENT:
                return None
            if isinstance(error, OSError) and error.errno == errno.EACCES:
                raise ItemError(
                    "The server forbids it to this account. Give the account the right to read it, or exclude it."
                ) from error
            raise ItemError("The server refuses to read it. It is tried again at the next sync.") from error

    def _broken(self, error: Exception) -> SourceBusy:
        return SourceBusy(
            f"The connection to {self._server} broke ({type(error).__name__}). Nothing was lost; the sync goes on "
            "where it stopped."
        )


def connect(
    host: str,
    port: int,
    network: Network,
    *,
    username: str,
    password: str,
    private_key: str,
    passphrase: str,
    host_keys: tuple[str, ...],
) -> Client:
    """Raises `SourceRefused` for another host key, refused credentials and refused sftp, else `SourceBusy`."""
    key = _load(private_key, passphrase) if private_key else None
    transport = _trusted(host, port, network, host_keys)
    try:
        _authenticate(transport, username, key or password)
        channel = transport.open_session(timeout=TIMEOUT)
        channel.settimeout(TIMEOUT)
        channel.invoke_subsystem("sftp")
        return Client(transport, _Sftp(channel), host)
    except (paramiko.SSHException, OSError, EOFError) as error:
        active = transport.is_active()
        transport.close()
        raise _refusal(error, host, active=active) from error
    except BaseException:
        transport.close()
        raise


def _authenticate(transport: paramiko.Transport, username: str, secret: paramiko.PKey | str) -> None:
    transport.auth_timeout = TIMEOUT
    if isinstance(secret, str):
        further = transport.auth_password(username, secret)
    else:
        further = transport.auth_publickey(username, secret)
    if further:
        raise paramiko.AuthenticationException("a second factor is asked for")


def _refusal(error: Exception, host: str, *, active: bool) -> SourceError:
    if isinstance(error, paramiko.AuthenticationException) and active:
        return SourceRefused(
            f"{host} refuses the account's password or key, or wants more than that. Nothing was changed or "
            "deleted; this source waits until you have corrected them."
        )
    if isinstance(error, paramiko.ChannelException) or (
        active and isinstance(error, paramiko.SSHException) and "denied" in str(error)
    ):
        return SourceRefused(
            f"{host} lets this account in, but not to SFTP. Nothing was changed or deleted; allow it the "
            "subsystem sftp."
        )
    return SourceBusy(
        f"{host} broke the connection off ({type(error).__name__}). Nothing was lost; it is tried again later."
    )


def _trusted(host: str, port: int, network: Network, expected: tuple[str, ...]) -> paramiko.Transport:
    """A connection to the server that has one of the keys; a server may have one of each kind."""
    seen: list[str] = []
    for kind in ("ssh-ed25519", "ecdsa", "rsa"):
        transport = _shaken(host, port, network, kind)
        if transport is None:
            continue
        shown = fingerprint(transport.get_remote_server_key().asbytes())
        if shown in expected:
            return transport
        seen.append(shown)
        transport.close()
    raise SourceRefused(
        f"{host} shows another host key than the expected one ({', '.join(seen) or 'none we know'}). Nothing was "
        "sent to it. If the server was set up anew, enter its new key; if not, somebody may be posing as it."
    )


def _shaken(host: str, port: int, network: Network, kind: str) -> paramiko.Transport | None:
    """A connection whose server showed its key of this kind; None if it has none."""
    sock = network.connect(host, port, timeout=CONNECT_TIMEOUT)
    try:
        transport = paramiko.Transport(sock)
        transport.banner_timeout = transport.handshake_timeout = CONNECT_TIMEOUT
        options = transport.get_security_options()
        options.key_types = tuple(name for name in options.key_types if name.startswith(kind))
    except BaseException:
        sock.close()
        raise
    try:
        transport.start_client(timeout=TIMEOUT)
    except (paramiko.SSHException, OSError, EOFError) as error:
        transport.close()
        sock.close()
        if isinstance(error, IncompatiblePeer):
            return None
        raise SourceBusy(
            f"{host} does not answer as an SSH server ({type(error).__name__}). Nothing was lost; it is tried "
            "again later. Is the port right?"
        ) from error
    return transport


def _load(text: str, passphrase: str) -> paramiko.PKey:
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text.strip() + "\n"), passphrase or None)
        except (paramiko.SSHException, ValueError, IndexError):
            continue
    raise SourceRefused(
        "The private key can't be used: it is none of Ed25519, ECDSA and RSA, or its passphrase is another one. "
        "Nothing was sent; enter the whole text of the key's file."
    )


class _Sftp(paramiko.SFTPClient):
    """The requests themselves; errors are paramiko's."""

    # What the library's stubs leave out.
    _request: Callable[..., tuple[int, Any]]
    _async_request: Callable[..., int]
    _read_response: Callable[..., Any]
    _convert_status: Callable[[Any], None]

    def realpath(self, path: bytes) -> bytes:
        _, message = self._request(CMD_REALPATH, path)
        message.get_int()
        return message.get_string()

    def look(self, path: bytes) -> Attributes:
        _, message = self._request(CMD_LSTAT, path)
        return _attributes(message)

    def entries(self, path: bytes) -> list[tuple[bytes, Attributes]]:
        _, message = self._request(CMD_OPENDIR, path)
        handle = message.get_string()
        found: list[tuple[bytes, Attributes]] = []
        try:
            while True:
                _, message = self._request(CMD_READDIR, handle)
                for _ in range(message.get_int()):
                    name = message.get_string()
                    message.get_string()  # as ls -l would show it
                    found.append((name, _attributes(message)))
        except EOFError:
            return found
        finally:
            self._request(CMD_CLOSE, handle)

    def fetch(self, path: bytes, limit: int) -> bytes:
        _, message = self._request(CMD_OPEN, path, SFTP_FLAG_READ, paramiko.SFTPAttributes())
        handle = message.get_string()
        try:
            return self._pieces(handle, limit)
        finally:
            self._request(CMD_CLOSE, handle)

    def _pieces(self, handle: bytes, limit: int) -> bytes:
        body = bytearray()
        answers = _Answers()
        asked: list[int] = []
        ahead = 1  # most files are small: only what did not end with the first piece is read ahead
        position = 0
        while True:
            while len(asked) < ahead:
                asked.append(self._async_request(answers, CMD_READ, handle, int64(position), PIECE))
                position += PIECE
            number = asked.pop(0)
            while number not in answers.come:
                self._read_response()
            kind, message = answers.come.pop(number)
            piece = b""
            if kind == CMD_STATUS:
                try:
                    self._convert_status(message)
                except EOFError:
                    break
            elif kind == CMD_DATA:
                piece = message.get_string()
            body += piece
            if len(body) > limit:
                raise ItemError(
                    f"It is larger than {limit / 2**20:,.0f} MB. It was not read; exclude it, or raise the limit."
                )
            if len(piece) < PIECE:  # the end, or a server that gives less at a time: ask from there
                self._finish(answers, asked)
                position, ahead = len(body), 1
            else:
                ahead = AHEAD
        self._finish(answers, asked)
        return bytes(body)

    def _finish(self, answers: _Answers, asked: list[int]) -> None:
        """Wait for what is still to come, so that nothing mistakes it for its own answer."""
        while asked:
            if answers.come.pop(asked[0], None) is None:
                self._read_response()
            else:
                asked.pop(0)


class _Answers:
    """Takes the answers to requests that were sent ahead, in whatever order they come."""

    def __init__(self) -> None:
        self.come: dict[int, tuple[int, Any]] = {}

    def _async_response(self, kind: int, message: Any, number: int) -> None:
        self.come[number] = (kind, message)


def _attributes(message: Any) -> Attributes:
    attributes: Any = paramiko.SFTPAttributes
    found = attributes._from_msg(message)
    return Attributes(
        mode=found.st_mode or 0,
        owner=OVERFLOW_ID if found.st_uid is None else found.st_uid,
        group=OVERFLOW_ID if found.st_gid is None else found.st_gid,
        size=found.st_size or 0,
        modified=found.st_mtime or 0,
    )
