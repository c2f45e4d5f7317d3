"""Who may read, as settings say it: access tokens, rules by path, and a file of people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from assistant.errors import SourceRefused
from assistant.model import EVERYONE, Access, Member
from connectors.paths import glob_pattern

_TOKEN = re.compile(r"(user|group):\S.*")


def _tokens(value: object) -> object:
    """`"nobody"`, `"everyone"`, `"group:a, user:b"` or a list of such; anything else is a ValueError."""
    if isinstance(value, str):
        value = [piece.strip() for piece in value.split(",")]
    if not isinstance(value, list | tuple):
        return value
    tokens = [str(token) for token in cast("list[object]", value)]
    if tokens in (["nobody"], []):
        return ()
    for token in tokens:
        if token != EVERYONE and not _TOKEN.fullmatch(token):
            raise ValueError(
                f"«{token}» is no access token: write everyone, group:<name> or user:<name>, or nobody alone"
            )
    return tuple(sorted(set(tokens)))


Tokens = Annotated[tuple[str, ...], BeforeValidator(_tokens)]
"""Settings type for access tokens; `nobody` becomes no tokens."""


class AccessRules:
    """Globs with the tokens they grant; of several that match, the most specific one counts.

    Specific means: the longest stretch before the first wildcard, then the longest
    glob. The order of the mapping does not matter, because a database that keeps it
    as jsonb does not keep its order.
    """

    def __init__(self, rules: Mapping[str, tuple[str, ...]]) -> None:
        def literal(glob: str) -> str:
            return re.split(r"[*?\[]", glob.strip("/"), maxsplit=1)[0]

        ordered = sorted(rules, key=lambda glob: (-len(literal(glob)), -len(glob), glob))
        self._rules = [(glob_pattern(glob), Access(frozenset(rules[glob]))) for glob in ordered]

    def find(self, path: str) -> Access | None:
        for pattern, access in self._rules:
            if pattern.fullmatch(path):
                return access
        return None


class _Person(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str = Field(min_length=1)
    name: str = ""
    email: str = ""
    groups: frozenset[str] = frozenset()


def read_people(path: Path) -> Iterator[Member]:
    """Members from a JSON file `{"users": [{"id", "name", "email", "groups": [...]}]}`.

    An id that is an e-mail address stands for a missing `email`. Raises
    `SourceRefused` when the file is missing or shaped otherwise.
    """
    advice = "Memberships were left as they were; mend the file or the setting «people»."
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no valid JSON"
        raise SourceRefused(f"The file of people {path} can't be read: {what}. {advice}") from None
    try:
        people = [_Person.model_validate(user) for user in content["users"]]
    except (KeyError, TypeError):
        raise SourceRefused(f"{path} has no list «users». {advice}") from None
    except ValidationError as error:
        where = ", ".join({".".join(map(str, problem["loc"])) for problem in error.errors()})
        raise SourceRefused(f"A user in {path} is not usable (see {where}). {advice}") from None
    for person in people:
        email = person.email or (person.id if "@" in person.id else "")
        yield Member(user=person.id, email=email, name=person.name, groups=person.groups)
