"""An installation in a process of its own, to be killed: `python -m tests.servers.child STATE [COMMAND...]`.

It doesn't flush to the disk, which only a power cut would show. Prints `ready`
when all runs. COMMAND is supervised too, under the name `extra`. With RUN_AS in the
environment it gives up root for that user, once it has read its code (the
interpreter may lie where that user can't read).
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from assistant.config import Settings
from assistant.errors import DeskhandError
from assistant.runtime.process import Process
from assistant.runtime.up import running

if __name__ == "__main__":
    if user := os.environ.pop("RUN_AS", ""):
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    extra = [Process(name="extra", command=tuple(sys.argv[2:]))] if len(sys.argv) > 2 else []
    try:
        with running(Settings(state=Path(sys.argv[1])), processes=extra, fast=True) as supervisor:
            print("ready", flush=True)
            supervisor.wait()
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except DeskhandError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(1)
