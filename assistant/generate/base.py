"""What Deskhand asks of a generator beside LangChain's `BaseChatModel`: its limits, and how far to trust it.

A generator is any `BaseChatModel` that streams. Its `profile` says how much it can
read; `quotes` says that its own wording is not to be trusted over the sources'.
One of our own is a `PieceChat`; LlamaIndex takes any as `DeskLLM(model)`.
"""

from __future__ import annotations

import itertools
import math
import re
from abc import abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.llms.langchain import LangChainLLM

from assistant.errors import QuestionRejected

CONTROL = re.compile(r"<(?=\|?\w+\|?>)")
"""The opening of what could be a control token, such as <|im_end|>; a tokenizer would take it as one."""
ROLES = {"human": "user", "ai": "assistant", "system": "system"}
CHARACTERS_PER_TOKEN = 3
"""Below every tokenizer's mean for European languages, so that an estimate errs on the safe side."""
UNKNOWN_CONTEXT = 8_192
PROMPT_TOKENS = 6_000
"""Prompts for a provider are kept below this: more passages cost money and rarely help."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens a generator's prompt may have, and tokens it may answer with."""

    prompt: int
    answer: int


@dataclass(frozen=True, slots=True)
class Trust:
    """What a generator's own verdict adds to the log-odds that the sources have the answer.

    By default its answer tells nothing, since most answer whatever they are given, and its "no" settles it.
    """

    answers: float = 0.0
    declines: float = -math.inf


@dataclass(frozen=True, slots=True)
class Tuned:
    """A fine-tuned generator: where its adapter and its merged weights lie, and how it is asked."""

    name: str
    """how answers name it, such as `generator-3`"""
    folder: Path
    writes: bool = True
    """whether its own sentences are shown, those that hold; else it quotes like the model it came from"""
    prompt_tokens: int | None = None
    """of the prompts that it learnt from"""
    trust: Trust = Trust()
    """as measured on questions that it was not trained on"""

    def options(self) -> dict[str, Any]:
        """What a generator of ours is made with to be this one."""
        made = {"model_name": self.name, "quotes": not self.writes, "trust": self.trust}
        return made | ({"prompt_tokens": self.prompt_tokens} if self.prompt_tokens else {})


def limits(model: BaseChatModel) -> Limits:
    """What fits, from the model's own profile; a small local model states a smaller prompt for speed."""
    profile = model.profile or {}
    context = profile.get("max_input_tokens") or UNKNOWN_CONTEXT
    answer = min(profile.get("max_output_tokens") or 1_024, 1_024)
    wanted = getattr(model, "prompt_tokens", PROMPT_TOKENS)
    return Limits(prompt=min(wanted, context - answer), answer=answer)


def count_tokens(model: BaseChatModel, text: str) -> int:
    """Tokens of a text: exact where the model brings its tokenizer, else estimated from above.

    LangChain's own default loads a GPT-2 tokenizer from a hub, so it is never called.
    """
    if type(model).get_num_tokens is BaseChatModel.get_num_tokens:
        return len(text) // CHARACTERS_PER_TOKEN + 1
    return model.get_num_tokens(text)


def quotes(model: BaseChatModel) -> bool:
    """Whether answers should be quoted from the passages rather than written by this model."""
    return bool(getattr(model, "quotes", False))


def rewrites(model: BaseChatModel) -> bool:
    """Whether this model can be asked to put a follow-up into a question of its own; a small one can't."""
    return bool(getattr(model, "rewrites", not quotes(model)))


def trust(model: BaseChatModel) -> Trust:
    """How much this model's verdict counts beside what retrieval tells."""
    return getattr(model, "trust", Trust())


def name(model: BaseChatModel) -> str:
    """How an answer names the model that wrote it."""
    for attribute in ("model_name", "model"):
        if value := getattr(model, attribute, None):
            return str(value)
    return type(model).__name__


def spoken(messages: Sequence[BaseMessage]) -> list[dict[str, str]]:
    """Messages as chat templates take them, with nothing in them that the format could obey."""
    return [
        {"role": ROLES.get(message.type, "user"), "content": CONTROL.sub("‹", message.text)}
        for message in messages
    ]


def check_length(tokens: int, most: int) -> None:
    """Raises `QuestionRejected` for a prompt that the model can't read whole: it is never cut in silence."""
    if tokens > most:
        raise QuestionRejected(
            f"The question and its sources are {tokens} tokens long and the model reads {most}. Nothing was "
            "lost; ask in fewer words."
        )


class PieceChat(BaseChatModel):
    """LangChain's frame around a generator of our own, which only has to say its text piece by piece."""

    @abstractmethod
    def pieces(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> Generator[str]:
        """The answer's text as it comes. Closing the generator stops the work."""
        ...

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk]:
        with closing(self.pieces(messages, stop, **kwargs)) as pieces:
            # One that says nothing at all has answered, too; LangChain would take no chunk for a failure.
            for piece in itertools.chain(pieces, [""]):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
                if run_manager:
                    run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text = "".join(self.pieces(messages, stop, **kwargs))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=text))])


class DeskLLM(LangChainLLM):
    """LlamaIndex's view of a generator.

    The adapter's own conversion of messages and its metadata import
    `langchain_community` and `langchain_classic`, which it does not declare and
    nothing else here needs; and it guesses the context by class. So both are ours.
    """

    def __init__(self, model: BaseChatModel) -> None:
        super().__init__(llm=model)

    @classmethod
    def class_name(cls) -> str:
        return "DeskLLM"

    @property
    def model(self) -> BaseChatModel:
        return self._llm

    @property
    def metadata(self) -> LLMMetadata:
        fits = limits(self.model)
        return LLMMetadata(
            context_window=fits.prompt + fits.answer,
            num_output=fits.answer,
            is_chat_model=True,
            model_name=name(self.model),
        )

    @llm_chat_callback()  # pyright: ignore[reportUntypedFunctionDecorator]  # it keeps the signature
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        reply = self.model.invoke(_to_langchain(messages), **kwargs)
        return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=reply.text))

    @llm_chat_callback()  # pyright: ignore[reportUntypedFunctionDecorator]  # it keeps the signature
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        def pieces() -> ChatResponseGen:
            text = ""
            for chunk in self.model.stream(_to_langchain(messages), **kwargs):
                text += chunk.text
                message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
                yield ChatResponse(message=message, delta=chunk.text)

        return pieces()


def _to_langchain(messages: Sequence[ChatMessage]) -> list[BaseMessage]:
    """Roles mean the same on both sides; anything unknown is what a user said."""
    kinds = {MessageRole.SYSTEM: SystemMessage, MessageRole.ASSISTANT: AIMessage}
    return [kinds.get(message.role, HumanMessage)(content=message.content or "") for message in messages]
