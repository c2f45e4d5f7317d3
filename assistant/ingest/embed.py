"""Texts to vectors. One embedder is built in; another one is a function in `EMBEDDERS`.

Measured on two x86-64 cores (AVX-512 with bf16; the ratios count): weight-int8
MiniLM on OpenVINO embeds 54 chunks of ~215 tokens a second and core, 140 of ~35
tokens. One text a request is as fast as batches of 4 or 8 on long texts (1 : 0.95 :
0.92) and 20 % slower on short ones, and a text's vector then depends on nothing
but the text. Two streams of one thread beat one stream of two threads by 20 % on
short texts and are equal on long ones. Pinned threads were 20 % slower when the
machine is shared, and several workers would all be pinned to the first core. A
model cache saves 0.3 of 0.5 seconds at start: not worth a folder that can go stale.
The runtime keeps compiled kernels for every length it meets: after 800 texts of all
lengths a process had grown from 160 to 720 MB. With lengths rounded up to multiples
of 16 it stays at 230 MB, at the same speed.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from assistant import weights
from assistant.config import Settings
from assistant.errors import ConfigError, ModelUnavailable
from assistant.store.spaces import Space

TUNED = "tuned"
"""folder, below the models, of those that were trained here"""
STEP = 16
"""tokens; a text is padded to a multiple of it, which depends on nothing but the text"""

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """What the index and the retriever need of an embedding model.

    `name`, `revision`, `dimension` and `pooling` identify an embedding space: vectors of
    two spaces are never compared. `encode_query` may be called by several threads at once.
    """

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def max_tokens(self) -> int:
        """of one text, special tokens included; longer texts are cut"""
        ...

    @property
    def pooling(self) -> str: ...
    @property
    def tokenizer_file(self) -> Path:
        """the `tokenizer.json` by which a chunk's length is measured"""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Float32 of shape (len(texts), dimension), each row of length 1."""
        ...

    def encode_query(self, text: str) -> Vectors:
        """Float32 of shape (dimension,), of length 1."""
        ...


