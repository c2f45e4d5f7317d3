"""The web app's files; any address of a page gets `index.html`, and the app finds its way from there."""

from __future__ import annotations

from pathlib import Path

from fastapi import HTTPException
from starlette.exceptions import HTTPException as Missing
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parents[1] / "web" / "static"
NO_PAGES = ("api", "assets", "hooks", "mcp", "v1")
"""what these begin with is no page: a wrong address there is an error, not the app"""


class Pages(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        first = path.partition("/")[0]
        try:
            response = await super().get_response(path, scope)
        except Missing as error:
            if error.status_code != 404 or first in NO_PAGES:
                raise HTTPException(error.status_code, "There is nothing at this address.") from None
            response = await super().get_response("index.html", scope)
        # Names under assets/ have a hash of their content; all else may change with the next version.
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if first == "assets" else "no-cache"
        )
        return response
