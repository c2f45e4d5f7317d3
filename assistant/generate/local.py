"""The default generator: a small GGUF model on OpenVINO, on this machine's CPU, without torch.

OpenVINO's reader takes the file's 4-bit weights worse than its 8-bit ones and needs
seconds to build its graph from either, so the weights are requantised to 8 bits and
saved as an OpenVINO model once, beside the GGUF; later starts read that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import openvino_genai
import structlog
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import BaseMessage
from pydantic import PrivateAttr

from assistant import weights
from assistant.config import Settings
from assistant.errors import ModelUnavailable
from assistant.generate.base import PieceChat, Trust, Tuned, check_length, spoken
from assistant.generate.batch import Batch
from assistant.generate.gguf import rewrite

log = structlog.get_logger()

MERGED = "model.gguf"
"""in a fine-tuned version's folder: base and adapter in one"""


class LocalChat(PieceChat):
    """A chat model over one GGUF file. Greedy; several answers are written together, further ones wait.

    Closing the stream (a client that went away) stops the writing at the next token. The model
    lives in a process of its own from the first answer on; should that die, the next answer
    starts another.
    """

    gguf: Path
    threads: int = 0
    """cores; 0: all"""
    queue: int = 32
    """questions that are taken at once; more are told to come again"""
    model_name: str = "local"
    context_tokens: int = 8_192
    answer_tokens: int = 256
    prompt_tokens: int = 1_500
    """Prompts are fitted into this: two cores read ~1,000 tokens a second before the first word appears."""
    quotes: bool = True
    rewrites: bool = False
    trust: Trust = Trust()

    _folder: Path | None = PrivateAttr(default=None)
    _tokenizer: openvino_genai.Tokenizer | None = PrivateAttr(default=None)
    _batch: Batch | None = PrivateAttr(default=None)
    _loading: threading.RLock = PrivateAttr(default_factory=threading.RLock)

    @property
    def _llm_type(self) -> str:
        return "deskhand-local"

    def _resolve_model_profile(self) -> ModelProfile:
        return ModelProfile(max_input_tokens=self.context_tokens, max_output_tokens=self.answer_tokens)

    def get_num_tokens(self, text: str) -> int:
        tokens = self.tokenizer().encode(text, add_special_tokens=False)
        return int(tokens.input_ids.shape[1])

    def prepare(self) -> Path:
        """The folder of the model as OpenVINO reads it; made, in seconds, where it is not there.

        Raises `ModelUnavailable`.
        """
        with self._loading, _explained(self.gguf):
            self._folder = self._folder or _prepared(self.gguf)
            return self._folder

    def tokenizer(self) -> openvino_genai.Tokenizer:
        with self._loading, _explained(self.gguf):
            self._tokenizer = self._tokenizer or openvino_genai.Tokenizer(self.prepare())
            return self._tokenizer

    def load(self) -> Batch:
        """The loaded model; the first call takes seconds. Raises `ModelUnavailable`."""
        with self._loading, _explained(self.gguf):
            if self._batch is None or not self._batch.usable():
                threads = self.threads or os.cpu_count() or 1
                self._batch = Batch(self.prepare(), threads=threads, waiting=self.queue)
            return self._batch

    def prompt(self, messages: list[BaseMessage]) -> str:
        """The messages in the model's own chat format."""
        # The binding accepts a list of dicts; its stub only names its own class.
        history = cast(Any, spoken(messages))
        return self.tokenizer().apply_chat_template(history, add_generation_prompt=True)

    def pieces(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> Generator[str]:
        prompt = self.prompt(messages)
        tokens = self.get_num_tokens(prompt)
        answer_tokens = int(kwargs.get("max_tokens", self.answer_tokens))
        check_length(tokens, self.context_tokens - answer_tokens)
        with closing(self.load().answer(prompt, tokens=answer_tokens, stop=stop or ())) as pieces:
            yield from pieces


def from_settings(settings: Settings, tuned: Tuned | None = None) -> LocalChat:
    """The generator of `settings.local_model`: a known name, or the path of a GGUF file; or a version of it.

    Raises `ModelUnavailable` when it is not there. The model is loaded at its first use.
    """
    options: dict[str, Any] = {"threads": settings.threads, "queue": settings.local_queue}
    if tuned is None:
        return LocalChat(gguf=base_file(settings), model_name=base_name(settings), **options)
    return LocalChat(gguf=tuned.folder / MERGED, **options, **tuned.options())


def base_file(settings: Settings) -> Path:
    """The weights that `settings.local_model` means. Raises `ModelUnavailable` when they are not there."""
    if not settings.local_model.endswith(".gguf"):
        return weights.path(settings.local_model, settings)
    gguf = Path(settings.local_model)
    if not gguf.is_file():
        raise ModelUnavailable(
            f"There is no model file {gguf}. Nothing else is affected; correct DESKHAND_LOCAL_MODEL."
        )
    return gguf


def base_name(settings: Settings) -> str:
    name = settings.local_model
    return Path(name).stem if name.endswith(".gguf") else name


@contextmanager
def _explained(gguf: Path) -> Generator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, IndexError) as error:  # the last: a GGUF without a key
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
