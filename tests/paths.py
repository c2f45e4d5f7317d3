"""Where things are: the project, the model weights, and the data that is not part of it."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SAMPLE = PROJECT / "assistant" / "sample"
MODELS = Path(os.environ.get("DESKHAND_MODELS") or PROJECT / ".deskhand" / "models")
DATA = Path(os.environ.get("DESKHAND_TEST_DATA") or PROJECT.parent / "shared" / "data")
"""public and real support data; whatever needs it skips, saying so, where it is absent"""
