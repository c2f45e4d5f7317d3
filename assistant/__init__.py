"""Deskhand, a self-hosted assistant for support desks."""

import sys

# OpenVINO tells its maker about every import, unless this package of its is missing.
sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType] - None is how a module is barred
