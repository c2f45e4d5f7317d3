"""Any provider LangChain knows, and any server that speaks a provider's protocol (vLLM, Ollama …)."""

from __future__ import annotations

import re
from typing import Any

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel

from assistant.config import Settings
from assistant.errors import ConfigError

TIMEOUT_SECONDS = 120
REASONING = re.compile(r"(o\d|gpt-5)")
"""OpenAI's reasoning models answer 400 to any temperature but their own."""


def from_settings(settings: Settings) -> BaseChatModel:
    """The chat model `provider:model` of `settings.generator`, at temperature 0 where that is allowed.

    Raises `ConfigError` naming the package to install, the provider that does not
    exist, or the setting (key, base URL) the provider's package did not accept.
    """
    provider, _, model = settings.generator.partition(":")
    options: dict[str, Any] = {"timeout": TIMEOUT_SECONDS}
    if not REASONING.match(model):
        options["temperature"] = 0
    if settings.generator_base_url:
        options["base_url"] = settings.generator_base_url
    if settings.generator_api_key:
        options["api_key"] = settings.generator_api_key.get_secret_value()
    elif settings.generator_base_url:
        # A server of one's own wants no key, but the providers' packages refuse to start without.
        options["api_key"] = "none"
    try:
        return init_chat_model(model, model_provider=provider, **options)
    except ImportError as error:
        named = re.search(r"pip install ([\w.-]+)", str(error))
        package = named.group(1) if named else f"langchain-{provider.replace('_', '-')}"
        raise ConfigError(
            f"The generator {settings.generator} needs a package that is not installed. Nothing was started. "
            f"Install it with `pip install {package}`."
        ) from error
    except Exception as error:  # each provider's package has its own errors for a missing key or a bad URL
        raise ConfigError(
            f"The generator {settings.generator} could not be set up: {_first_line(error)} "
            "Nothing was started. Check DESKHAND_GENERATOR, DESKHAND_GENERATOR_API_KEY and "
            "DESKHAND_GENERATOR_BASE_URL."
        ) from error


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if line.endswith(".") else line + "."
