"""WebDAV servers that a test writes itself: any answer at all, and folders with ETags that propagate."""

from __future__ import annotations

import http.server
import itertools
import threading
from collections.abc import Callable
from html import escape
from urllib.parse import quote, unquote

Answer = tuple[int, dict[str, str], bytes]


class Answering:
    """A server on a loopback port of its own; `answer(method, path, depth)` says what it answers."""

    def __init__(self, answer: Callable[[str, str, str], Answer]) -> None:
        self.requests: list[tuple[str, str, str]] = []
        """method, path and Authorization of each"""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
                status, headers, body = answer(self.command, self.path, self.headers.get("Depth", ""))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None: ...

        for method in ("GET", "PROPFIND"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def multistatus(*resources: str) -> Answer:
    body = (
        '<?xml version="1.0"?><d:multistatus xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" '
        f'xmlns:nc="http://nextcloud.org/ns">{"".join(resources)}</d:multistatus>'
    )
    return 207, {"Content-Type": "application/xml; charset=utf-8"}, body.encode()


def resource(
    href: str, *, folder: bool = False, etag: str = '"1"', size: int = 1, props: str = "", status: int = 200
) -> str:
    kind = "<d:collection/>" if folder else ""
    length = "" if folder else f"<d:getcontentlength>{size}</d:getcontentlength>"
    return (
        f"<d:response><d:href>{escape(href)}</d:href><d:propstat><d:prop><d:resourcetype>{kind}</d:resourcetype>"
        f"<d:getetag>{escape(etag)}</d:getetag>{length}{props}"
        "<d:getlastmodified>Mon, 12 Jan 2026 10:00:00 GMT</d:getlastmodified>"
        f"</d:prop><d:status>HTTP/1.1 {status} OK</d:status></d:propstat></d:response>"
    )


class Cloud:
    """Files as Nextcloud shows them: ids that outlive a move, and ETags that climb to the top."""

    def __init__(self, root: str = "/remote.php/dav/files/bot") -> None:
        self.root = root
        self.files: dict[str, tuple[int, int, str, str]] = {}
        """path → id, version, text, checksum"""
        self.mounted: set[str] = set()
        self._numbers = itertools.count(1)
        self.server = Answering(self._answer)

    def write(self, path: str, text: str, *, checksum: str = "") -> None:
        number = self.files[path][0] if path in self.files else next(self._numbers)
        self.files[path] = (number, next(self._numbers), text, checksum)

    def move(self, old: str, new: str) -> None:
        self.files[new] = self.files.pop(old)

    def _answer(self, method: str, raw: str, depth: str) -> Answer:
        path = unquote(raw).removeprefix(self.root).strip("/")
        if method == "GET":
            if path not in self.files:
                return 404, {}, b""
            _, version, text, _ = self.files[path]
            return 200, {"ETag": f'"{version}"'}, text.encode()
        if path in self.files:
            return multistatus(self._shown(path))
        start = f"{path}/" if path else ""
        inside = sorted(
            {start + file[len(start) :].split("/")[0] for file in self.files if file.startswith(start)}
        )
        if not inside:
            return 404, {}, b""
        return multistatus(self._shown(path), *(self._shown(item) for item in inside if depth == "1"))

    def _shown(self, path: str) -> str:
        href = f"{self.root}/{quote(path)}"
        if path in self.files:
            number, version, text, checksum = self.files[path]
            props = f"<oc:fileid>{number}</oc:fileid><oc:permissions>RGDNVW</oc:permissions>"
            if checksum:
                props += f"<oc:checksums><oc:checksum>{checksum}</oc:checksum></oc:checksums>"
            return resource(href, etag=f'"{version}"', size=len(text.encode()), props=props)
        start = f"{path}/" if path else ""
        # A mount does not tell those above it what changed in it.
        newest = (
            max(
                version
                for file, (_, version, _, _) in self.files.items()
                if file.startswith(start)
                and not any(file.startswith(f"{m}/") and not start.startswith(f"{m}/") for m in self.mounted)
            )
            if any(file.startswith(start) for file in self.files) and path not in self.mounted
            else 0
        )
        count = sum(file.startswith(start) for file in self.files) if path not in self.mounted else 0
        rights = "RGDNVCKM" if path in self.mounted else "RGDNVCK"
        props = f"<oc:fileid>9{len(path)}</oc:fileid><oc:permissions>{rights}</oc:permissions>"
        return resource(f"{href}/".replace("//", "/"), folder=True, etag=f'"{newest}.{count}"', props=props)
