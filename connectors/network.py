"""Which addresses a connector may reach: public ones, and hosts the operator named.

A source's URL is somebody's input. Without this a source could be pointed at the
cloud's metadata service or the database beside Deskhand. The check is made on the
address that is connected to, at the moment of connecting, so neither a redirect
nor a name that changes its address in between gets around it.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from assistant.errors import SourceBusy, SourceRefused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Network:
    """`allowed`: host names, addresses or networks (`10.1.0.0/16`) that may be reached though not public."""

    allowed: tuple[str, ...] = ()

    def addresses(self, host: str, port: int) -> list[str]:
        """Where `host` may be connected to, in the resolver's order.

        Raises `SourceRefused` when any of its addresses is not allowed: a name that mixes
        both is not to be trusted. Raises `SourceBusy` when it doesn't resolve.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SourceBusy(
                f"The host «{host}» can't be found ({error}). Nothing was changed; check its name, or this "
                "machine's DNS."
            ) from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if host.lower().rstrip(".") not in {name.lower() for name in self.allowed}:
            for address in addresses:
                if not self._permits(ipaddress.ip_address(address.partition("%")[0])):
                    raise SourceRefused(
                        f"«{host}» is {address}, which is no public address, and connectors may only reach "
                        "public ones. Nothing was sent. If it is meant, the operator allows it: "
                        f"DESKHAND_ALLOWED_HOSTS={host}."
                    )
        return addresses

    def connect(self, host: str, port: int, *, timeout: float) -> socket.socket:
        """A connected TCP socket, for protocols other than HTTP. Raises `SourceRefused`, `SourceBusy`."""
        problem: OSError | None = None
        for address in self.addresses(host, port):
            try:
                return socket.create_connection((address, port), timeout=timeout)
            except OSError as error:
                problem = error
        raise SourceBusy(
            f"{host}:{port} does not answer ({problem}). Nothing was lost; it is tried again later."
        ) from problem

    def _permits(self, address: Address) -> bool:
        plain = getattr(address, "ipv4_mapped", None) or address
        for entry in self.allowed:
            try:
                if plain in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue  # a host name
        tunnelled = getattr(plain, "sixtofour", None) or getattr(plain, "teredo", None)
        return plain.is_global and not plain.is_multicast and not tunnelled


PUBLIC = Network()
"""what every installation may reach"""
