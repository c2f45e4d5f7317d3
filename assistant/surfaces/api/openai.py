"""What speaks OpenAI's protocol can ask Deskhand: `/v1/models` and `/v1/chat/completions`.

The same engine, tokens and permissions as everywhere. Instructions of a client (`system`,
`developer`) are not followed and tools are not called: an answer rests on the sources alone.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Annotated, Any, Literal

import anyio
import structlog
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from assistant.answer.events import Done, TextDelta
from assistant.app import Assistant
from assistant.errors import DeskhandError, NotThere, QuestionRejected
from assistant.generate import base
from assistant.model import Answer, Turn
from assistant.surfaces.api import limits
from assistant.surfaces.api.access import Caller, Desk, Role, needs
from assistant.surfaces.api.problems import status
from assistant.surfaces.api.wire import Line, Text
from assistant.surfaces.asking import Asking
from assistant.text.sentences import safe_url

INTERNAL, PUBLIC = "deskhand", "deskhand-public"
MODELS = (INTERNAL, PUBLIC)
"""from all that the asking person may read; from what may be told to a customer"""
KINDS = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", "insufficient_permissions"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
"""status → type and code of an error, as OpenAI's clients know them"""

log = structlog.get_logger()


class OpenAIRoute(APIRoute):
    """Errors in the shape that OpenAI's clients read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except HTTPException as error:
                return _problem(error.status_code, str(error.detail))
            except RequestValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"][1:])
                return _problem(400, f"This request is not usable: {place}: {first['msg']}.", param=place)
            except DeskhandError as error:
                return _problem(status(error), str(error))

        return handled


router = APIRouter(prefix="/v1", tags=["OpenAI-compatible"], route_class=OpenAIRoute)
Asker = Annotated[Caller, Depends(needs(Role.AGENT, "chat"))]


class Part(BaseModel):
    type: str
    text: Text | None = None


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[Part] | None = None


class StreamOptions(BaseModel):
    include_usage: bool = False


class Completion(BaseModel):
    """A request. What isn't named here (temperature, tools, …) is accepted and changes nothing."""

    model: Line
    messages: list[Message] = Field(min_length=1, max_length=500)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    metadata: dict[str, Text] | None = None
    """`customer` (name, id or domain) and `ticket` (number or address), whom the question is about"""


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "deskhand"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models")
def list_models(_: Asker) -> ModelList:
    """`deskhand` answers from all that you may read, `deskhand-public` from what a customer may be told."""
    return ModelList(data=[Model(id=name) for name in MODELS])


@router.get("/models/{model}")
def get_model(model: str, _: Asker) -> Model:
    return Model(id=_known(model))


@router.post("/chat/completions", response_model=None)
def complete(wanted: Completion, request: Request, caller: Asker, assistant: Desk) -> Response:
    """Answer the last message, with the ones before it as the conversation; sources are `url_citation`s.

    A question that the sources don't answer is declined in words, with `deskhand.declined`.
    """
    question, history = _asked(wanted)
    about = wanted.metadata or {}
    public = _known(wanted.model) == PUBLIC
    limits.count(assistant.settings, "questions", caller.principal.id)
    asking = Asking(
        assistant,
        caller.principal,
        question,
        customer=about.get("customer") or None,
        ticket=about.get("ticket", ""),
        public=public,
        history=history,
        surface="api",
    )
    reply = _Reply(wanted, asking, assistant, str(request.base_url))
    if wanted.stream:
        return StreamingResponse(_ended(reply.chunks()), media_type="text/event-stream")
    return JSONResponse(reply.whole())


