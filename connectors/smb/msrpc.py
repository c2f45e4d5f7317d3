"""The few remote calls that tell whom a Windows or Samba server knows: samr and lsarpc.

DCE/RPC over a named pipe, as far as needed: [C706] for the packets, [MS-RPCE] for the
encoding, [MS-SAMR] and [MS-LSAT] for the calls. Only calls that read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

_NDR = UUID("8a885d04-1ceb-11c9-9fe8-08002b104860").bytes_le + struct.pack("<I", 2)
_FRAGMENT = 4280
_MORE_ENTRIES, _SOME_NOT_MAPPED, _NONE_MAPPED = 0x105, 0x107, 0xC0000073
_READ_RIGHTS = 0x02000000  # MAXIMUM_ALLOWED: what the server gives this account
_DISABLED = 0x01
_NORMAL_ACCOUNT = 0x10
_GUEST = 501


class RpcRefused(Exception):
    """The server answered with `status`, which is no success."""

    def __init__(self, call: str, status: int) -> None:
        super().__init__(f"{call}: 0x{status:08x}")
        self.status = status


class Channel(Protocol):
    """A named pipe in message mode."""

    def write(self, data: bytes) -> None: ...
    def transact(self, data: bytes) -> bytes: ...
    def read(self) -> bytes: ...
    def close(self) -> None: ...


Open = Callable[[str], Channel]
"""opens a named pipe of the server"""


class Reader:
    """Takes NDR apart, from front to back; alignment counts from the start."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def raw(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise ValueError("an answer of the server ends too early")
        self._at += size
        return piece

    def u32(self) -> int:
        self._at += -self._at % 4
        return int.from_bytes(self.raw(4), "little")

    def u16(self) -> int:
        self._at += -self._at % 2
        return int.from_bytes(self.raw(2), "little")

    def skip(self, numbers: int) -> None:
        for _ in range(numbers):
            self.u32()

    def text(self) -> str:
        """What a pointer to a conformant varying string points to."""
        self.skip(2)
        return self.raw(2 * self.u32()).decode("utf-16-le", "replace").rstrip("\0")

    def text_head(self) -> int:
        """The part of a RPC_UNICODE_STRING that stands in its structure; its pointer."""
        self.u32()  # its two lengths
        return self.u32()

    def sid(self) -> str:
        """Empty for the SID of all zeros that stands for an unknown name."""
        packed = self.raw(8 + 4 * self.u32())
        return sid_text(packed) if packed[0] else ""

    def numbers(self) -> list[int]:
        return [self.u32() for _ in range(self.u32())]


def sid_text(packed: bytes) -> str:
    """A SID as `S-1-5-…`, from its binary form; what follows it is left alone. Raises `ValueError`."""
    if len(packed) < 8 or packed[0] != 1 or len(packed) < 8 + 4 * packed[1]:
        raise ValueError("no security identifier")
    numbers = struct.unpack_from(f"<{packed[1]}I", packed, 8)
    return "-".join(map(str, ("S-1", int.from_bytes(packed[2:8], "big"), *numbers)))


def _sid(text: str) -> bytes:
    _, _, authority, *numbers = text.split("-")
    packed = struct.pack(f"<{len(numbers)}I", *map(int, numbers))
    return struct.pack("<IBB", len(numbers), 1, len(numbers)) + int(authority).to_bytes(6, "big") + packed


