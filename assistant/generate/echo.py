"""A generator for tests: it repeats the first sentence of the first source, and cites it.

It obeys the prompt's shape like a perfect model would, at once and always the same way.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import BaseMessage
from pydantic import Field

from assistant.config import Settings
from assistant.generate.base import PieceChat, Trust


class EchoChat(PieceChat):
    """Answers with the first sentence of the first source, or with `reply` when a test sets one."""

    model_name: str = "echo"
    reply: str = ""
    quotes: bool = False
    trust: Trust = Trust()
    profile: ModelProfile | None = Field(
        default_factory=lambda: ModelProfile(max_input_tokens=8_192, max_output_tokens=512), exclude=True
    )

    @property
    def _llm_type(self) -> str:
        return "deskhand-echo"

    def get_num_tokens(self, text: str) -> int:
        return len(re.findall(r"\w+|[^\w\s]", text))

    def pieces(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> Generator[str]:
        yield from re.findall(r"\s*\S+", self._text(messages))

    def _text(self, messages: list[BaseMessage]) -> str:
        if self.reply:
            return self.reply
        found = re.search(r"^\[1\][^\n]*\n(.+?[.!?])(?=\s|$)", messages[-1].text, re.MULTILINE | re.DOTALL)
        return f"{found.group(1).strip()} [1]" if found else messages[-1].text.strip()


def from_settings(settings: Settings) -> EchoChat:
    return EchoChat()
