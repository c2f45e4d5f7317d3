"""What an export's files are like: the settings of the connector."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from connectors.access import Tokens
from connectors.base import ConnectorSettings
from connectors.paths import AbsolutePath
from connectors.ticket_export.mapping import PRESETS, TicketMapping, merged
from connectors.ticket_export.mapping import Path as ExpressionText


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"«{name}» is no time zone; write one such as Europe/Berlin or UTC") from None
    return name


def _encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError:
        raise ValueError(f"«{name}» is no encoding; write one such as utf-8 or cp1252") from None
    return name


class TicketExportSettings(ConnectorSettings):
    path: AbsolutePath = Field(
        description="An export file, a folder of them, or a glob such as /exports/*.jsonl.gz."
    )
    access: Tokens = Field(
        description="Who may read the tickets: tokens such as group:support, everyone, or nobody."
    )
    preset: Literal["deskhand"] | None = Field(
        default=None, description="A mapping by name: deskhand, the neutral format of the sample company."
    )
    mapping: TicketMapping = Field(
        default=TicketMapping(),
        description="Deskhand's fields → where they are in a record; on top of a preset, or alone.",
    )
    format: Literal["auto", "jsonl", "json", "csv"] = Field(
        default="auto", description="Format of the files; auto goes by name and first bytes."
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        default="utf-8", description="Encoding of the files, such as utf-8 or cp1252."
    )
    text_media_type: Literal["text/plain", "text/markdown", "text/html"] = Field(
        default="text/plain", description="What questions and replies are written in."
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="Time zone of dates that don't name one."
    )
    date_format: str = Field(
        default="",
        description="Format of dates that are neither ISO 8601, RFC 5322 nor Unix times, such as %d/%b/%y %H:%M.",
    )
    status_values: dict[str, str] = Field(
        default_factory=dict[str, str],
        description='Statuses to rename, such as {"true": "solved", "false": "open", "null": "open"}.',
    )
    role_values: dict[str, Literal["customer", "agent", ""]] = Field(
        default_factory=dict[str, Literal["customer", "agent", ""]],
        description="What replies.role says → customer, agent or nothing.",
    )
    drop_if: ExpressionText = Field(
        default="", description="Records for which this expression is true are left out, such as spam."
    )
    people: AbsolutePath | None = Field(default=None, description="JSON file of users and their groups.")

    @model_validator(mode="after")
    def _has_mapping(self) -> Self:
        complete = self.complete_mapping
        lacking = [name for name in ("id", "title", "text") if not getattr(complete, name)]
        if lacking:
            raise ValueError(
                f"set `preset`, or a `mapping` that names at least id, title and text (lacking: {', '.join(lacking)})"
            )
        return self

    @property
    def complete_mapping(self) -> TicketMapping:
        return merged(PRESETS[self.preset], self.mapping) if self.preset else self.mapping
