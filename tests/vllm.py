"""A small server that speaks to clients as vLLM's OpenAI-compatible one does with `--enable-lora`.

It loads adapters from folders in PEFT's layout, serves each under its name beside the
base, answers 404 for any other model, and keeps what it was asked. What it says is a
function of the request. The shapes are those of vLLM's documentation; no vLLM runs here.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from safetensors import safe_open

Say = Callable[[dict[str, Any]], str]
"""a request to the text that answers it"""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    pace: float
    """seconds between two words"""

    def __init__(self, base: str, modules: list[str], say: Say, *, max_lora_rank: int = 16) -> None:
        self.base, self.say, self.pace = base, say, 0.0
        self.adapters = dict(module.split("=", 1) for module in modules)
        self.asked: list[dict[str, Any]] = []
        for name, place in self.adapters.items():
            config = json.loads((Path(place) / "adapter_config.json").read_text())
            if config["r"] > max_lora_rank:
                raise ValueError(f"LoRA rank {config['r']} is greater than max_lora_rank {max_lora_rank}.")
            if config.get("use_dora") or config.get("modules_to_save"):
                raise ValueError(f"{name} can't be loaded")
            with safe_open(Path(place) / "adapter_model.safetensors", "np") as tensors:
                modules_found = {key.rpartition(".lora_")[0].rpartition(".")[2] for key in tensors.keys()}  # noqa: SIM118 - not a dict
            if modules_found - set(config["target_modules"]):
                raise ValueError(f"{name} has modules that its configuration doesn't name")
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        names = [self.server.base, *self.server.adapters]
        parents = dict.fromkeys(self.server.adapters, self.server.base)
        self._json(
            200,
            {
                "object": "list",
                "data": [{"id": n, "object": "model", "parent": parents.get(n)} for n in names],
            },
        )

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(request)
        if self.path != "/v1/chat/completions" or request["model"] not in (
            self.server.base,
            *self.server.adapters,
        ):
            message = f"The model `{request.get('model')}` does not exist."
            self._json(
                404, {"error": {"message": message, "type": "NotFoundError", "param": "model", "code": 404}}
            )
            return
        text = self.server.say(request)
        if not request.get("stream"):
            message = {"role": "assistant", "content": text}
            self._json(200, self._answer(request, "chat.completion", message=message, finish_reason="stop"))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for word in text.split(" "):
            delta = {"role": "assistant", "content": f"{word} "}
            self._event(self._answer(request, "chat.completion.chunk", delta=delta, finish_reason=None))
            time.sleep(self.server.pace)
        self._event(self._answer(request, "chat.completion.chunk", delta={}, finish_reason="stop"))
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _answer(self, request: dict[str, Any], kind: str, **choice: Any) -> dict[str, Any]:
        said = {"id": "chatcmpl-1", "object": kind, "created": 1, "model": request["model"]}
        return {**said, "choices": [{"index": 0, **choice}]}

    def _event(self, content: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(content).encode() + b"\n\n")

    def _json(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def serving(base: str, modules: list[str], say: Say, **options: Any) -> Generator[Server]:
    """Serve until the block ends. `modules`: as `--lora-modules` takes them, NAME=FOLDER."""
    server = Server(base, modules, say, **options)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
