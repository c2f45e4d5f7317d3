from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpcore
import pytest

from assistant.errors import SourceRefused
from assistant.model import Access
from connectors.http import Http
from connectors.network import Network
from connectors.s3 import S3Connector, S3Settings
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, Replica, WritableSource, changes
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


@pytest.fixture
def bucket(storage: s3.S3) -> Iterator[Bucket]:
    with closing(Bucket(storage, prefix="")) as made:
        yield made


def synced(bucket: Bucket) -> Replica:
    replica = Replica()
    replica.sync(bucket.connector())
    return replica


HOSTILE = (
    "../outside.md",
    "a/../b.md",
    "a//b.md",
    "/a/b.md",
    "a/./b.md",
    "a/%2e%2e/b.md",
    "a%2Fb.md",
    "grün 🦘 e\u0301.md",
    "a b+c&d=e?f#g;h:i@j,k'l(m)*n!.md",
    'quo"te<tag>&amp;.md',
    "control\x01.md",
    "back\\slash.md",
    "<!DOCTYPE x>.md",
    "~user/x.md",
)


def test_keys_that_look_like_paths_are_only_keys(bucket: Bucket) -> None:
    """With signatures checked, which any tidying of a key would break."""
    bucket.settings["exclude"] = []
    for key in HOSTILE:
        bucket.write(key, f"this is {key}")
    bucket.write("folder/", "")
    replica = synced(bucket)
    assert not replica.failures
    assert {name: document.body for name, document in replica.documents.items()} == {
        key: f"this is {key}".encode() for key in HOSTILE
    }
    assert all(document.title for document in replica.documents.values())
    assert set(bucket.connector().inventory()) == set(HOSTILE)
    assert changes(replica.sync(bucket.connector())) == []


def test_every_request_is_signed(bucket: Bucket) -> None:
    iam = bucket.server.connect("iam", s3.ACCESS_KEY, s3.SECRET_KEY)
    iam.create_user(UserName=bucket.name)
    keys = iam.create_access_key(UserName=bucket.name)["AccessKey"]
    rights = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}],
    }
    iam.put_user_policy(UserName=bucket.name, PolicyName="read", PolicyDocument=json.dumps(rights))
    iam.close()
    for key in ("a b+c.md", "grün.md", "a~b.md", "a//b.md"):
        bucket.write(key, "x")
    good = {"access_key": keys["AccessKeyId"], "secret_key": keys["SecretAccessKey"]}
    bucket.server.demand_signatures(after=0)
    try:
        bucket.settings |= good
        assert set(synced(bucket).documents) == {"a b+c.md", "grün.md", "a~b.md", "a//b.md"}
        bucket.settings["secret_key"] = "another one"
        with pytest.raises(SourceRefused, match=r"SignatureDoesNotMatch.*Nothing was"):
            list(bucket.connector().sync(None))
        bucket.settings["access_key"] = "AKIAUNKNOWN"
        with pytest.raises(SourceRefused, match=r"InvalidAccessKeyId.*Nothing was"):
            list(bucket.connector().inventory())
    finally:
        bucket.server.demand_signatures(after=None)


def test_a_rule_on_a_folder_is_not_passed_by_an_odd_key(bucket: Bucket) -> None:
    bucket.settings |= {"access_rules": {"restricted/**": "group:few"}, "exclude": []}
    keys = ("restricted/a.md", "/restricted/b.md", "x/../restricted/c.md", "x//d.md", "x/e.md")
    for key in keys:
        bucket.write(key, key)
    found = {name: set(document.access.tokens) for name, document in synced(bucket).documents.items()}
    assert found == {
        "restricted/a.md": {"group:few"},
        "/restricted/b.md": set(),
        "x/../restricted/c.md": set(),
        "x//d.md": set(),
        "x/e.md": {"everyone"},
    }


def test_nobody_may_read_until_somebody_says_so(bucket: Bucket) -> None:
    del bucket.settings["access"]
    bucket.write("a.md", "x")
    assert synced(bucket).documents["a.md"].access == Access.nobody()
    assert "1 of them readable by nobody" in bucket.connector().check()


