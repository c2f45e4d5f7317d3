from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors.network import Network
from connectors.s3 import S3Connector, S3Settings
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, WritableSource
from tests.servers import s3

pytestmark = pytest.mark.server
HERE = Network(("127.0.0.1",))
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def storage(folder: Path) -> Iterator[s3.S3]:
    (folder / "s3").mkdir()
    server = s3.S3(folder / "s3")
    yield server
    server.close()


class Bucket(WritableSource):
    def __init__(self, server: s3.S3, **settings: Any) -> None:
        self.made: list[S3Connector] = []
        self.server = server
        self.port = server.port
        self.name = f"bucket-{next(_numbers)}"
        server.client.create_bucket(Bucket=self.name)
        self.settings = {
            "bucket": self.name,
            "prefix": "docs/",
            "access_key": s3.ACCESS_KEY,
            "secret_key": s3.SECRET_KEY,
            "access": "everyone",
            **settings,
        }

    def connector(self, port: int | None = None) -> S3Connector:
        endpoint = f"http://127.0.0.1:{port or self.port}"
        made = S3Connector(S3Settings.model_validate({"endpoint": endpoint, **self.settings}), HERE)
        self.made.append(made)
        return made

    def close(self) -> None:
        for made in self.made:
            made.close()

    def put(self, name: str, text: str) -> str:
        self.write(f"docs/{name}.md", text)
        return f"docs/{name}.md"

    def write(self, key: str, text: str) -> None:
        self.server.client.put_object(Bucket=self.name, Key=key, Body=text.encode())

    def delete(self, key: str) -> None:
        self.server.client.delete_object(Bucket=self.name, Key=key)

    def remove(self, name: str) -> None:
        self.delete(f"docs/{name}.md")

    def rename(self, name: str, to: str) -> None:
        self.server.client.copy_object(
            Bucket=self.name,
            Key=f"docs/sub/{to}.md",
            CopySource={"Bucket": self.name, "Key": f"docs/{name}.md"},
        )
        self.remove(name)

    def spoil(self) -> None:
        self.settings["max_file_mb"] = 1
        self.write("docs/huge.md", CONTENT_WORD * 200_000)

    def withdraw(self, name: str) -> None:
        self.settings["access_rules"] = {f"docs/{name}.md": "nobody"}

    def vanish(self) -> None:
        listed = self.server.client.list_objects_v2(Bucket=self.name)["Contents"]
        for item in listed:
            self.delete(item["Key"])
        self.server.client.delete_bucket(Bucket=self.name)


class TestS3(ConnectorConformance):
    @pytest.fixture
    def source(self, storage: s3.S3) -> Iterator[WritableSource]:
        with closing(Bucket(storage)) as bucket:
            yield bucket
