"""Processes of the command line, forked from one that has imported it: a start costs no seconds.

`python -m tests.acceptance.forks` is the one they are forked from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.paths import PROJECT

PRELOADED = ("assistant.surfaces.cli_tickets", "assistant.answer.engine", "assistant.generate.live")
"""beside the command line itself, what takes long"""


class Forks:
    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder

    def run(
        self, arguments: Sequence[str], *, stdin: str, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """What `python -m assistant.surfaces.cli` does with these arguments and nothing else in the environment."""
        (self._folder / "0").write_text(stdin, encoding="utf-8")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"arguments": list(arguments), "env": dict(env)}) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        out, err = ((self._folder / name).read_text(encoding="utf-8") for name in "12")
        return subprocess.CompletedProcess(arguments, code, out, err)


@contextmanager
def forks(env: Mapping[str, str]) -> Generator[Forks]:
    """`env`: what the command line reads when it is imported."""
    with tempfile.TemporaryDirectory(prefix="deskhand-forks-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.forks", folder],
            env=env,
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:  # closing its standard input ends it
            yield Forks(process, Path(folder))


def _serve(folder: Path) -> None:
    from importlib import import_module

    from assistant.surfaces import cli

    for name in PRELOADED:
        import_module(name)
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            _become(folder, asked)
            cli.main()
            raise SystemExit
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(folder: Path, asked: Mapping[str, Any]) -> None:
    """A process that was just started, as far as it can tell."""
    for number, flags in enumerate((os.O_RDONLY, *(os.O_WRONLY | os.O_CREAT | os.O_TRUNC,) * 2)):
        file = os.open(folder / str(number), flags)
        os.dup2(file, number)
        os.close(file)
    # What was read ahead of it is the next one's.
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["deskhand", *asked["arguments"]]


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
