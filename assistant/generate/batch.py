"""Several answers at once from one local model, which lives in a process of its own (`local_worker.py`).

Measured against one answer at a time (`tests/bench/bench_serving.py`): see ARCHITECTURE.md.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from assistant.errors import ModelBusy, ModelUnavailable

KV_BLOCKS = 512
"""Blocks of 32 tokens kept for reuse: ~16,000 tokens, ~220 MB. A prompt that begins like an earlier one
(the same instructions, the same passages of a follow-up) is then read in a tenth of the time."""
WORKER = Path(__file__).with_name("local_worker.py")

Piece = str | ModelUnavailable | None
"""of an answer: a text, what went wrong, or its end"""


class Batch:
    """A loaded model. Its process ends when nobody refers to it any more, or with ours.

    `waiting`: questions it takes at once; the first are answered together, the others wait
    their turn. Raises `RuntimeError` when the model in `folder` would not load.
    """

    def __init__(self, folder: Path, *, threads: int, waiting: int) -> None:
        self._limit = waiting
        self._numbers = itertools.count(1)
        self._owner = os.getpid()
        self._sending = threading.Lock()
        self._answers: dict[int, queue.SimpleQueue[Piece]] = {}
        ours, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-I", WORKER, str(theirs.fileno()), folder, str(threads), str(KV_BLOCKS)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={"PATH": os.defpath},
            )
            theirs.close()
            self._pipe = Connection(ours.detach())
            self._end = weakref.finalize(self, _terminate, self._process, self._owner)
            try:
                reason = json.loads(self._pipe.recv_bytes()).get("error")
            except (EOFError, OSError):
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()
                reason = lines[-1] if lines else f"its process ended with {self._process.wait()}"
        if reason:
            self._end()
            self._process.wait()
            raise RuntimeError(reason)
        threading.Thread(
            target=_listen, args=(self._process, self._pipe, self._answers), name="generator", daemon=True
        ).start()

    def usable(self) -> bool:
        """False after a fork (two processes would read one pipe), and when its process died."""
        return self._owner == os.getpid() and self._process.poll() is None

    def busy(self) -> int:
        """Answers that are written or wait."""
        return len(self._answers)

    def answer(self, prompt: str, *, tokens: int, stop: Sequence[str] = ()) -> Generator[str]:
        """Text as it is written, at most `tokens`. Closing it ends the writing at the next token.

        Raises `ModelBusy` when too many wait already, `ModelUnavailable` when the model's process dies.
        """
        pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        with self._sending:
            if len(self._answers) >= self._limit:
                raise ModelBusy(
                    f"{self._limit} questions are being answered already. Nothing was lost; ask again in a moment."
                )
            number = next(self._numbers)
            self._answers[number] = pieces
        ended = False
        try:
            self._send({"id": number, "prompt": prompt, "tokens": tokens, "stop": list(stop)})
            while (piece := pieces.get()) is not None:
                if isinstance(piece, ModelUnavailable):
                    raise piece
                yield piece
            ended = True
        finally:
            if not ended:
                self._send({"id": number})

    def _send(self, message: dict[str, Any]) -> None:
        """A pipe that is gone needs no complaint here: the listener gives every answer its end."""
        with self._sending:
            try:
                self._pipe.send_bytes(json.dumps(message).encode())
            except OSError:
                _lost(self._answers)


def _listen(
    process: subprocess.Popen[bytes], pipe: Connection, answers: dict[int, queue.SimpleQueue[Piece]]
) -> None:
    """Hand what the process says to whom it concerns; without a reference to the batch, which may go."""
    try:
        while True:
            told = json.loads(pipe.recv_bytes())
            if "piece" in told:
                if pieces := answers.get(told["id"]):
                    pieces.put(told["piece"])
            else:
                error = told.get("error")
                _finish(answers, told["id"], _failed(error) if error else None)
    except (EOFError, OSError):
        process.wait()
        _lost(answers)


def _finish(answers: dict[int, queue.SimpleQueue[Piece]], number: int, end: ModelUnavailable | None) -> None:
    if pieces := answers.pop(number, None):
        pieces.put(end)


def _lost(answers: dict[int, queue.SimpleQueue[Piece]]) -> None:
    for number in list(answers):
        _finish(answers, number, _failed("its process ended"))


def _terminate(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() == owner:  # not a fork's to end
        process.terminate()


def _failed(reason: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"The local model failed while answering ({reason}). Nothing was lost; ask again."
    )