def test_versions_and_delete_markers(bucket: Bucket) -> None:
    bucket.server.client.put_bucket_versioning(
        Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    for text in ("first", "second"):
        bucket.write("a.md", text)
        bucket.write("b.md", text)
    replica = synced(bucket)
    assert {d.body for d in replica.documents.values()} == {b"second"}
    assert replica.documents["a.md"].metadata["version"]
    marker = bucket.server.client.delete_object(Bucket=bucket.name, Key="a.md")["VersionId"]
    replica.sync(bucket.connector())
    assert set(replica.documents) == {"b.md"} == set(bucket.connector().inventory())
    bucket.server.client.delete_object(Bucket=bucket.name, Key="a.md", VersionId=marker)
    replica.sync(bucket.connector())
    assert set(replica.documents) == {"a.md", "b.md"}


def test_pages_and_walks_that_are_taken_up(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.s3.PAGE", 7)
    keys = {f"{folder}{number:02}.md" for folder in ("", "a/", "a-b/", "ä/") for number in range(25)}
    for key in keys:
        bucket.write(key, key)
    replica = Replica()
    seen: list[object] = []
    while taken := replica.sync(bucket.connector(), batches=1):
        seen += changes(taken)
    assert len(seen) == 100
    assert set(replica.documents) == keys == set(bucket.connector().inventory())


def test_a_prefix_is_kept_to(bucket: Bucket) -> None:
    bucket.settings["prefix"] = "team/"
    for key in ("team/a.md", "team-b/b.md", "other.md", "team/.hidden/c.md", "team/d.png"):
        bucket.write(key, key)
    bucket.settings["include"] = "*.md"
    assert set(synced(bucket).documents) == {"team/a.md"}


def test_an_archived_object_is_a_failure(bucket: Bucket) -> None:
    bucket.write("a.md", "x")
    bucket.server.client.put_object(
        Bucket=bucket.name, Key="cold.md", Body=b"quokka-7731", StorageClass="GLACIER"
    )
    replica = synced(bucket)
    assert set(replica.documents) == {"a.md"}
    assert replica.failures == {"cold.md": "It is archived. Restore it, or exclude it."}
    assert set(bucket.connector().inventory()) == {"a.md", "cold.md"}


def test_what_the_machine_has_of_its_own_is_not_used(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket.write("a.md", "x")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAMACHINE",
        "AWS_PROFILE": "there-is-none",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_CA_BUNDLE": str(tmp_path / "none.pem"),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    sent: list[str] = []
    real = Http.request

    def request(self: Http, *arguments: Any, **options: Any) -> Any:
        sent.append(options["headers"]["Authorization"])
        return real(self, *arguments, **options)

    monkeypatch.setattr(Http, "request", request)
    assert set(synced(bucket).documents) == {"a.md"}
    assert len(sent) >= 2
    assert all(f"Credential={s3.ACCESS_KEY}/" in header for header in sent)


def test_no_address_but_public_ones(bucket: Bucket) -> None:
    settings = S3Settings.model_validate({**bucket.settings, "endpoint": f"http://127.0.0.1:{bucket.port}"})
    with closing(S3Connector(settings)) as connector, pytest.raises(SourceRefused, match="no public address"):
        connector.check()


def test_a_name_that_changes_its_address_gets_nowhere(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is public, each later one is the loopback: what was checked is what is connected to."""
    asked: list[str] = []
    connected: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return real("1.1.1.1" if len(asked) == 1 else "127.0.0.1", port, *arguments, **options)

    def connect(_: object, host: str, *arguments: Any) -> Any:
        connected.append(host)
        raise httpcore.ConnectError("nothing is reached in a test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    settings = S3Settings.model_validate(
        {**bucket.settings, "endpoint": f"http://rebind.example:{bucket.port}"}
    )
    with closing(S3Connector(settings)) as connector, pytest.raises(SourceRefused, match="no public address"):
        connector.check()
    assert asked == ["rebind.example", "rebind.example"]
    assert connected == ["1.1.1.1"]


def test_credentials_stay_out_of_sight(bucket: Bucket) -> None:
    connector = bucket.connector()
    assert s3.SECRET_KEY not in repr(connector._settings) + bucket.connector().check()
    bucket.settings["bucket"] = "there-is-no-such-bucket"
    with pytest.raises(SourceRefused, match=r"NoSuchBucket.*Nothing was") as caught:
        bucket.connector().check()
    assert s3.SECRET_KEY not in str(caught.value)
