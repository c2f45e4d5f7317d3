"""Which generator a name in the settings means. A new kind is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from langchain_core.language_models import BaseChatModel

from assistant.config import Settings
from assistant.errors import ConfigError
from assistant.generate.base import Tuned

GENERATORS = {
    "local": "assistant.generate.local:from_settings",
    "transformers": "assistant.generate.transformers_peft:from_settings",
    "echo": "assistant.generate.echo:from_settings",
}
TUNABLE = ("local", "transformers")
"""those that can be a fine-tuned version of their model"""
PROVIDER = "assistant.generate.chat_model:from_settings"
"""Everything of the form `provider:model`"""


def generator(settings: Settings, tuned: Tuned | None = None) -> BaseChatModel:
    """The generator `settings.generator` names; one of `TUNABLE` as this fine-tuned version.

    Raises `ConfigError` for a name that means nothing or a provider whose package
    is not installed, `ModelUnavailable` when a local model's weights are absent.
    """
    place = GENERATORS.get(settings.generator, PROVIDER if ":" in settings.generator else None)
    if place is None:
        raise ConfigError(
            f"There is no generator called {settings.generator!r}. Nothing was started. "
            f"Set DESKHAND_GENERATOR to {', '.join(GENERATORS)} or to a provider and its model, "
            "such as openai:gpt-5-mini."
        )
    module, _, function = place.partition(":")
    build = cast(Callable[..., BaseChatModel], getattr(import_module(module), function))
    return build(settings, tuned) if tuned and settings.generator in TUNABLE else build(settings)
