"""A folder on a WebDAV server: Nextcloud, ownCloud, Apache, or another one.

**What it needs.** The folder's address and an account that may list and read it; for
Nextcloud `https://cloud.example.com/remote.php/dav/files/deskhand/Support` and an app
password. Give the account no right to write.

**What is read.** Every file below the folder that `include` and `exclude` take. A file
is fetched when its ETag, date or size moved, and found again when it was renamed.

**How changes are noticed.** Each sync lists the folders, one request each. Nextcloud and
ownCloud change a folder's ETag with everything below it, so there a folder with the
ETag of last time is left out. Other servers have no such rule, and all is listed.
Folders that Nextcloud mounts from elsewhere are always listed.

**Who may read.** WebDAV tells nobody's rights but the account's own. The settings
`access` and `access_rules` say who may read; to begin with, nobody may.

**Limits.** Basic authentication or a bearer token. Changes made behind Nextcloud's back,
in its data folder, are seen once Nextcloud has scanned it.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import quote, unquote_to_bytes, urlsplit

from pydantic import Field, SecretStr

from assistant.errors import ItemError, SourceBusy, SourceRefused
from assistant.model import Access
from connectors.access import Tokens
from connectors.base import ConnectorSettings
from connectors.http import Http
from connectors.network import PUBLIC, Network
from connectors.shares import dav
from connectors.shares.tree import TreeConnector, TreeSettings, settled
from connectors.shares.walk import Entry, Folder, Found, Known, Listed, Unseen, as_text, walk

_GONE = (404, 410)
_REFUSED_ITEM = tuple(status for status in range(400, 500) if status not in (401, 408, 425, 429))
"""answers about one file or folder; 401 is about the account, the others mean later"""


class _Server(ConnectorSettings):
    url: str = Field(
        description="Address of the folder to read, https://….", pattern=r"^https?://[^/?#@]+([/?#].*)?$"
    )
    username: str = Field(default="", description="Account to read as.")
    password: SecretStr = Field(default=SecretStr(""), description="Its password, or app password.")
    token: SecretStr = Field(
        default=SecretStr(""), description="Bearer token, in place of username and password."
    )
    ca_file: str = Field(
        default="",
        description="PEM file with the authority that signed the server's certificate, if private.",
    )
    access: Tokens = Field(
        default=(), description="Who may read: everyone, nobody, or tokens such as group:support."
    )


class WebdavSettings(TreeSettings, _Server):
    pass


class WebdavConnector(TreeConnector):
    Settings: ClassVar[type[ConnectorSettings]] = WebdavSettings

    def __init__(self, settings: WebdavSettings, network: Network = PUBLIC) -> None:
        url = settings.url.partition("?")[0].partition("#")[0].rstrip("/")
        token = settings.token.get_secret_value()
        self._http = Http(
            url,
            network,
            headers={"Authorization": f"Bearer {token}"} if token else None,
            auth=None if token else (settings.username, settings.password.get_secret_value()),
            verify=settings.ca_file or True,
        )
        self._root = _segments(urlsplit(url).path)
        self._now = dt.datetime.now(dt.UTC)
        """by the server's clock"""
        super().__init__(
            settings,
            access=Access(frozenset(settings.access)),
            place=f"the folder {url}",
            link=url,
        )

    def close(self) -> None:
        self._http.close()

    def _walk(self, *, after: str = "", known: Known | None = None) -> Iterator[Found]:
        top = Folder("", "")
        if known is not None:
            # Its stamp has to be older than what is listed in it.
            stated = self._propfind(top, depth=0)
            top = self._folder(top.id, top.handle, stated[0].props) if stated else top
        yield from walk(top, self._list, self._selection, after=after, known=known)

    def _list(self, folder: Folder) -> list[Listed] | None:
        resources = self._propfind(folder, depth=1)
        if resources is None:
            return None
        here = [*self._root, *_segments(folder.handle)]
        listed: list[Listed] = []
        itself = False
        for resource in resources:
            path = _segments(urlsplit(resource.href).path)
            if path == here:
                itself = resource.props.collection
            elif path[:-1] == here and _is_name(path[-1]):
                listed.append(self._item(folder, path[-1], resource))
            else:
                # Whose it is can't be told, so nothing that is missing here may count as gone.
                listed.append(
                    Unseen(
                        folder.id,
                        "The server's listing of this folder names files that lie elsewhere, or whose names can't "
                        "be used. Rename them, or ask the server's admin.",
                    )
                )
        if not itself:
            raise ItemError("The server's answer is no listing of this folder. Does its address lead there?")
        return list(dict.fromkeys(listed))

    def _item(self, folder: Folder, name: bytes, resource: dav.Resource) -> Listed:
        path = f"{folder.id}/{as_text(name)}" if folder.id else as_text(name)
        handle = f"{folder.handle}/{quote(name, safe='')}" if folder.handle else quote(name, safe="")
        if resource.status >= 400:
            return Unseen(path, _refusal(resource.status))
        props = resource.props
        if props.collection:
            return self._folder(path, handle, props)
        return Entry(
            path,
            (handle, props.etag, props.checksums),
            size=props.size,
            stamp=f"{props.fileid} {props.etag} {props.modified}",
            modified=props.modified,
            settled=bool(props.fileid and props.etag) or settled(props.modified, self._now),
            lasting=bool(props.fileid and props.etag),
        )

    def _folder(self, path: str, handle: str, props: dav.Props) -> Folder:
        # What changes behind a mount ("M") is seen only when somebody looks into it.
        propagates = props.fileid and "M" not in props.permissions
        return Folder(path, handle, stamp=f"{props.fileid} {props.etag}" if propagates and props.etag else "")

    def _propfind(self, folder: Folder, *, depth: int) -> list[dav.Resource] | None:
        try:
            response = self._http.request(
                "PROPFIND",
                f"{folder.handle}/" if folder.handle else "",
                headers={"Depth": str(depth), "Content-Type": "application/xml"},
                content=dav.PROPFIND,
                accept=_REFUSED_ITEM,
            )
        except SourceBusy as error:
            raise self._blame(folder.id, error) from error
        self._now = _date(response.headers.get("date", ""))
        if response.status_code in _GONE:
            return None
        if response.status_code >= 400:
            raise ItemError(_refusal(response.status_code))
        if response.status_code != 207:
            raise SourceRefused(
                f"{self._http.base_url.host} does not speak WebDAV at this address (HTTP {response.status_code}). "
                "Nothing was changed or deleted; correct the source's address."
            )
        return dav.parse(response.content)

    def _fetch(self, entry: Entry, limit: int) -> tuple[bytes, dict[str, Any]] | None:
        handle, etag, checksums = entry.handle
        try:
            response = self._http.get(handle, accept=_REFUSED_ITEM, max_bytes=limit)
        except SourceBusy as error:
            raise self._blame(entry.id, error) from error
        if response.status_code in _GONE:
            return None
        if response.status_code >= 400:
            raise ItemError(_refusal(response.status_code))
        # Another ETag means it was changed since it was listed: then the next sync fetches it again.
        if response.headers.get("etag", "") == etag and not _matches(response.content, checksums):
            raise ItemError(
                "What arrived does not have the checksum the server names for it. It is tried again at the next "
                "sync; if that goes on, upload the file anew."
            )
        return response.content, {}

    def _gone(self, file: str) -> bool:
        response = self._http.request(
            "PROPFIND",
            quote(file),
            headers={"Depth": "0", "Content-Type": "application/xml"},
            content=dav.PROPFIND,
            accept=_REFUSED_ITEM,
        )
        return response.status_code in _GONE

    def _blame(self, path: str, error: SourceBusy) -> SourceBusy | ItemError:
        """One item on which the server fails, while it answers about the whole, is that item's trouble."""
        if not path or error.retry_after is not None:
            return error
        try:
            self._propfind(Folder("", ""), depth=0)
        except (SourceBusy, ItemError):
            return error
        return ItemError("The server fails on it each time it is asked. It is tried again at the next sync.")


def _segments(path: str) -> list[bytes]:
    """The names in an URL's path, decoded each for itself: an escaped slash is part of a name."""
    return [unquote_to_bytes(part) for part in path.strip("/").split("/")] if path.strip("/") else []


def _is_name(name: bytes) -> bool:
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


def _date(text: str) -> dt.datetime:
    try:
        return email.utils.parsedate_to_datetime(text).astimezone(dt.UTC)
    except ValueError:
        return dt.datetime.now(dt.UTC)


def _matches(body: bytes, checksums: str) -> bool:
    """Whether `body` has every checksum named, `SHA1:… MD5:…`, as far as we can tell."""
    for entry in checksums.split():
        kind, _, value = entry.partition(":")
        if kind in ("MD5", "SHA1", "SHA256"):
            digest = hashlib.new(kind.lower(), body, usedforsecurity=False).hexdigest()
            if digest != value.lower():
                return False
    return True


def _refusal(status: int) -> str:
    match status:
        case 403:
            return (
                "The server forbids it to this account. Give the account the right to read it, or exclude it."
            )
        case 423:
            return "It is locked on the server. It is tried again at the next sync."
        case _:
            return f"The server refuses it (HTTP {status}). It is tried again at the next sync."
