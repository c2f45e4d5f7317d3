"""One `Settings`, read from `DESKHAND_*` variables and an optional `deskhand.toml`.

Variables win over the file. Unknown keys are refused with their name, because a
misspelt setting that is silently ignored costs an afternoon.
"""

from __future__ import annotations

import os
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from assistant.errors import ConfigError

PREFIX = "DESKHAND_"
TESTS = PREFIX + "TEST_"
"""variables of the test suite, which may be set where the product runs"""


class Settings(BaseModel):
    """All settings, with their defaults. Each is `DESKHAND_<NAME>` in the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Path = Path(".deskhand")
    """Folder for the embedded servers, the models, the key and the logs."""
    database_url: SecretStr | None = None
    """PostgreSQL to use instead of the embedded one: postgresql://user:password@host/name"""
    redis_url: SecretStr | None = None
    """Redis or Valkey to use instead of the embedded one: redis://host:6379/0"""
    key: SecretStr | None = None
    """Key that encrypts source secrets (Fernet, 32 bytes base64). Made at first start when unset."""
    models: Path | None = None
    """Folder of model weights; default: `models` in the state folder."""
    embedder: str = "minilm-l6-v2-int8"
    """Embedding model, one of those `deskhand models list` shows."""
    generator: str = "local"
    """`local`, `echo` (tests) or a LangChain `provider:model` such as `openai:gpt-5-mini`."""
    generator_base_url: str | None = None
    """Base URL for an OpenAI-compatible server (vLLM, Ollama, llama.cpp …)."""
    generator_api_key: SecretStr | None = None
    """Key for the generator's provider."""
    local_model: str = "smollm2-135m-instruct"
    """Weights of the local generator, one of those `deskhand models list` shows."""
    local_queue: int = Field(default=32, ge=1)
    """Questions the local generator takes at once; eight are answered together, the others wait their turn."""
    threads: int = Field(default=0, ge=0)
    """Cores one process may use for a model; 0: all for answering, one for each worker."""
    worker_processes: int = Field(default=0, ge=0)
    """Ingest processes; 0: one a core, at most 4."""
    worker_memory_mb: int = Field(default=1400, ge=300)
    """A worker process is replaced after a task that left it above this."""
    parse_memory_mb: int = Field(default=1024, ge=128)
    """Memory a document's parser may use before the document is recorded as a failure."""
    parse_seconds: int = Field(default=60, ge=1)
    """Time a document's parser may take before the document is recorded as a failure."""
    max_file_mb: int = Field(default=100, ge=1)
    """Files above this are recorded as a failure unread."""
    web_host: str = "127.0.0.1"
    """Address the web server listens on; 0.0.0.0 for all, behind a proxy that speaks TLS."""
    web_port: int = Field(default=0, ge=0, le=65535)
    """Port of the web server; 0: a free one, which `deskhand status` tells."""
    web_url: str = ""
    """Address at which people reach the web server, such as https://desk.example.com; empty: as they call it."""
    local_logins: bool = True
    """Whether people may sign in with a password of Deskhand's own (`deskhand login`)."""
    oidc_issuer: str = ""
    """Issuer of the OpenID Connect provider that people sign in at; empty: none."""
    oidc_client_id: str = ""
    """Deskhand's client id at that provider. Its redirect address is WEB_URL/api/v1/oidc/sso/callback."""
    oidc_client_secret: SecretStr | None = None
    """Its secret there, if it has one."""
    oidc_label: str = "Single sign-on"
    """What the button of the sign-in page says."""
    oidc_groups_claim: str = "groups"
    """Claim of the provider that lists a person's groups."""
    oidc_roles: str = ""
    """Roles of groups: it=admin, kb=owner, desk=agent, *=agent (*: everybody). Empty: everybody is an agent."""
    slack_bot_token: SecretStr | None = None
    """Slack: the bot's token (xoxb-…) of one workspace."""
    slack_app_token: SecretStr | None = None
    """Slack: the app's token (xapp-…) for Socket Mode, which needs no address of ours."""
    slack_signing_secret: SecretStr | None = None
    """Slack: the secret its requests are signed with, where they come over HTTP instead."""
    slack_client_id: str = ""
    """Slack: the app's client id, so that several workspaces can install it."""
    slack_client_secret: SecretStr | None = None
    """Slack: its client secret."""
    slack_port: int = Field(default=0, ge=0, le=65535)
    """Port on WEB_HOST for Slack's requests and installations (WEB_URL/slack/…); 0: none."""
    slack_strangers: Literal["public", "nothing"] = "public"
    """Slack: what guests, people of other companies and whoever no source knows get: `public` or `nothing`."""
    slack_api_url: str = "https://slack.com/api/"
    """Slack's API: another one for GovSlack (https://slack-gov.com/api/)."""
    allowed_hosts: str = ""
    """Hosts and networks that connectors may reach though not public, with commas: nas.lan, 10.1.0.0/16"""
    answer_when: str = "likely"
    """How sure Deskhand has to be to answer: `likely`, `sure`, `very_sure`, or per cent, such as 90 %."""
    answers: Literal["auto", "quote", "write"] = "auto"
    """In whose words: the sources' own (`quote`), the generator's that hold (`write`), or as the live one is meant."""
    question_max_chars: int = Field(default=20_000, ge=100)
    """Longer questions are refused."""
    principal: str = ""
    """Address of the person the command line asks for when `--as` isn't given; empty: nobody in particular."""
    traces: str = ""
    """Where OpenTelemetry traces go, by OTLP over HTTP: http://collector:4318/v1/traces. Needs the extra [traces]."""
    trace_texts: bool = False
    """Let questions, answers and what errors say into the traces, which go wherever `traces` says."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""

    @field_validator("answer_when")
    @classmethod
    def _how_sure(cls, value: str) -> str:
        if not re.fullmatch(r"likely|sure|very_sure|[1-9]\d? ?%?", value):
            raise ValueError("say likely, sure, very_sure, or per cent from 1 to 99, such as 90 %")
        return value

    @field_validator("oidc_roles")
    @classmethod
    def _roles(cls, value: str) -> str:
        if value and not re.fullmatch(
            r"[^=,]+=\s*(agent|owner|admin)\s*(,[^=,]+=\s*(agent|owner|admin)\s*)*", value
        ):
            raise ValueError("say group=role, with commas between them; a role is agent, owner or admin")
        return value

    @property
    def roles_of_groups(self) -> dict[str, str]:
        pairs = (pair.split("=") for pair in self.oidc_roles.split(",") if pair)
        return {group.strip(): role.strip() for group, role in pairs}

    @property
    def models_folder(self) -> Path:
        return self.models or self.state / "models"


def load(environ: dict[str, str] | None = None, file: Path | None = None) -> Settings:
    """Settings from `environ` (default: the process's) over `file` (default: ./deskhand.toml).

    Raises `ConfigError` naming every unknown or ill-formed key and where it stands.
    """
    env = dict(os.environ if environ is None else environ)
    named = env.pop(PREFIX + "CONFIG", "deskhand.toml")
    path = file or Path(named)
    values: dict[str, Any] = {}
    if path.is_file():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} could not be read: {error}. Mend or remove it.") from error
    places = {key: str(path) for key in values}
    for name, value in env.items():
        if name.startswith(PREFIX) and not name.startswith(TESTS) and value != "":
            key = name.removeprefix(PREFIX).lower()
            values[key] = value
            places[key] = f"environment variable {name}"
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        lines: list[str] = []
        for problem in error.errors(include_input=False, include_url=False):
            key = str(problem["loc"][0]) if problem["loc"] else ""
            what = "no such setting" if problem["type"] == "extra_forbidden" else problem["msg"]
            lines.append(f"  {key} ({places.get(key, 'default')}): {what}")
        raise ConfigError(
            "The configuration is not usable:\n" + "\n".join(lines) + "\nNothing was started. "
            "`deskhand doctor --settings` lists what there is."
        ) from None
    return settings.model_copy(update={"state": settings.state.expanduser().resolve()})


@cache
def settings() -> Settings:
    """The process's settings, read once."""
    return load()
