"""Fine-tuning, the extra `[tune]`. Nothing that serves imports it."""

import os

# TRL sends an event to a hub whenever a trainer is made.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Its progress is told by rows; bars would fill a log.
os.environ.setdefault("TQDM_DISABLE", "1")
# Torch's threads wait for each other by spinning. As soon as anything else runs, the one that spins takes the
# processor from the one it waits for: on two busy cores this training was five times slower. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
