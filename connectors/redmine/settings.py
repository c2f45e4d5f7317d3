"""What of a Redmine is read, and how."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field, SecretStr

from connectors.base import NotesSettings


def _names(value: object) -> object:
    pieces = value.split(",") if isinstance(value, str) else value
    if not isinstance(pieces, list | tuple):
        return value
    return tuple(str(name).strip() for name in cast("list[object]", pieces) if str(name).strip())


class RedmineSettings(NotesSettings):
    url: str = Field(description="Address of Redmine, such as https://redmine.example.com or with a path.")
    link_url: str = Field(default="", description="Address that people open, if it is another than url.")
    api_key: SecretStr = Field(description="API key of an account with the administrator's box ticked.")
    projects: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        default=(), description="Identifiers of the projects to read, such as support, crm; empty: all."
    )
    wiki: bool = Field(default=True, description="Read wikis too.")
    attachments: bool = Field(default=True, description="Read attachments too.")
    max_attachment_mb: int = Field(
        default=50, ge=1, description="Attachments above this many MB are not read."
    )
    customer_from: str = Field(
        default="project",
        pattern=r"^(project|email_domain|field:\s*\S.*)$",
        description="Whose tickets they are: project; email_domain (of the author's address); or field: and "
        "the name of a custom field, such as field:Customer (its value is shown to all who see the ticket).",
    )
    text_format: Literal["textile", "markdown", "common_mark"] = Field(
        default="textile", description="Text formatting, as in Administration > Settings > General."
    )
    trust_email: bool = Field(
        default=True,
        description="People are who the address of their account says, though Redmine lets them change it "
        "without a check.",
    )
    anonymous_is_everyone: bool = Field(
        default=False, description="What Redmine shows without a login is for everyone Deskhand answers."
    )
    reread_hours: int = Field(
        default=24,
        ge=1,
        description="Everything is read anew after this many hours, as Redmine does not tell when a note is "
        "edited or hidden.",
    )
    requests_per_second: float = Field(
        default=0.0, ge=0.0, description="Requests a second at most; 0: no limit."
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="Secret that calls of Deskhand's webhook are signed with, if any."
    )
