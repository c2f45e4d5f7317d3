"""Proxies that misbehave as networks and servers do, between a connector and a real server.

`HttpFaults` understands requests and can answer in the server's place; `TcpFaults`
only cuts connections, whatever they carry. A `plan` is asked with a running number
what to do about each request or connection; None lets it pass.
"""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Literal["status", "drop", "truncate", "stall"]
    """answer with `status`; close without a word; send half the body; say nothing for `seconds`"""
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float = 5.0


Plan = Callable[[int], Fault | None]


def never(_number: int) -> Fault | None:
    return None


def every(nth: int, fault: Fault) -> Plan:
    """`fault` for each `nth` request, beginning with that number."""
    return lambda number: fault if number % nth == 0 else None


class HttpFaults:
    """An HTTP proxy on a loopback port of its own, before the server on `upstream`."""

    def __init__(self, upstream: int, *, host: str = "127.0.0.1") -> None:
        self.plan: Plan = never
        self.requests = 0
        self.paths: list[str] = []
        self._lock = threading.Lock()
        own = type("Handler", (_Handler,), {"outer": self, "upstream": (host, upstream)})

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that gave up is what is being tested."""

        self._server = Server(("127.0.0.1", 0), own)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request: passed on to the upstream server, or met with the planned fault."""

    outer: HttpFaults
    upstream: tuple[str, int]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for its head to be acknowledged

    def handle_any(self) -> None:
        with self.outer._lock:
            self.outer.requests += 1
            self.outer.paths.append(f"{self.command} {self.path}")
            fault = self.outer.plan(self.outer.requests)
        body = self._body()
        if fault is not None and fault.kind in ("drop", "stall"):
            time.sleep(fault.seconds if fault.kind == "stall" else 0)
            self.close_connection = True
            return
        if fault is not None and fault.kind == "status":
            self.send_response(fault.status)
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = http.client.HTTPConnection(*self.upstream, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP | {"content-length"}:
                self.send_header(name, value)
        length = content if self.command != "HEAD" else b""
        self.send_header("Content-Length", str(len(length)))
        self.end_headers()
        if fault is not None and fault.kind == "truncate" and len(content) > 1:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(length)

    def _body(self) -> bytes | None:
        size = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(size) if size else None

    def log_message(self, format: str, *args: object) -> None: ...


for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "PROPFIND", "OPTIONS", "REPORT", "SEARCH"):
    setattr(_Handler, f"do_{method}", _Handler.handle_any)


class TcpFaults:
    """A TCP proxy on a loopback port of its own, before the server on `upstream`.

    A planned fault cuts that connection once `after` bytes came from the server; a
    `stall` keeps it open in silence.
    """

    def __init__(self, upstream: int, *, host: str = "127.0.0.1", after: int = 4000) -> None:
        self.plan: Plan = never
        self.after = after
        self.requests = 0
        """connections so far"""
        self._upstream = (host, upstream)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.requests += 1
            threading.Thread(target=self._serve, args=(client, self.plan(self.requests)), daemon=True).start()

    def _serve(self, client: socket.socket, fault: Fault | None) -> None:
        try:
            server = socket.create_connection(self._upstream, timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        threading.Thread(target=_pump, args=(client, server, None), daemon=True).start()
        _pump(server, client, self.after if fault is not None else None)
        if fault is not None and fault.kind == "stall":
            time.sleep(fault.seconds)
        for side in (client, server):
            # Closed alone it would stay open for as long as the other direction is read.
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def close(self) -> None:
        # A blocked accept is only woken by shutting the socket down.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _pump(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    """Carry bytes from one to the other, at most `limit` of them."""
    sent = 0
    try:
        while piece := source.recv(65536):
            if limit is not None and sent + len(piece) > limit:
                target.sendall(piece[: limit - sent])
                return
            target.sendall(piece)
            sent += len(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
