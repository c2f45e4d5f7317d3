"""What holds for every request and response: how large a body may be, and what a browser is told to refuse."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY = 2 * 2**20
"""bytes of a request; a route that takes files says how large those may be by itself"""
OWN_LIMIT = ("/api/v1/files", "/hooks/")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
PRIVATE = ("/api/", "/v1/", "/mcp", "/metrics")
"""no copy of what is answered there is kept on the way"""
TLS_ONLY = "max-age=31536000"


class Guard:
    """The outermost layer. Pure ASGI, so that a stream is passed on piece by piece."""

    def __init__(self, app: ASGIApp, *, tls: bool = False) -> None:
        """`tls`: people reach it by https, whatever the proxy before it tells."""
        self.app = app
        self.tls = tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self.tls or scope["scheme"] == "https":
                    headers.setdefault("Strict-Transport-Security", TLS_ONLY)
                if scope["path"].startswith(PRIVATE):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        limited = receive if scope["path"].startswith(OWN_LIMIT) else _limited(receive)
        await self.app(scope, limited, answer)


def _limited(receive: Receive) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > BODY:
            raise HTTPException(
                413, f"The request is larger than {BODY // 2**20} MB. Nothing was read or stored."
            )
        return message

    return counted
