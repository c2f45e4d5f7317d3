"""A folder of very many small files: what a first and an incremental listing cost.

    python -m tests.bench.bench_listing [--files 100000]

The connector alone, without indexing: seconds, memory and the size of the checkpoint
for a first sync, one in which nothing changed, and one in which a thousandth did;
beside what a plain walk with `os.stat` of every file takes. Writes results/listing.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from assistant.model import Upsert
from connectors.directory import DirectoryConnector, DirectorySettings
from tests.bench.output import save


def sync(folder: Path, checkpoint: dict[str, Any] | None) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The checkpoint after a sync, and what it took."""
    connector = DirectoryConnector(DirectorySettings(path=str(folder), access="everyone"))
    began, documents = time.monotonic(), 0
    for batch in connector.sync(checkpoint):
        documents += sum(isinstance(change, Upsert) for change in batch.changes)
        checkpoint = json.loads(json.dumps(batch.checkpoint))
    connector.close()
    return checkpoint, {"seconds": round(time.monotonic() - began, 2), "documents": documents}


def walk(folder: Path) -> float:
    began = time.monotonic()
    for place, _, names in os.walk(folder):
        for name in names:
            os.stat(os.path.join(place, name))
    return round(time.monotonic() - began, 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    count = parser.parse_args().files
    folder = Path(tempfile.mkdtemp(prefix="deskhand-bench-"))
    try:
        for number in range(count):
            below = folder / f"{number // 1000:03}"
            if number % 1000 == 0:
                below.mkdir()
            (below / f"{number:06}.md").write_text(f"# Note {number}\n\nShelf {number % 97}.\n")
        result: dict[str, Any] = {"files": count, "a plain walk, seconds": walk(folder)}
        checkpoint, result["first"] = sync(folder, None)
        result["checkpoint_kb"] = len(json.dumps(checkpoint)) // 1024
        _, result["unchanged"] = sync(folder, checkpoint)
        for number in range(0, count, 1000):
            (folder / f"{number // 1000:03}" / f"{number:06}.md").write_text(f"# Note {number}\n\nMoved.\n")
        _, result["a thousandth changed"] = sync(folder, checkpoint)
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result, indent=1))
    save("listing", result)


if __name__ == "__main__":
    main()