class OnnxEmbedder:
    """A BERT-like sentence encoder in ONNX (`model.onnx`, `tokenizer.json` in `folder`) on OpenVINO.

    `threads`: cores it may use, 0 for all. Mean pooling over the last hidden layer.
    Equal texts get bit-equal vectors whatever they are encoded together with, in
    every process and with any number of threads of one machine; machines with and
    without bf16 differ by about 2e-4 in cosine.

    Raises `ModelUnavailable` when the files are absent or damaged.
    """

    pooling = "mean"

    def __init__(self, folder: Path, *, threads: int = 0, name: str = "", max_tokens: int = 256) -> None:
        self.name = name or folder.name
        self.max_tokens = max_tokens
        self.tokenizer_file = folder / "tokenizer.json"
        model_file = folder / "model.onnx"
        streams = threads or os.cpu_count() or 1
        # Heavy, and of no use to whoever only wants the types.
        import openvino

        try:
            self.revision = hashlib.sha256(model_file.read_bytes()).hexdigest()
            self._tokenizer = _tokenizer(self.tokenizer_file, max_tokens=max_tokens)
            compiled: Any = openvino.Core().compile_model(
                model_file,
                "CPU",
                {"INFERENCE_NUM_THREADS": streams, "NUM_STREAMS": streams, "ENABLE_CPU_PINNING": False},
            )
            self.dimension = int(compiled.output(0).partial_shape[2].get_length())
        except Exception as error:  # OpenVINO and tokenizers raise bare exceptions of many kinds
            raise ModelUnavailable(
                f"The embedding model {self.name} could not be loaded from {folder}: "
                f"{str(error).strip().splitlines()[-1][:200]}. Nothing was changed. "
                "Fetch it again with `deskhand models pull`."
            ) from error
        self._queue: Any = openvino.AsyncInferQueue(compiled, streams)
        self._query: Any = compiled.create_infer_request()
        self._encoding, self._querying = threading.Lock(), threading.Lock()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`. Blank texts get a vector too: that of the model's two special tokens."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = np.zeros((len(ids), self.dimension), np.float32)
        # Long ones first, so that no stream is left with a long text at the end.
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))

        def store(request: Any, row: int) -> None:
            vectors[row] = _pooled(request, len(ids[row]))

        with self._encoding:
            self._queue.set_callback(store)
            for row in order:
                self._queue.start_async(_inputs(ids[row]), row)
            self._queue.wait_all()
        return vectors

    def encode_query(self, text: str) -> Vectors:
        ids = self._tokenizer.encode(text).ids
        with self._querying:
            self._query.infer(_inputs(ids))
            return _pooled(self._query, len(ids))


def _tokenizer(file: Path, *, max_tokens: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _inputs(ids: list[int]) -> dict[str, NDArray[np.int64]]:
    """A batch of one, padded; the mask hides the padding from the model."""
    row = np.zeros((1, -(-len(ids) // STEP) * STEP), np.int64)
    mask = np.zeros_like(row)
    row[0, : len(ids)], mask[0, : len(ids)] = ids, 1
    return {"input_ids": row, "attention_mask": mask, "token_type_ids": np.zeros_like(row)}


def _pooled(request: Any, tokens: int) -> Vectors:
    """Mean over the text's own tokens, of length 1."""
    mean: Vectors = request.get_output_tensor(0).data[0, :tokens].mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _minilm(settings: Settings, threads: int) -> Embedder:
    name = "minilm-l6-v2-int8"
    return OnnxEmbedder(weights.path(name, settings).parent, threads=threads, name=name)


EMBEDDERS: dict[str, Callable[[Settings, int], Embedder]] = {"minilm-l6-v2-int8": _minilm}
"""name in the settings → (settings, threads) → embedder; a provider's or a framework's goes in here"""


def load(settings: Settings, *, threads: int = 0) -> Embedder:
    """The embedder `settings.embedder` names.

    Raises `ConfigError` when there is none of that name, `ModelUnavailable` when it can't be loaded.
    """
    factory = EMBEDDERS.get(settings.embedder)
    if factory is None:
        raise ConfigError(
            f"There is no embedder called {settings.embedder!r}; known: {', '.join(sorted(EMBEDDERS))}. "
            "Nothing was started. Change the setting embedder."
        )
    return factory(settings, threads)


class Embedders:
    """The embedding model of each space, loaded when it is first asked for. Safe to share between threads.

    Two are kept, since two are at work while one space takes over from another.
    """

    def __init__(self, settings: Settings, *, threads: int = 0) -> None:
        self._settings = settings
        self._threads = threads
        self._loaded: dict[tuple[str, str], Embedder] = {}
        self._loading = threading.Lock()

    def of(self, space: Space) -> Embedder:
        """Raises `ModelUnavailable` when it is not there, `ConfigError` when the settings name another one."""
        key = (space.name, space.revision)
        with self._loading:
            if key not in self._loaded:
                if len(self._loaded) > 1:
                    self._loaded.pop(next(iter(self._loaded)))
                self._loaded[key] = self._load(space)
            return self._loaded[key]

    def _load(self, space: Space) -> Embedder:
        if space.name in EMBEDDERS:
            embedder = load(self._settings, threads=self._threads)
        else:
            embedder = tuned(self._settings, space.name, threads=self._threads)
        if (embedder.name, embedder.revision) != (space.name, space.revision):
            raise ConfigError(
                f"The index was made with the embedder {space.name} (revision {space.revision[:12]}), and here is "
                f"{embedder.name} (revision {embedder.revision[:12]}); their vectors can't be compared. Nothing was "
                "changed: set DESKHAND_EMBEDDER back, put the files of that revision back, or start with a new "
                "database."
            )
        return embedder


def tuned(settings: Settings, name: str, *, threads: int = 0) -> Embedder:
    """The embedder that was trained here under that name. Raises `ModelUnavailable` when it is not there."""
    folder = settings.models_folder / TUNED / name
    if not (folder / "model.onnx").is_file():
        raise ModelUnavailable(
            f"The embedder {name} was trained here, and its files are not in {folder}. Nothing was changed. Put "
            "the folder back from a copy, or go back to the embedder before it with `deskhand tune retriever --back`."
        )
    return OnnxEmbedder(folder, threads=threads, name=name)