class _Reply:
    """One answer in OpenAI's words."""

    def __init__(self, wanted: Completion, asking: Asking, assistant: Assistant, home: str) -> None:
        self._wanted, self._asking, self._assistant, self._home = wanted, asking, assistant, home
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": wanted.model,
        }

    def whole(self) -> dict[str, Any]:
        *_, done = self._asking.events()
        assert isinstance(done, Done)  # noqa: S101 - a stream ends with it
        answer = done.answer
        message = {
            "role": "assistant",
            "content": answer.text,
            "refusal": None,
            "annotations": self._annotations(answer),
        }
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage(answer),
            "deskhand": self._more(answer),
        }

    def chunks(self) -> Generator[str]:
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            for event in self._asking.events():
                if isinstance(event, TextDelta):
                    yield self._chunk({"content": event.text})
                elif isinstance(event, Done):
                    yield from self._last(event.answer)
        except DeskhandError as error:
            yield _event(_error(status(error), str(error)))
        except Exception:
            log.exception("openai.unforeseen")
            yield _event(_error(500, "An error that Deskhand did not foresee. Nothing is lost; ask again."))
        yield "data: [DONE]\n\n"

    def _last(self, answer: Answer) -> Generator[str]:
        more = {"deskhand": self._more(answer)}
        yield self._chunk({"annotations": self._annotations(answer)}, finish="stop", **more)
        if self._wanted.stream_options and self._wanted.stream_options.include_usage:
            usage = {"choices": [], "usage": self._usage(answer)}
            yield _event({**self._head, "object": "chat.completion.chunk", **usage})

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return _event({**self._head, "object": "chat.completion.chunk", "choices": [choice], **more})

    def _annotations(self, answer: Answer) -> list[dict[str, Any]]:
        """Each cited sentence with its source; one without an address of its own leads to the answer in Deskhand."""
        here = f"{self._home}c/{self._asking.conversation}"
        return [
            {
                "type": "url_citation",
                "url_citation": {
                    "start_index": citation.span[0],
                    "end_index": citation.span[1],
                    "title": citation.passage.title,
                    "url": safe_url(citation.passage.url) or here,
                },
            }
            for citation in answer.citations
        ]

    def _usage(self, answer: Answer) -> dict[str, int]:
        model = self._assistant.generator
        read = sum(base.count_tokens(model, _text(message)) for message in self._wanted.messages)
        written = base.count_tokens(model, answer.text)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _more(self, answer: Answer) -> dict[str, Any]:
        """What OpenAI's protocol has no place for."""
        return {
            "declined": bool(answer.refusal),
            "confidence": round(answer.confidence, 4),
            "model": answer.model,
            "conversation": str(self._asking.conversation),
            "message": self._asking.message,
        }


def _known(model: str) -> str:
    if model not in MODELS:
        raise NotThere(
            f"There is no model «{model}». Nothing was asked; use {' or '.join(MODELS)} (GET /v1/models lists them)."
        )
    return model


def _asked(wanted: Completion) -> tuple[str, list[Turn]]:
    """The question and what was said before it. Raises `QuestionRejected`."""
    *before, last = wanted.messages
    if last.role != "user":
        raise QuestionRejected("The last message is not a user's, so there is no question. Nothing was sent.")
    turns = [
        Turn(m.role, text) for m in before if m.role in ("user", "assistant") and (text := _text(m).strip())
    ]
    return _text(last), turns


def _text(message: Message) -> str:
    if isinstance(message.content, str) or message.content is None:
        return message.content or ""
    if any(part.type not in ("text", "input_text") for part in message.content):
        raise QuestionRejected(
            "A message has a part that is no text, and only text is read. Nothing was sent."
        )
    return "\n".join(part.text or "" for part in message.content)


async def _ended(chunks: Generator[str]) -> AsyncGenerator[str]:
    """As a stream whose end, also an early one, ends what makes it."""
    try:
        while (piece := await run_in_threadpool(next, chunks, None)) is not None:
            yield piece
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(chunks.close)


def _event(value: Any) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _error(code: int, message: str, *, param: str | None = None) -> dict[str, Any]:
    kind, name = KINDS.get(code, ("server_error" if code >= 500 else "invalid_request_error", None))
    return {"error": {"message": message, "type": kind, "param": param, "code": name}}


def _problem(code: int, message: str, *, param: str | None = None) -> JSONResponse:
    return JSONResponse(_error(code, message, param=param), status_code=code)
