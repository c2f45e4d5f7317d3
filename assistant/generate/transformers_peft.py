"""The local model on transformers, with fine-tuned versions as PEFT adapters that are switched while it runs.

For machines with a GPU, and for models that the default runtime can't read. Needs the
extra `[tune]`: torch and its like are imported here, inside functions, and nowhere else
in what serves.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# torch and its like are an extra, which a checker need not have

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import BaseMessage

from assistant import weights
from assistant.config import Settings
from assistant.errors import ConfigError, ModelUnavailable
from assistant.generate.base import PieceChat, Trust, Tuned, check_length, spoken

PACKAGES = ("torch", "transformers", "peft")


class TransformersChat(PieceChat):
    """The base model, or one of its adapters. Greedy, one answer at a time; further callers wait their turn.

    Closing the stream stops the generation at the next token.
    """

    place: str
    """known weights, a GGUF file, a folder, or a name on a hub"""
    models: Path
    adapter: Path | None = None
    """folder of the adapter that answers"""
    model_name: str = "transformers"
    context_tokens: int = 8_192
    answer_tokens: int = 256
    prompt_tokens: int = 1_500
    quotes: bool = True
    rewrites: bool = False
    trust: Trust = Trust()

    @property
    def _llm_type(self) -> str:
        return "deskhand-transformers"

    def _resolve_model_profile(self) -> ModelProfile:
        return ModelProfile(max_input_tokens=self.context_tokens, max_output_tokens=self.answer_tokens)

    def runtime(self) -> Runtime:
        """The loaded base, which all its versions share. Raises `ModelUnavailable`."""
        return _runtime(self.place, self.models)

    def get_num_tokens(self, text: str) -> int:
        return len(self.runtime().tokenizer(text, add_special_tokens=False).input_ids)

    def pieces(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> Generator[str]:
        runtime = self.runtime()
        prompt = runtime.tokenizer.apply_chat_template(
            spoken(messages), add_generation_prompt=True, tokenize=False
        )
        answer_tokens = int(kwargs.get("max_tokens", self.answer_tokens))
        check_length(self.get_num_tokens(prompt), self.context_tokens - answer_tokens)
        with (
            runtime.using(self.model_name, self.adapter) as model,
            runtime.writing(model, prompt, answer_tokens) as pieces,
        ):
            yield from _until(pieces, stop or [])


class Runtime:
    """A base model in memory, the adapters it has met, and whose turn it is."""

    def __init__(self, place: str, models: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        cuda = torch.cuda.is_available()
        source, options = _source(place, models)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(source, **options)
            model: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=torch.bfloat16 if bf16() else torch.float32, use_safetensors=True, **options
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelUnavailable(
                f"The model {place} would not load ({str(error).strip().splitlines()[0]}). Nothing was lost. Check "
                "DESKHAND_LOCAL_MODEL: known weights, a GGUF file, a folder with safetensors or a name on a hub."
            ) from error
        self._model: Any = model.to("cuda" if cuda else "cpu").eval()
        self._turn = threading.Lock()
        self._adapters: dict[str, Path] = {}

    @contextmanager
    def using(self, name: str, adapter: Path | None) -> Generator[Any]:
        """The model with that adapter and no other, for one answer."""
        from peft import PeftModel

        with self._turn:
            if adapter is None:
                if not self._adapters:
                    yield self._model
                    return
                with self._model.disable_adapter():
                    yield self._model
                return
            if not self._adapters:
                self._model = PeftModel.from_pretrained(self._model, str(adapter), adapter_name=name)
            elif name not in self._adapters:
                self._model.load_adapter(str(adapter), adapter_name=name)
            self._adapters[name] = adapter
            self._model.set_adapter(name, inference_mode=True)
            yield self._model

    @contextmanager
    def writing(self, model: Any, prompt: str, tokens: int) -> Generator[Generator[str]]:
        """Pieces of text as a thread of its own writes them, which leaving the block stops."""
        import torch
        from transformers import StoppingCriteria, TextIteratorStreamer

        cancelled = threading.Event()
        failures: list[Exception] = []

        class Stop(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
                return torch.full((input_ids.shape[0],), cancelled.is_set(), device=input_ids.device)

        streamer: Any = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        inputs = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=False).to(model.device)

        def work() -> None:
            try:
                with torch.inference_mode():
                    model.generate(
                        **inputs,
                        max_new_tokens=tokens,
                        do_sample=False,
                        streamer=streamer,
                        stopping_criteria=[Stop()],
                    )
            except Exception as error:  # handed to the caller's thread, which raises it
                failures.append(error)
                streamer.end()

        def read() -> Generator[str]:
            yield from (piece for piece in streamer if piece)
            if failures:
                raise ModelUnavailable(
                    f"The model failed while answering ({failures[0]}). Nothing was lost; ask again."
                ) from failures[0]

        thread = threading.Thread(target=work, name="generator", daemon=True)
        thread.start()
        try:
            yield read()
        finally:
            cancelled.set()
            thread.join()


def from_settings(settings: Settings, tuned: Tuned | None = None) -> TransformersChat:
    """The generator of `settings.local_model`, or of a version of it. The model is loaded at its first use.

    Raises `ConfigError` where the extra `[tune]` is not installed.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ConfigError(
            f"The generator «transformers» needs {', '.join(missing)}, which a plain installation leaves out. "
            "Nothing was started; run `pip install 'deskhand[tune]'`, or set DESKHAND_GENERATOR to local."
        )
    options: dict[str, Any] = {"place": settings.local_model, "models": settings.models_folder}
    if tuned is None:
        return TransformersChat(model_name=settings.local_model, **options)
    return TransformersChat(adapter=tuned.folder, **options, **tuned.options())


def bf16() -> bool:
    """Whether this machine computes with bfloat16; where it only pretends to, float32 is faster."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return any(flag in flags for flag in ("amx_bf16", "avx512_bf16", " bf16"))


_loading = threading.Lock()


def _runtime(place: str, models: Path) -> Runtime:
    with _loading:
        return _loaded(place, models)


@cache
def _loaded(place: str, models: Path) -> Runtime:
    return Runtime(place, models)


def _source(place: str, models: Path) -> tuple[str | Path, dict[str, Any]]:
    """What transformers is to load, and with which options."""
    if place in weights.KNOWN:
        gguf = weights.path(place, Settings(models=models))
    elif place.endswith(".gguf"):
        gguf = Path(place)
    else:
        return place, {}
    return gguf.parent, {"gguf_file": gguf.name}


def _until(pieces: Generator[str], stop: list[str]) -> Generator[str]:
    """The text before the first of the strings in `stop`, of which not even a beginning is let out."""
    said, sent = "", 0
    held = max((len(text) for text in stop), default=1) - 1
    for piece in pieces:
        said += piece
        if found := [place for text in stop if (place := said.find(text)) >= 0]:
            yield said[sent : min(found)]
            return
        if len(said) - held > sent:
            yield said[sent : len(said) - held]
            sent = len(said) - held
    if said[sent:]:
        yield said[sent:]
