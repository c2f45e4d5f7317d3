"""Whom a file server knows: its own accounts, those of its domain, and a file of people beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from assistant.errors import SourceRefused
from assistant.model import Member
from connectors.access import read_people
from connectors.smb.msrpc import Accounts, Open, RpcRefused, look_up_names
from connectors.smb.ntacl import EVERY_USER, People, Person

_BUILTIN = "S-1-5-32"
_ADVICE = (
    "Memberships were left as they were. Windows lets only some accounts read the list of users over the "
    "network (policy «Network access: Restrict clients allowed to make remote calls to SAM»): allow "
    "Deskhand's, or name the people in a file (setting «people»)."
)


@dataclass(slots=True)
class Knowledge:
    """`people` for evaluating lists; `emails` and `more` (groups by name, for rules) by SID."""

    people: People
    names: dict[str, str] = field(default_factory=dict[str, str])
    emails: dict[str, str] = field(default_factory=dict[str, str])
    more: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    def members(self, email_domain: str) -> Iterator[Member]:
        """Those who can sign in; their groups are SIDs, as in the lists, and names, as in rules."""
        for person in self.people.persons:
            if person.enabled:
                email = self.emails.get(person.sid, "")
                if not email and email_domain and not set(person.name) & set("\\@"):
                    email = f"{person.name}@{email_domain}"
                named = {self.names[sid] for sid in person.sids if sid in self.names}
                groups = person.sids | named | self.more.get(person.sid, frozenset())
                yield Member(person.name, email, person.full_name, frozenset(groups))


def read_knowledge(server: Open, controller: Open | None, file: Path | None) -> Knowledge:
    """Raises `SourceRefused` where the lists of accounts may not be read and no file stands in."""
    try:
        found = _of_servers(server, controller)
    except (RpcRefused, SourceRefused) as error:
        if file is None:
            raise SourceRefused(f"The accounts of the server can't be read ({error}). {_ADVICE}") from error
        found = Knowledge(People())
    return found if file is None else _with_file(found, file, server)


def _of_servers(server: Open, controller: Open | None) -> Knowledge:
    own = Accounts(server)
    domain = Accounts(controller) if controller is not None else None
    try:
        names = own.group_names()
        persons = [
            replace(person, name=f"{own.domains[person.sid.rpartition('-')[0]]}\\{person.name}")
            if domain is not None
            else person
            for person in _persons(own, nested=_is_controller(names))
        ]
        domains = set(own.domains)
        if domain is not None:
            names = {**domain.group_names(), **names}
            domains |= set(domain.domains)
            persons += _persons(domain, nested=True)
        everybody = tuple(replace(person, sids=_with_aliases(own, person.sids)) for person in persons)
    finally:
        own.close()
        if domain is not None:
            domain.close()
    plain = {sid: name for sid, name in names.items() if not name.startswith("S-1-")}
    return Knowledge(People(everybody, frozenset(domains)), plain)


def _is_controller(groups: dict[str, str]) -> bool:
    """Only a domain controller has the group «Domain Controllers», and only there aliases hold aliases."""
    return any(sid.endswith("-516") for sid in groups)


def _persons(accounts: Accounts, *, nested: bool) -> list[Person]:
    """The users with their groups; on a domain controller with its nested aliases too."""
    persons: list[Person] = []
    for user in accounts.users():
        sids = user.groups | EVERY_USER | {user.sid}
        domain = user.sid.rpartition("-")[0]
        while nested and (more := accounts.aliases_of(sids, domain) - sids):
            sids |= more
        persons.append(Person(user.sid, user.name, sids, user.full_name, user.enabled))
    return persons


def _with_aliases(server: Accounts, sids: frozenset[str]) -> frozenset[str]:
    """With the file server's local groups, in the order in which it makes up whom it let in."""
    for domain in sorted(server.domains, key=lambda sid: sid == _BUILTIN):
        sids |= server.aliases_of(sids, domain)
    return sids


def _with_file(found: Knowledge, file: Path, server: Open) -> Knowledge:
    """E-mail addresses and groups from the file; and people of domains that no server lists."""
    listed = list(read_people(file))
    names = sorted(
        {member.user for member in listed} | {group for member in listed for group in member.groups}
    )
    sids = look_up_names(server, names) if names else {}
    by_name = {person.name.casefold(): person.sid for person in found.people.persons}
    known = {person.sid for person in found.people.persons}
    persons: list[Person] = []
    singles: set[str] = set()
    for member in listed:
        sid = sids.get(member.user) or by_name.get(member.user.casefold(), "")
        if sid not in known:
            groups = {sids[group] for group in member.groups if group in sids}
            own = {sid} if sid else set[str]()
            singles |= groups | own
            persons.append(Person(sid or member.user, member.user, EVERY_USER | groups | own, member.name))
        found.emails[sid or member.user] = member.email
        found.more[sid or member.user] = member.groups
    if persons:
        try:
            own = Accounts(server)
            persons = [replace(person, sids=_with_aliases(own, person.sids)) for person in persons]
            own.close()
        except (RpcRefused, SourceRefused):
            pass  # their local groups are unknown, so what those open is withheld
    people = found.people
    found.people = People((*people.persons, *persons), people.domains, frozenset(singles))
    return found
