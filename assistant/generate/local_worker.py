"""The child process that holds a local model and writes several answers at once, each a token a step.

Started by `batch.py` as a script, without Deskhand's environment: it imports nothing of
Deskhand and holds no secret. It is a process of its own because OpenVINO's `step()` keeps
Python's lock: in the asker's process it would stop all else for as long as it writes.

    python -I local_worker.py FILE_DESCRIPTOR MODEL_FOLDER THREADS KV_BLOCKS

Once loaded it says `{}`, or `{"error"}` and ends. A request is `{"id", "prompt", "tokens", "stop"}`,
answered with `{"id", "piece"}` … and `{"id", "end": true}` or `{"id", "error"}`; `{"id"}` alone takes a
request back, which is answered with its end. It ends with its pipe.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

# It tells its maker about every import, unless this package is missing.
sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType] - None is how a module is barred

import openvino_genai  # noqa: E402 - after what must be barred
from openvino_genai.py_openvino_genai import GenerationStatus  # noqa: E402 - as above

AT_ONCE = 8
"""answers that are written together: with more of them each becomes slower, and all of them little faster"""
BLOCK = 32
"""tokens of a block of the cache, as OpenVINO has it on a CPU"""


@dataclass
class Waiting:
    """A request whose turn has not come."""

    request: dict[str, Any]
    ids: Any
    blocks: int
    """what its prompt and its answer may take of the cache"""


@dataclass
class Running:
    """A request that is being answered."""

    handle: Any
    streamer: openvino_genai.TextStreamer
    blocks: int


class Worker:
    def __init__(self, pipe: Connection, folder: str, threads: int, kv_blocks: int) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.num_kv_blocks = kv_blocks
        scheduler.enable_prefix_caching = True
        self.pipe = pipe
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            folder, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )
        self.tokenizer = self.pipeline.get_tokenizer()
        self.free = self.blocks = kv_blocks
        self.waiting: dict[int, Waiting] = {}
        self.running: dict[int, Running] = {}

    def serve(self) -> None:
        """Until the pipe is closed. Between two steps requests are taken in, and taken back."""
        while True:
            while self.pipe.poll(0 if self.running else None):
                self.take(json.loads(self.pipe.recv_bytes()))
                self.admit()
            self.pipeline.step()
            for number in list(self.running):
                self.tell(number)
            self.admit()

    def say(self, number: int, **told: Any) -> None:
        self.pipe.send_bytes(json.dumps({"id": number, **told}).encode())

    def take(self, request: dict[str, Any]) -> None:
        number = request["id"]
        if number in self.running:
            self.running[number].handle.cancel()
        elif self.waiting.pop(number, None):
            self.say(number, end=True)
        elif "prompt" in request:
            ids = self.tokenizer.encode(request["prompt"], add_special_tokens=False).input_ids
            blocks = -(-(ids.shape[1] + request["tokens"]) // BLOCK)
            if blocks > self.blocks:
                self.say(number, error=f"it can keep {self.blocks * BLOCK} tokens at once")
            else:
                self.waiting[number] = Waiting(request, ids, blocks)

    def admit(self) -> None:
        """Begin what waits, in its order, as far as the cache has room: what has none would be dropped."""
        while self.waiting and len(self.running) < AT_ONCE:
            number, next_ = next(iter(self.waiting.items()))
            if next_.blocks > self.free:
                return
            del self.waiting[number]
            self.begin(number, next_)

    def begin(self, number: int, found: Waiting) -> None:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = found.request["tokens"]
        config.stop_strings = set(found.request["stop"])
        config.apply_chat_template = False

        def piece(text: str) -> openvino_genai.StreamingStatus:
            self.say(number, piece=text)
            return openvino_genai.StreamingStatus.RUNNING

        handle = self.pipeline.add_request(number, found.ids, config)
        self.free -= found.blocks
        self.running[number] = Running(
            handle, openvino_genai.TextStreamer(self.tokenizer, piece), found.blocks
        )

    def tell(self, number: int) -> None:
        """Say what the last step added to an answer, and whether it was its last."""
        answer = self.running[number]
        while answer.handle.can_read():
            for output in answer.handle.read().values():
                answer.streamer.write(output.generated_ids)
        status = answer.handle.get_status()
        if status == GenerationStatus.RUNNING:
            return
        del self.running[number]
        self.free += answer.blocks
        if status == GenerationStatus.IGNORED:
            self.say(number, error="its memory was full")
        else:
            answer.streamer.end()
            self.say(number, end=True)


def main() -> None:
    descriptor, folder, threads, kv_blocks = sys.argv[1:]
    # Whatever a library prints must not get between the messages.
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ctrl-C is for whoever asks; this ends with their pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(int(descriptor)) as pipe:
        try:
            worker = Worker(pipe, folder, int(threads), int(kv_blocks))
        except (OSError, RuntimeError, ValueError) as error:
            pipe.send_bytes(json.dumps({"error": str(error).strip().splitlines()[-1]}).encode())
            return
        pipe.send_bytes(b"{}")
        try:
            worker.serve()
        except (EOFError, OSError):
            return


if __name__ == "__main__":
    main()