def _string(text: str, end: str = "\0") -> bytes:
    data = f"{text}{end}".encode("utf-16-le")
    return struct.pack("<III", len(data) // 2, 0, len(data) // 2) + data + b"\0" * (-len(data) % 4)


def _names(texts: Sequence[str]) -> bytes:
    """RPC_UNICODE_STRINGs one after the other, then what they point to."""
    sizes = [len(text.encode("utf-16-le")) for text in texts]
    heads = [struct.pack("<HHI", size, size, 0x20000 + 4 * n) for n, size in enumerate(sizes, 1)]
    return b"".join(heads) + b"".join(_string(text, "") for text in texts)


class Client:
    """One interface of a server, bound to a pipe."""

    def __init__(self, channel: Channel, interface: str, version: int) -> None:
        self._channel = channel
        self._calls = 1
        syntax = UUID(interface).bytes_le + struct.pack("<I", version)
        context = struct.pack("<HBB", 0, 1, 0) + syntax + _NDR
        body = struct.pack("<HHIBBH", _FRAGMENT, _FRAGMENT, 0, 1, 0, 0) + context
        kind, _ = self._answer(channel.transact(self._packet(11, body)))
        if kind != 12:
            raise RpcRefused("bind", 0)

    def call(self, name: str, number: int, stub: bytes, *, fine: tuple[int, ...] = (0,)) -> Reader:
        """The answer's contents; raises `RpcRefused` unless its status is `fine`."""
        self._calls += 1
        size = _FRAGMENT - 24
        pieces = [stub[at : at + size] for at in range(0, len(stub), size)]
        for index, piece in enumerate(pieces):
            flags = (index == 0) | (index == len(pieces) - 1) << 1
            packet = self._packet(0, struct.pack("<IHH", len(piece), 0, number) + piece, flags)
            if index < len(pieces) - 1:
                self._channel.write(packet)
                continue
            kind, answer = self._answer(self._channel.transact(packet))
            status = int.from_bytes(answer[-4:], "little")
            if kind != 2 or status not in fine:
                raise RpcRefused(name, status)
            return Reader(answer)
        raise AssertionError("a call has contents")

    def close(self) -> None:
        self._channel.close()

    def _packet(self, kind: int, body: bytes, flags: int = 3) -> bytes:
        return struct.pack("<BBBBIHHI", 5, 0, kind, flags, 0x10, 16 + len(body), 0, self._calls) + body

    def _answer(self, data: bytes) -> tuple[int, bytes]:
        """Kind and contents of an answer in one or more fragments, of which `data` is the beginning."""
        contents = b""
        while True:
            while len(data) < 16 or len(data) < int.from_bytes(data[8:10], "little"):
                data += self._channel.read()
            length = int.from_bytes(data[8:10], "little")
            kind, flags = data[2], data[3]
            contents += data[24 if kind in (2, 3) else 16 : length]
            data = data[length:]
            if flags & 2:
                return kind, contents


@dataclass(frozen=True, slots=True)
class User:
    sid: str
    name: str
    full_name: str
    enabled: bool
    groups: frozenset[str]
    """SIDs of the groups the server puts it in, without aliases"""


class Accounts:
    """The account database of one server, read over samr."""

    def __init__(self, opener: Open) -> None:
        self._client = Client(opener("samr"), "12345778-1234-abcd-ef00-0123456789ac", 1)
        server = struct.pack("<I", 0x20000) + _string("\\\\server")
        handle = self._client.call("SamrConnect2", 57, server + struct.pack("<I", _READ_RIGHTS)).raw(20)
        self._domains: dict[str, tuple[str, bytes]] = {}
        for name in self._enumerate("SamrEnumerateDomainsInSamServer", 6, handle).values():
            looked_up = self._client.call("SamrLookupDomainInSamServer", 5, handle + _names([name]))
            looked_up.u32()
            sid = looked_up.sid()
            stub = handle + struct.pack("<I", _READ_RIGHTS) + _sid(sid)
            self._domains[sid] = (name, self._client.call("SamrOpenDomain", 7, stub).raw(20))

    @property
    def domains(self) -> dict[str, str]:
        """SIDs of the account domain and of BUILTIN, with their names."""
        return {sid: name for sid, (name, _) in self._domains.items()}

    def users(self) -> Iterator[User]:
        for domain, (_, handle) in self._domains.items():
            if domain != "S-1-5-32":
                nested = self._nested(domain, handle)
                for rid, flags, name, full_name in list(self._display(handle)):
                    if flags & _NORMAL_ACCOUNT and rid != _GUEST:
                        flags, groups = self._user(domain, handle, rid)
                        while more := {g for group in groups for g in nested.get(group, ())} - groups:
                            groups |= more
                        enabled = not flags & _DISABLED
                        yield User(f"{domain}-{rid}", name, full_name, enabled, frozenset(groups))

    def aliases_of(self, sids: frozenset[str], domain: str) -> frozenset[str]:
        """Aliases (local groups) of the domain that one of `sids` is a direct member of."""
        handle = self._domains[domain][1]
        ordered = sorted(sids)
        array = struct.pack("<II", len(ordered), 0x20000)
        array += struct.pack("<I", len(ordered)) + b"".join(
            struct.pack("<I", 0x20004 + 4 * number) for number in range(len(ordered))
        )
        array += b"".join(map(_sid, ordered))
        answer = self._client.call("SamrGetAliasMembership", 16, handle + array)
        count, pointer = answer.u32(), answer.u32()
        return frozenset(f"{domain}-{rid}" for rid in answer.numbers()) if count and pointer else frozenset()

    def group_names(self) -> dict[str, str]:
        """SID → name of every group and alias."""
        return {
            f"{domain}-{rid}": name
            for domain, (_, handle) in self._domains.items()
            for call, number in (("SamrEnumerateGroupsInDomain", 11), ("SamrEnumerateAliasesInDomain", 15))
            for rid, name in self._enumerate(call, number, handle).items()
        }

    def close(self) -> None:
        self._client.close()

    def _enumerate(self, call: str, number: int, handle: bytes) -> dict[int, str]:
        found: dict[int, str] = {}
        resume = 0
        while True:
            stub = handle + struct.pack("<II", resume, 0xFFFF)
            answer = self._client.call(call, number, stub, fine=(0, _MORE_ENTRIES))
            resume = answer.u32()
            if answer.u32():
                count, pointer = answer.u32(), answer.u32()
                heads = []
                if count and pointer:
                    answer.u32()
                    heads = [(answer.u32(), answer.text_head()) for _ in range(count)]
                for rid, text in heads:
                    found[rid] = answer.text() if text else ""
            answer.u32()
            if answer.u32() != _MORE_ENTRIES:
                return found

    def _display(self, handle: bytes) -> Iterator[tuple[int, int, str, str]]:
        """Rid, flags, name and full name of every user."""
        start = 0
        while True:
            stub = handle + struct.pack("<HHIII", 1, 0, start, 1000, 0xFFFF)
            answer = self._client.call("SamrQueryDisplayInformation", 40, stub, fine=(0, _MORE_ENTRIES))
            answer.skip(2)
            answer.u16()
            count, pointer = answer.u32(), answer.u32()
            rows: list[tuple[int, int, list[int]]] = []
            if count and pointer:
                answer.u32()
                for _ in range(count):
                    answer.u32()
                    rid, flags = answer.u32(), answer.u32()
                    rows.append((rid, flags, [answer.text_head() for _ in range(3)]))
            for rid, flags, pointers in rows:
                name, _, full_name = [answer.text() if pointer else "" for pointer in pointers]
                yield rid, flags, name, full_name
            start += count
            if answer.u32() != _MORE_ENTRIES or not count:
                return

    def _open(self, number: int, handle: bytes, rid: int) -> bytes:
        stub = handle + struct.pack("<II", _READ_RIGHTS, rid)
        return self._client.call("SamrOpen", number, stub).raw(20)

    def _user(self, domain: str, handle: bytes, rid: int) -> tuple[int, set[str]]:
        """Flags, read anew because Samba keeps those of the list for a while, and groups."""
        user = self._open(34, handle, rid)
        answer = self._client.call("SamrQueryInformationUser2", 47, user + struct.pack("<H", 16))
        if not answer.u32():
            raise RpcRefused("SamrQueryInformationUser2", 0)
        answer.u16()
        flags = answer.u32()
        answer = self._client.call("SamrGetGroupsForUser", 39, user)
        groups: set[str] = set()
        if answer.u32():
            count, pointer = answer.u32(), answer.u32()
            if count and pointer:
                answer.u32()
                for _ in range(count):
                    groups.add(f"{domain}-{answer.u32()}")
                    answer.u32()
        self._client.call("SamrCloseHandle", 1, user)
        return flags, groups

    def _nested(self, domain: str, handle: bytes) -> dict[str, set[str]]:
        """Group → the groups it is a direct member of (only a domain controller nests them)."""
        groups = self._enumerate("SamrEnumerateGroupsInDomain", 11, handle)
        within: dict[str, set[str]] = {}
        for rid in groups:
            group = self._open(19, handle, rid)
            answer = self._client.call("SamrGetMembersInGroup", 25, group)
            if answer.u32():
                count, members, _ = answer.u32(), answer.u32(), answer.u32()
                for member in answer.numbers() if count and members else ():
                    if member in groups:
                        within.setdefault(f"{domain}-{member}", set()).add(f"{domain}-{rid}")
            self._client.call("SamrCloseHandle", 1, group)
        return within


def look_up_names(opener: Open, names: Sequence[str]) -> dict[str, str]:
    """Name → SID for those of `names` that the server, or a domain it trusts, knows (LsarLookupNames3)."""
    client = Client(opener("lsarpc"), "12345778-1234-abcd-ef00-0123456789ab", 0)
    system = struct.pack("<I", 0x20000) + _string("\\\\server")
    attributes = struct.pack("<IIIIII", 24, 0, 0, 0, 0, 0)
    policy = client.call("LsarOpenPolicy2", 44, system + attributes + struct.pack("<I", _READ_RIGHTS)).raw(20)
    found: dict[str, str] = {}
    for start in range(0, len(names), 100):
        some = names[start : start + 100]
        stub = policy + struct.pack("<II", len(some), len(some)) + _names(some)
        stub += struct.pack("<IIHHIII", 0, 0, 1, 0, 0, 0, 2)
        fine = (0, _SOME_NOT_MAPPED, _NONE_MAPPED)
        answer = client.call("LsarLookupNames3", 68, stub, fine=fine)
        if answer.u32():
            count, pointer, _ = answer.u32(), answer.u32(), answer.u32()
            heads = []
            if count and pointer:
                answer.u32()
                heads = [(answer.text_head(), answer.u32()) for _ in range(count)]
            for text, sid in heads:
                _ = answer.text() if text else "", answer.sid() if sid else ""
        count, pointer = answer.u32(), answer.u32()
        if count and pointer:
            answer.u32()
            heads = [(answer.u16(), answer.u32(), answer.u32(), answer.u32()) for _ in range(count)]
            sids = [answer.sid() if head[1] else "" for head in heads]
            found |= {name: sid for name, sid in zip(some, sids, strict=True) if sid}
    client.close()
    return found
