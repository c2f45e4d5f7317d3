"""What benchmarks leave: JSON with the machine it was measured on, and a plot."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What a figure depends on, and nothing that names the computer."""
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def save(name: str, result: dict[str, Any]) -> Path:
    """Write results/<name>.json and say where."""
    RESULTS.mkdir(exist_ok=True)
    place = RESULTS / f"{name}.json"
    place.write_text(json.dumps({"machine": machine(), **result}, indent=2, default=str) + "\n")
    print(f"written: {place}")
    return place


@contextmanager
def plotted(name: str, *, columns: int = 1, size: tuple[float, float] = (7, 4)) -> Generator[Any]:
    """Axes (an array of them for several columns) that become results/<name>.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=size)
    yield axes
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / f"{name}.png", dpi=120, bbox_inches="tight")
    pyplot.close(figure)
