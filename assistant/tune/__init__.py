"""Fine-tuning, the extra `[tune]`. Nothing that serves imports it."""

import os

# TRL sends an event to a hub whenever a trainer is made.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Its progress is told by rows; bars would fill a log.
os.environ.setdefault("TQDM_DISABLE", "1")
