"""Errors as responses: which status each has, and one shape for all."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from assistant.errors import (
    DeskhandError,
    LockedOut,
    ModelUnavailable,
    NotRunning,
    NotThere,
    SignInRefused,
    SourceError,
)

STATUS: tuple[tuple[type[DeskhandError], int], ...] = (
    (NotRunning, 503),
    (ModelUnavailable, 503),
    (SourceError, 502),
    (NotThere, 404),
    (LockedOut, 429),
    (SignInRefused, 401),
    (DeskhandError, 400),
)
"""the first that fits"""


def status(error: DeskhandError) -> int:
    return next(code for kind, code in STATUS if isinstance(error, kind))


def problem(code: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=code)
