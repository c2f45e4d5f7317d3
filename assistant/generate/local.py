"""The default generator: a small GGUF model on OpenVINO, on this machine's CPU, without torch.

OpenVINO's reader takes the file's 4-bit weights worse than its 8-bit ones and needs
seconds to build its graph from either, so the weights are requantised to 8 bits and
saved as an OpenVINO model once, beside the GGUF; later starts read that.
"""

from __future__ import annotations

import hashlib
import os
import queue
import re
import shutil
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import openvino_genai
import structlog
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import BaseMessage
from pydantic import PrivateAttr

from assistant import weights
from assistant.config import Settings
from assistant.errors import ModelUnavailable, QuestionRejected
from assistant.generate.base import PieceChat
from assistant.generate.gguf import rewrite

log = structlog.get_logger()

KV_BLOCKS = 512
"""Blocks of 32 tokens kept for reuse: ~16,000 tokens, ~190 MB. A prompt that begins like an earlier one
(the same instructions, the same passages of a follow-up) is then read in a tenth of the time."""
CONTROL = re.compile(r"<(?=\|?\w+\|?>)")
"""The opening of what could be a control token, such as <|im_end|>; the tokenizer would take it as one."""
ROLES = {"human": "user", "ai": "assistant", "system": "system"}


class LocalChat(PieceChat):
    """A chat model over one GGUF file. Greedy, one answer at a time; further callers wait their turn.

    Closing the stream (a client that went away) stops the generation at the next token.
    """

    gguf: Path
    threads: int = 0
    """cores; 0: all"""
    model_name: str = "local"
    context_tokens: int = 8_192
    answer_tokens: int = 256
    prompt_tokens: int = 1_500
    """Prompts are fitted into this: two cores read ~1,000 tokens a second before the first word appears."""
    quotes: bool = True

    _pipeline: openvino_genai.LLMPipeline | None = PrivateAttr(default=None)
    _loading: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _turn: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @property
    def _llm_type(self) -> str:
        return "deskhand-local"

    def _resolve_model_profile(self) -> ModelProfile:
        return ModelProfile(max_input_tokens=self.context_tokens, max_output_tokens=self.answer_tokens)

    def get_num_tokens(self, text: str) -> int:
        tokens = self.pipeline().get_tokenizer().encode(text, add_special_tokens=False)
        return int(tokens.input_ids.shape[1])

    def pipeline(self) -> openvino_genai.LLMPipeline:
        """The loaded model; the first call takes seconds. Raises `ModelUnavailable`."""
        with self._loading:
            if self._pipeline is None:
                self._pipeline = _load(self.gguf, self.threads or os.cpu_count() or 1)
            return self._pipeline

    def prompt(self, messages: list[BaseMessage]) -> str:
        """The messages in the model's own chat format, with nothing in them that the format could obey."""
        history = [
            {"role": ROLES.get(message.type, "user"), "content": CONTROL.sub("‹", message.text)}
            for message in messages
        ]
        # The binding accepts a list of dicts; its stub only names its own class.
        return (
            self.pipeline()
            .get_tokenizer()
            .apply_chat_template(cast(Any, history), add_generation_prompt=True)
        )

    def pieces(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> Generator[str]:
        prompt = self.prompt(messages)
        tokens = self.get_num_tokens(prompt)
        answer_tokens = int(kwargs.get("max_tokens", self.answer_tokens))
        if tokens + answer_tokens > self.context_tokens:
            raise QuestionRejected(
                f"The question and its sources are {tokens} tokens long and the model reads "
                f"{self.context_tokens - answer_tokens}. Nothing was lost; ask in fewer words."
            )
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = answer_tokens
        config.apply_chat_template = False
        config.stop_strings = set(stop or ())
        with self._turn, _running(self.pipeline(), prompt, config) as pieces:
            yield from pieces


def from_settings(settings: Settings) -> LocalChat:
    """The generator of `settings.local_model`: a known name, or the path of a GGUF file such as a tuned one.

    Raises `ModelUnavailable` when it is not there. The model is loaded at its first use.
    """
    if settings.local_model.endswith(".gguf"):
        gguf = Path(settings.local_model)
        if not gguf.is_file():
            raise ModelUnavailable(
                f"There is no model file {gguf}. Nothing else is affected; correct DESKHAND_LOCAL_MODEL."
            )
        return LocalChat(gguf=gguf, threads=settings.threads, model_name=gguf.stem)
    gguf = weights.path(settings.local_model, settings)
    return LocalChat(gguf=gguf, threads=settings.threads, model_name=settings.local_model)


@contextmanager
def _running(
    pipeline: openvino_genai.LLMPipeline, prompt: str, config: openvino_genai.GenerationConfig
) -> Generator[Generator[str]]:
    """Pieces of text as they are generated on a thread of their own, which leaving the block stops."""
    pieces: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()
    cancelled = threading.Event()

    def piece(text: str) -> int:
        pieces.put(text)
        status = openvino_genai.StreamingStatus
        return cast(int, status.CANCEL if cancelled.is_set() else status.RUNNING)

    def work() -> None:
        try:
            pipeline.generate(prompt, config, piece)
            pieces.put(None)
        except Exception as error:  # handed to the caller's thread, which raises it
            pieces.put(error)

    def read() -> Generator[str]:
        while (got := pieces.get()) is not None:
            if isinstance(got, Exception):
                raise ModelUnavailable(
                    f"The local model failed while answering ({got}). Nothing was lost; ask again."
                ) from got
            yield got

    thread = threading.Thread(target=work, name="generator", daemon=True)
    thread.start()
    try:
        yield read()
    finally:
        cancelled.set()
        thread.join()


def _load(gguf: Path, threads: int) -> openvino_genai.LLMPipeline:
    try:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.num_kv_blocks = KV_BLOCKS
        scheduler.enable_prefix_caching = True
        return openvino_genai.LLMPipeline(
            _prepared(gguf), "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=threads
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelUnavailable(
            f"The model {gguf} would not load ({str(error).strip().splitlines()[-1]}). Nothing was lost. "
            "Check it with `deskhand doctor`, or fetch it again with `deskhand models pull`."
        ) from error


def _prepared(gguf: Path) -> Path:
    """The folder of the model as OpenVINO saves it, made at the first call.

    Its name carries the GGUF's hash and the runtime's version, so an exchanged file
    or an upgrade makes a new one; a half-made one never gets that name.
    """
    with gguf.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    version = openvino_genai.get_version().partition("-")[0]
    folder = gguf.parent / f"{gguf.stem}-{digest}-openvino-{version}"
    if folder.is_dir():
        return folder
    log.info("model.prepare", model=gguf.name)
    scratch = Path(tempfile.mkdtemp(prefix=".preparing-", dir=gguf.parent))
    try:
        copy = scratch / "model.gguf"
        rewrite(gguf, copy)
        openvino_genai.LLMPipeline(copy, "CPU", enable_save_ov_model=True)
        copy.unlink()
        scratch.chmod(0o755)
        if not folder.is_dir():
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder
