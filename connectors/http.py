"""HTTP as connectors speak it: patient, polite, and unable to reach what it may not.

- 429 and 5xx, refused, dropped and truncated answers are tried again with growing,
  jittered waits; a server's `Retry-After` is obeyed. What takes longer than a
  worker's slice becomes `SourceBusy` with the time to wait, and the run goes on then.
- Trouble with one item alone is told from trouble with the server (`one_item`).
- 401 becomes `SourceRefused`: it stops the source until an admin has seen to it.
- A redirect is followed within the same origin only, so credentials stay there; a file
  that the server keeps elsewhere is fetched by `download`, from named hosts, without them.
- An answer larger than the limit is cut off while it arrives.
"""

from __future__ import annotations

import email.utils
import hashlib
import hmac
import random
import ssl
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpcore
import httpx

from assistant.errors import ItemError, SourceBusy, SourceError, SourceRefused
from connectors.network import Network

TRIES = 4
PATIENCE_SECONDS = 20.0
"""longer waits than this, all together, are left to the schedule"""
MAX_BYTES = 200 * 2**20
TIMEOUT = httpx.Timeout(30.0, connect=10.0, pool=5.0)
REDIRECTS = 5
AGENT = "Deskhand"

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


class Http:
    """A client for one server. `each_second`: requests a second at most, 0 for no limit of our own."""

    def __init__(
        self,
        base_url: str,
        network: Network,
        *,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | tuple[str, str] | None = None,
        verify: bool | str = True,
        each_second: float = 0.0,
    ) -> None:
        self.base_url = httpx.URL(base_url.rstrip("/") + "/")
        if self.base_url.scheme not in ("http", "https") or not self.base_url.host:
            raise SourceRefused(f"«{base_url}» is no http(s) address. Nothing was sent; correct the setting.")
        self._gap = 1.0 / each_second if each_second else 0.0
        self._next = 0.0
        self.requests = 0
        """sent so far, tries included"""
        self.clock = 0.0
        """the server's time as of its last answer, in epoch seconds; ours if it does not say"""
        self._client = httpx.Client(
            base_url=self.base_url,
            headers={"User-Agent": AGENT, **(headers or {})},
            auth=auth,
            timeout=TIMEOUT,
            transport=_Guarded(network, verify=verify),
            follow_redirects=False,
            trust_env=False,  # a proxy of the environment would connect where we may not
        )
        self._network, self._verify = network, verify
        self._strange: httpx.Client | None = None
        """for other origins: it has neither our credentials nor our cookies"""

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        accept: Iterable[int] = (),
        max_bytes: int = MAX_BYTES,
        tries: int = TRIES,
        **options: Any,
    ) -> httpx.Response:
        """The answer, read to its end, with a status of 2xx or one in `accept`.

        `path` is relative to the base URL, or a whole URL of the same origin. What may not be
        sent twice gets one of `tries`. Raises `SourceRefused` (401, 403 and other refusals of the
        whole request), `SourceBusy`, or `ItemError` when the answer is larger than `max_bytes`.
        """
        accepted = frozenset(accept)
        waited = 0.0
        for attempt in range(1, tries + 1):
            response, problem, wait = None, "", 0.0
            try:
                response = self._once(method, path, max_bytes, options)
            except (httpx.TransportError, httpx.DecodingError) as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
            else:
                if response.is_success or response.status_code in accepted:
                    self.clock = _date(response)
                    return response
                if response.status_code not in _AGAIN and not _limited(response):
                    raise self._refused(response)
                problem = f"HTTP {response.status_code}"
                wait = retry_after(response)
            wait = wait or random.uniform(0.5, 1.0) * 2 ** (attempt - 1)  # noqa: S311 - jitter, no secret
            if attempt == tries or waited + wait > PATIENCE_SECONDS:
                raise SourceBusy(
                    f"{self.base_url.host} does not answer as it should ({problem}). Nothing was lost; the "
                    "sync goes on where it stopped.",
                    retry_after=wait if response is not None and retry_after(response) else None,
                )
            time.sleep(wait)
            waited += wait
        raise AssertionError("the last try returns or raises")

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The decoded JSON of an answer; one that is none is a dropped answer, and tried again once."""
        for last in (False, True):
            response = self.request(method, path, **options)
            try:
                return response.json()
            except ValueError:
                if last:
                    raise SourceBusy(
                        f"{self.base_url.host} answered {response.url.path} with something that is no JSON "
                        f"(HTTP {response.status_code}). Nothing was lost; it is tried again later. Is its "
                        "address right, and no login page in front of it?"
                    ) from None
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def one_item(self, probe: str) -> Generator[None]:
        """Around requests about one item: what fails though `probe`, a cheap request for JSON, is
        answered is this item's trouble, and must not hold up the others: `ItemError`.
        """
        try:
            yield
        except SourceBusy as error:
            if error.retry_after is not None:
                raise
            self.json("GET", probe)
            raise ItemError(
                f"{self.base_url.host} fails on this item each time it is asked, and answers otherwise. It was not "
                "read; it is tried again by itself. If that does not help, see whether it can be opened there.",
                permanent=False,
            ) from error

    def download(self, url: str, *, hosts: Iterable[str], max_bytes: int = MAX_BYTES) -> bytes:
        """The bytes at `url`, which the server may keep, or redirect to, on one of `hosts`.

        Credentials go to the server's own origin alone; a host stands for the names under it
        too. Raises `ItemError` when the file is gone, forbidden, elsewhere or too large, and
        `SourceBusy` and `SourceRefused` as `request` does.
        """
        gone = frozenset({401, 403, 404, 410})
        response = self.request("GET", url, accept=gone, max_bytes=max_bytes, hosts=frozenset(hosts))
        if response.status_code == 401 and self._ours(response.url):
            raise self._refused(response)
        if response.status_code in gone:
            raise ItemError(
                f"{response.url.host} does not hand it out (HTTP {response.status_code}). It was not read; see "
                "whether it still exists and whether the source's account may open it."
            )
        return response.content

    def close(self) -> None:
        self._client.close()
        if self._strange is not None:
            self._strange.close()
            self._strange = None

    def _once(self, method: str, path: str, limit: int, options: dict[str, Any]) -> httpx.Response:
        hosts: frozenset[str] | None = options.get("hosts")
        options = {k: v for k, v in options.items() if k != "hosts"}
        url = self._client.base_url.join(path.lstrip("/") if "://" not in path else path)
        for _ in range(REDIRECTS):
            client = self._client_for(url, hosts)
            self._pace()
            self.requests += 1
            with client.stream(method, url, **options) as response:
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > limit:
                        raise ItemError(
                            f"It is larger than {limit / 2**20:,.0f} MB. It was not read; exclude it, or raise "
                            "the limit."
                        )
                response._content = bytes(body)  # pyright: ignore[reportPrivateUsage] - what read() does
            if response.next_request is None:
                return response
            url = response.next_request.url
            if response.status_code == 303:
                method = "GET"
            options = {k: v for k, v in options.items() if k != "params"}  # the new address has its own
        raise SourceRefused(
            f"{self.base_url.host} redirects without end. Nothing was changed; check its address."
        )

    def _ours(self, url: httpx.URL) -> bool:
        return (url.scheme, url.host, url.port) == (
            self.base_url.scheme,
            self.base_url.host,
            self.base_url.port,
        )

    def _client_for(self, url: httpx.URL, hosts: frozenset[str] | None) -> httpx.Client:
        """Ours for our origin, one that knows no secrets for `hosts`; none for any other place."""
        if self._ours(url):
            return self._client
        if hosts is None:
            raise SourceRefused(
                f"{self.base_url.host} sends us to {url.scheme}://{url.host}, where its credentials don't "
                "belong. Nothing was sent there. If the server moved, correct the source's address."
            )
        safe = url.scheme == "https" or url.scheme == self.base_url.scheme == "http"
        if not safe or not any(url.host == host or url.host.endswith(f".{host}") for host in hosts):
            raise ItemError(
                f"It is kept at {url.scheme}://{url.host}, which is none of the hosts this source may fetch "
                "files from. It was not read; name the host in the source's settings if it is right."
            )
        if self._strange is None:
            self._strange = httpx.Client(
                headers={"User-Agent": AGENT},
                timeout=TIMEOUT,
                transport=_Guarded(self._network, verify=self._verify),
                follow_redirects=False,
                trust_env=False,
            )
        return self._strange

    def _pace(self) -> None:
        now = time.monotonic()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._gap

    def _refused(self, response: httpx.Response) -> SourceError:
        status, host = response.status_code, self.base_url.host
        if status == 401:
            return SourceRefused(
                f"{host} refuses the credentials (HTTP 401). Nothing was lost; this source waits until you "
                "have corrected them."
            )
        if status == 403:
            return SourceRefused(
                f"{host} forbids {response.url.path} to this account (HTTP 403). Nothing was lost; give the "
                "account the right, then sync again."
            )
        return SourceRefused(
            f"{host} refuses {response.url.path} (HTTP {status}). Nothing was lost; check the source's settings."
        )


class _Guarded(httpx.HTTPTransport):
    """httpx's transport on a network that asks `Network` before it connects."""

    def __init__(self, network: Network, *, verify: bool | str) -> None:
        context = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else _tls(verify)
        super().__init__(verify=context, trust_env=False)
        self._pool.close()
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=8,
            max_keepalive_connections=4,
            keepalive_expiry=30.0,
            network_backend=_Backend(network),
        )


