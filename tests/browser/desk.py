"""`deskhand up` with the sample company, a model that a test holds in its hand, and people who may sign in."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from assistant.config import Settings
from assistant.model import Right
from assistant.runtime.up import environment
from assistant.store import logins, principals
from assistant.store.logins import Role
from assistant.surfaces.api.serve import address
from assistant.surfaces.demo import add_sample
from tests import vllm
from tests.browser import provider
from tests.installation import Installation, wait
from tests.paths import MODELS, PROJECT, SAMPLE
from tests.servers.ports import free_port

MARA, TOMASZ, INES, PRIYA, DALE = (
    "mara.lindqvist@fernhill.example",
    "tomasz.reyes@fernhill.example",
    "ines.okafor@fernhill.example",
    "priya.nandakumar@fernhill.example",
    "dale@whitcombe-docs.example",
)
"""Mara and Tomasz work on the desk, Ines also reads what is restricted, Dale may read nothing."""
PASSWORD = "correct horse battery"
ROLES = {MARA: Role.AGENT, TOMASZ: Role.AGENT, PRIYA: Role.OWNER, INES: Role.ADMIN, DALE: Role.AGENT}


@dataclass
class Model:
    """A language model behind HTTP: it copies the sentences of its sources that are nearest to the question."""

    server: vllm.Server
    gate: threading.Event
    """closed, it thinks for as long as a test wants"""

    @contextmanager
    def slow(self, pace: float) -> Generator[None]:
        """Seconds between two words, while the body runs."""
        self.server.pace = pace
        try:
            yield
        finally:
            self.server.pace = 0.0

    @contextmanager
    def thinking(self) -> Generator[None]:
        """It says nothing while the body runs."""
        self.gate.clear()
        try:
            yield
        finally:
            self.gate.set()


_SOURCE = re.compile(r"^\[(\d+)\] [^\n]*\n(.*?)\n</source>", re.MULTILINE | re.DOTALL)


def copied(request: dict[str, Any]) -> str:
    """Up to three sentences of the sources that share most words with the question, each cited."""
    text = request["messages"][-1]["content"]
    sources, _, question = text.rpartition("\n\nQuestion: ")
    if not sources:  # a follow-up that is to be put in words of its own
        return text.rpartition("Last message: ")[2].strip()
    asked = set(re.findall(r"\w{4,}|\d+", question.lower()))
    found: list[tuple[int, str]] = []
    for number, body in _SOURCE.findall(sources):
        for sentence in re.split(r"(?<=[.!?])\s+|\n+", body):
            shared = len(asked & set(re.findall(r"\w{4,}|\d+", sentence.lower())))
            if shared and 20 < len(sentence) < 300:
                found.append((shared, f"{sentence.strip(' -*#')} [{number}]"))
    found.sort(key=lambda one: -one[0])
    return " ".join(dict.fromkeys(sentence for _, sentence in found[:3])) or "NOT_IN_SOURCES"


@dataclass
class Desk:
    url: str
    settings: Settings
    model: Model
    up: subprocess.Popen[bytes]

    @property
    def installation(self) -> Installation:
        return Installation(self.settings)

    def process(self, part: str) -> psutil.Process:
        """The child of `deskhand up` whose command line has this in it."""
        children = psutil.Process(self.up.pid).children(recursive=True)
        return next(child for child in children if any(part in word for word in child.cmdline()))


@contextmanager
def running(folder: Path) -> Generator[Desk]:
    """The real `deskhand up`, with the sample company indexed and everybody let in."""
    gate = threading.Event()
    gate.set()

    def say(request: dict[str, Any]) -> str:
        gate.wait(60)
        return copied(request)

    port = free_port()
    with (
        vllm.serving("writer", [], say) as server,
        provider.serving(f"http://127.0.0.1:{port}/api/v1/oidc/sso/callback", folder) as issuer,
    ):
        settings = Settings(
            state=folder / "browser",
            models=MODELS,
            generator="openai:writer",
            generator_base_url=server.url,
            generator_api_key="none",
            web_port=port,
            oidc_issuer=issuer,
            oidc_client_id=provider.CLIENT,
            oidc_client_secret=provider.SECRET,
            oidc_roles="it=admin, kb=owner, desk=agent",
            log_level="WARNING",
        )
        with up(settings, folder) as process:
            desk = Desk(address(settings.state), settings, Model(server, gate), process)
            try:
                _fill(desk)
                yield desk
            finally:
                gate.set()


@contextmanager
def up(settings: Settings, folder: Path) -> Generator[subprocess.Popen[bytes]]:
    """`deskhand up` with these settings, once its web server answers; its log is in `folder`."""
    command = [sys.executable, "-c", "from assistant.surfaces.cli import main; main()", "up"]
    env = environment(settings) | {"PYTHONPATH": str(PROJECT)}
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder)
    try:
        wait(lambda: answers(settings), what=f"the start of deskhand up ({folder / 'up.log'})", seconds=600)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def answers(settings: Settings) -> bool:
    try:
        return httpx.get(f"{address(settings.state)}/health", timeout=5).is_success
    except (httpx.HTTPError, httpx.UnsupportedProtocol):
        return False


def _fill(desk: Desk) -> None:
    with desk.installation.assistant() as assistant:
        add_sample(assistant, SAMPLE)
        with assistant.database.writer() as connection:
            for email, role in ROLES.items():
                name = " ".join(part.capitalize() for part in email.partition("@")[0].split("."))
                logins.add(connection, email, role, name=name, password=PASSWORD)
    wait(desk.installation.finished, what="the sync of the sample company", seconds=600)
    with desk.installation.assistant() as assistant, assistant.database.writer() as connection:
        principals.allow(connection, TOMASZ, Right.ESCALATE)
