"""A bucket of S3, or of a storage that speaks its protocol (MinIO, Ceph, Garage, R2, …).

**What it needs.** The bucket, and a key pair with the rights `s3:ListBucket` on it and
`s3:GetObject` on its objects; nothing more. Only this key pair is used: what the machine
has in its environment, in `~/.aws` or from its cloud's metadata service is not looked at.

**What is read.** Every object whose key begins with `prefix` and that `include` and
`exclude` take, matched with the whole key. In a bucket with versions the latest one
counts, and an object under a delete marker is gone. Keys that end in a slash and hold
nothing are folders of a console, and left out.

**How changes are noticed.** Each sync lists the bucket, one request per thousand
objects; an object is fetched when its ETag, size or date moved. An object that was
copied and then deleted counts as renamed.

**Who may read.** S3 knows applications rather than people. The settings `access` and
`access_rules` say who may read; to begin with, nobody may.

**Limits.** Archived objects (Glacier) are recorded as failures until they are restored.
Objects under a key of the customer's own (SSE-C) can't be read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal
from urllib.parse import quote, unquote_to_bytes, urlsplit
from xml.etree.ElementTree import Element

import httpx
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import Field, SecretStr

from assistant.errors import ItemError, SourceBusy, SourceError, SourceRefused
from assistant.model import Access
from connectors.access import Tokens
from connectors.base import ConnectorSettings
from connectors.http import Http
from connectors.network import PUBLIC, Network
from connectors.shares.dav import parse_xml
from connectors.shares.tree import TreeConnector, TreeSettings
from connectors.shares.walk import Entry, Found, Known, Unseen, as_text

PAGE = 1000
"""objects in a listing's page, the most there may be"""
_ANSWERS = (301, 307, 400, 403, 404, 405, 409, 410, 412)
"""refusals that say in XML what they are about"""
_ABOUT_OBJECT = {
    "AccessDenied": "The storage forbids it to this key. Allow s3:GetObject for it, or exclude it.",
    "InvalidObjectState": "It is archived. Restore it, or exclude it.",
    "InvalidRequest": "It can't be read without the key it was encrypted with. Exclude it.",
}

