"""What the broker holds of people's texts goes with an erasure, out of its file as well."""

from __future__ import annotations

from pathlib import Path

import redis
from pydantic import SecretStr

from assistant import servers
from assistant.config import Settings

TEXT = "Leah Fontaine of the college asked this"


def held(home: Path) -> bool:
    return any(TEXT.encode() in file.read_bytes() for file in home.rglob("*") if file.is_file())


def test_the_append_only_file_forgets_too(embedded: Settings, redis_url: str) -> None:
    home = embedded.state / "valkey"
    with redis.Redis.from_url(redis_url) as broker:
        broker.xadd("deskhand:answer:somebody:talk", {"d": TEXT})
        broker.set("deskhand:file:somebody:one", TEXT)
        broker.set("other", "stays")
        assert held(home)
        assert servers.forget_texts(embedded) == ""
        assert broker.keys("*") == [b"other"]
    assert not held(home)


def test_a_broker_that_is_away_is_told(embedded: Settings) -> None:
    away = embedded.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    assert "within the hour" in servers.forget_texts(away)