@cache
def _tls(verify: bool) -> ssl.SSLContext:
    """Made once: reading the public authorities takes longer than many a sync."""
    return httpx.create_ssl_context(verify=verify, trust_env=False)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, network: Network) -> None:
        self._network = network
        self._real = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        problem: Exception | None = None
        for address in self._network.addresses(host, port):
            try:
                return self._real.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem or httpcore.ConnectError(f"{host} has no address")


def retry_after(response: httpx.Response) -> float:
    """Seconds the server asks us to wait; 0 when it doesn't.

    `Retry-After` in seconds or as a date (RFC 9110, 10.2.3); else the epoch second that
    `X-RateLimit-Reset` names, as GitHub sends it once nothing remains.
    """
    value = response.headers.get("retry-after", "").strip()
    if value.replace(".", "", 1).isdigit():
        return max(float(value), 0.1)
    if value:
        try:
            return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.1)
        except ValueError:
            return 0.0
    reset = response.headers.get("x-ratelimit-reset", "")
    if response.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return min(max(float(reset) - time.time(), 1.0), 3600.0)
    return 0.0


def _date(response: httpx.Response) -> float:
    try:
        return email.utils.parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except ValueError:
        return time.time()


def _limited(response: httpx.Response) -> bool:
    """A 403 that means 429, as GitHub's limits do; the secondary one need not say for how long."""
    if response.status_code != 403:
        return False
    return retry_after(response) > 0 or b"rate limit" in response.content[:2000].lower()


def signed(secret: str, body: bytes, signature: str) -> bool:
    """Whether `signature` (`sha256=<hex>`, or the hex alone) is HMAC-SHA256 of `body`; constant time."""
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = signature.strip().removeprefix("sha256=").lower()
    return bool(secret) and hmac.compare_digest(expected.encode(), given.encode())