_ABOUT_KEYS = ("ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "NoSuchBucket", "RequestTimeTooSkewed")


class _Bucket(ConnectorSettings):
    bucket: str = Field(description="Name of the bucket.", min_length=1, pattern=r"^[^/?#\s]+$")
    prefix: str = Field(default="", description="What the keys to read begin with, such as handbook/.")
    endpoint: str = Field(
        default="",
        description="Address of the storage; default: Amazon's in `region`.",
        pattern=r"^(https?://[^/?#@]+([/?#].*)?)?$",
    )
    region: str = Field(default="us-east-1", description="Region of the bucket.", pattern=r"^[\w-]+$")
    access_key: SecretStr = Field(description="Access key id.")
    secret_key: SecretStr = Field(description="Secret access key.")
    session_token: SecretStr = Field(default=SecretStr(""), description="Session token of temporary keys.")
    addressing: Literal["path", "virtual"] = Field(
        default="path", description="Where requests name the bucket: in the path, or in the host's name."
    )
    ca_file: str = Field(
        default="",
        description="PEM file with the authority that signed the server's certificate, if private.",
    )
    access: Tokens = Field(
        default=(), description="Who may read: everyone, nobody, or tokens such as group:support."
    )


class S3Settings(TreeSettings, _Bucket):
    pass


class S3Connector(TreeConnector):
    Settings: ClassVar[type[ConnectorSettings]] = S3Settings

    def __init__(self, settings: S3Settings, network: Network = PUBLIC) -> None:
        endpoint = (settings.endpoint or f"https://s3.{settings.region}.amazonaws.com").rstrip("/")
        scheme, host, path, *_ = urlsplit(endpoint)
        if settings.addressing == "virtual":
            host = f"{settings.bucket}.{host}"
        else:
            path = f"{path}/{settings.bucket}"
        self._path = path
        self._http = Http(f"{scheme}://{host}", network, verify=settings.ca_file or True)
        self._origin = f"{scheme}://{host}"
        self._settings = settings
        self._signer = S3SigV4Auth(
            Credentials(
                settings.access_key.get_secret_value(),
                settings.secret_key.get_secret_value(),
                settings.session_token.get_secret_value() or None,
            ),
            "s3",
            settings.region,
        )
        super().__init__(
            settings,
            access=Access(frozenset(settings.access)),
            place=f"the bucket {settings.bucket}"
            + (f" under «{settings.prefix}»" if settings.prefix else ""),
            link=f"s3://{settings.bucket}",
        )

    def close(self) -> None:
        self._http.close()

    def _walk(self, *, after: str = "", known: Known | None = None) -> Iterator[Found]:
        for page in self._pages(after):
            encoded = page.findtext("EncodingType") == "url"
            for element in page.iterfind("Contents"):
                item = self._item(element, encoded=encoded)
                if isinstance(item, Unseen) or (item is not None and self._takes(item)):
                    yield item

    def _pages(self, after: str) -> Iterator[Element]:
        token = ""
        while True:
            query = {"encoding-type": "url", "list-type": "2", "max-keys": str(PAGE)}
            if self._settings.prefix:
                query["prefix"] = self._settings.prefix
            if token:
                query["continuation-token"] = token
            elif after:
                query["start-after"] = after
            response = self._send("GET", b"", query)
            page = _plain(parse_xml(response.content))
            if response.status_code != 200:
                raise self._refused(response.status_code, page)
            if page is None or page.tag != "ListBucketResult":
                raise SourceBusy(
                    f"{self._http.base_url.host} answers with something that is no list of objects. Nothing was "
                    "changed or deleted; it is tried again later. Is its address right?"
                )
            yield page
            if page.findtext("IsTruncated") != "true":
                return
            before, token = token, page.findtext("NextContinuationToken") or ""
            if token in ("", before):
                raise SourceBusy(
                    f"{self._http.base_url.host} lists the same objects again and again. Nothing was changed or "
                    "deleted; it is tried again later."
                )

    def _item(self, element: Element, *, encoded: bool) -> Entry | Unseen | None:
        # Only in this encoding can a key have characters that XML has not.
        text = element.findtext("Key") or ""
        key = unquote_to_bytes(text.replace("+", " ")) if encoded else text.encode()
        name = as_text(key)
        if not key.startswith(self._settings.prefix.encode()) or not key:
            return None  # not what was asked for
        if name.encode() != key:
            return Unseen(name, "Its key has bytes that are no text. Give it another one.")
        size = int(element.findtext("Size") or 0)
        if key.endswith(b"/") and size == 0:
            return None
        modified = element.findtext("LastModified") or ""
        return Entry(
            name,
            key,
            size,
            stamp=f"{element.findtext('ETag')} {modified}",
            modified=_moment(modified),
            settled=bool(element.findtext("ETag")),
        )

    def _takes(self, entry: Entry) -> bool:
        chosen = self._selection
        return (
            chosen.includes(entry.id)
            and not chosen.excludes(entry.id)
            and not chosen.excludes_above(entry.id)
        )

    def _tokens(self, entry: Entry) -> tuple[str, ...]:
        """Nobody, for a key that a rule may or may not mean, such as `a/../b` or `a//b`."""
        odd = any(name in ("", ".", "..") for name in entry.id.split("/"))
        return () if odd and self._settings.access_rules else super()._tokens(entry)

    def _fetch(self, entry: Entry, limit: int) -> tuple[bytes, dict[str, Any]] | None:
        try:
            response = self._send("GET", entry.handle, {}, max_bytes=limit)
        except SourceBusy as error:
            raise self._blame(error) from error
        if response.status_code == 200:
            version = response.headers.get("x-amz-version-id", "")
            return response.content, {"version": version} if version not in ("", "null") else {}
        page = _plain(parse_xml(response.content))
        code = _code(page)
        if code in _ABOUT_KEYS:
            raise self._refused(response.status_code, page)
        if response.status_code in (404, 410):
            return None
        raise ItemError(
            _ABOUT_OBJECT.get(code, f"The storage refuses it ({code or f'HTTP {response.status_code}'}).")
        )

    def _gone(self, file: str) -> bool:
        return self._send("HEAD", file.encode(), {}).status_code == 404

    def _send(
        self, method: str, key: bytes, query: Mapping[str, str], *, max_bytes: int = 2**26
    ) -> httpx.Response:
        """Signed, and sent byte for byte as signed: with `a/../b` tidied it would ask for another object."""
        path = quote(self._path, safe="/") + "/" + quote(key, safe="/")
        asked = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(query.items()))
        target = f"{path}?{asked}" if asked else path
        request = AWSRequest(method=method, url=f"{self._origin}{target}")
        self._signer.add_auth(request)
        return self._http.request(
            method,
            "",
            headers=dict(request.headers.items()),
            extensions={"target": target.encode()},
            accept=_ANSWERS,
            max_bytes=max_bytes,
        )

    def _blame(self, error: SourceBusy) -> SourceBusy | ItemError:
        """One object on which the storage fails, while it lists the bucket, is that object's trouble."""
        if error.retry_after is not None:
            return error
        try:
            next(self._pages(""))
        except SourceBusy:
            return error
        return ItemError("The storage fails on it each time it is asked. It is tried again at the next sync.")

    def _refused(self, status: int, page: Element | None) -> SourceError:
        code = _code(page)
        if code in ("RequestTimeout", "OperationAborted"):
            return SourceBusy(f"The storage is busy ({code}). Nothing was lost; it is tried again later.")
        advice = {
            "NoSuchBucket": "correct the name of the bucket, or remove the source if it is gone for good",
            "PermanentRedirect": "set the bucket's own region",
            "AuthorizationHeaderMalformed": "set the bucket's own region",
            "RequestTimeTooSkewed": "set this machine's clock",
            "ExpiredToken": "these keys have expired: enter new ones",
        }.get(code, "check the keys and their rights, then sync again")
        return SourceRefused(
            f"{self._http.base_url.host} refuses the bucket {self._settings.bucket} ({code or 'no reason given'}, "
            f"HTTP {status}). Nothing was changed or deleted; {advice}."
        )


def _plain(root: Element | None) -> Element | None:
    """Without namespaces: storages differ in whether they name one."""
    for element in root.iter() if root is not None else ():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _code(page: Element | None) -> str:
    return (page.findtext("Code") or "") if page is not None else ""


def _moment(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except ValueError:
        return None
