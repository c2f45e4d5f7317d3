"""What the in-process servers of vendors' protocols share: routing, JSON, and a record of what was wrong.

Such a server answers what the vendor documents and nothing else. A call that is not
documented gets an error, as from the vendor, and is written into `violations`, which
every test expects to be empty at its end.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    base: str
    """scheme and host as the client wrote them, for links"""


@dataclass
class Reply:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


class Refused(Exception):
    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.reply = Reply(status, body, headers or {})


Route = Callable[..., Any]


class ProtocolServer:
    """Subclasses fill `routes`: (pattern of the path, names of documented parameters, handler)."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.violations: list[str] = []
        self.calls: list[str] = []
        self.refuse: dict[str, Reply] = {}
        """what paths with such an end are answered with"""
        self.routes: list[tuple[re.Pattern[str], frozenset[str], Route]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # the whole answer at once

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                pairs = parse_qsl(url.query, keep_blank_values=True)
                request = Request(self.command, url.path, dict(pairs), headers, f"http://{headers['host']}")
                with outer.lock:
                    outer.calls.append(self.path)
                    if len(request.query) != len(pairs):
                        outer.violations.append(f"a parameter twice: {self.path}")
                    try:
                        ends = [end for end in outer.refuse if url.path.endswith(end)]
                        reply = outer.refuse[ends[0]] if ends else outer.answer(request)
                    except Refused as refused:
                        reply = refused.reply
                content = reply.content()
                self.send_response(reply.status)
                names = {name.lower() for name in reply.headers}
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if "content-type" not in names:
                    self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

            do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

            def log_message(self, format: str, *args: object) -> None: ...

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that gave up is what is being tested."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def route(self, pattern: str, parameters: str, handler: Route) -> None:
        self.routes.append((re.compile(pattern), frozenset(parameters.split()), handler))

    def answer(self, request: Request) -> Reply:
        raise NotImplementedError

    def dispatch(self, request: Request) -> Reply:
        """The route's answer; what is undocumented is refused and remembered."""
        for pattern, parameters, handler in self.routes:
            found = pattern.fullmatch(request.path)
            if not found:
                continue
            if request.method != "GET":
                raise self.violation(405, f"{request.method} {request.path}")
            unknown = set(request.query) - parameters
            if unknown:
                raise self.violation(400, f"parameters {sorted(unknown)} of {request.path}")
            result = handler(request, *(int(g) if g and g.isdigit() else g for g in found.groups()))
            return result if isinstance(result, Reply) else Reply(200, result)
        raise self.violation(404, f"path {request.path}")

    def violation(self, status: int, what: str) -> Refused:
        self.violations.append(what)
        return Refused(status, {"error": "undocumented", "description": what})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
