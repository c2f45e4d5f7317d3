"""Request Tracker 5 as Debian packages it, on SQLite, in a folder of its own, for tests.

Its database and the server run as an unprivileged user. Mails are off (no scrips), and
passwords are hashed cheaply, which is what most of a call's time would go to.
"""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

SHARE = Path("/usr/share/request-tracker5")
USER = "nobody"
ORGANISATION = "rt.test"
_CONFIG = """\
Set($rtname, 'rt.test'); Set($Organization, 'rt.test'); Set($Timezone, 'UTC'); Set($WebPath, '');
Set($WebDomain, '127.0.0.1'); Set($WebPort, PORT); Set($WebBaseURL, 'http://127.0.0.1:PORT');
Set($DatabaseType, 'SQLite'); Set($DatabaseName, 'FOLDER/rt.sqlite');
Set($DatabaseUser, ''); Set($DatabasePassword, ''); Set($MailCommand, 'mbox');
Set($LogDir, 'FOLDER/log'); Set($LogToSTDERR, 'warning'); Set($LogToSyslog, undef);
Set($BcryptCost, 4); Set($DevelMode, 0); Set($MaxAttachmentSize, 20_000_000);
$RT::MasonDataDir = 'FOLDER/mason'; $RT::MasonSessionDir = 'FOLDER/sessions'; $RT::VarPath = 'FOLDER/var';
1;
"""
_TOKEN = """\
use lib 'SHARE/lib'; use RT -init;
my ($id, $message, $token) = RT::AuthToken->new(RT->SystemUser)->Create(Owner => 14, Description => 'tests');
die $message unless $id; print $token;
"""


@dataclass
class RequestTracker:
    port: int
    folder: Path
    token: str
    """of root, a superuser"""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __post_init__(self) -> None:
        self.root = self.login(headers={"Authorization": f"token {self.token}"})
        self._requestors: dict[str, int] = {}

    def login(self, **options: Any) -> httpx.Client:
        """A client of REST 2; `auth=(name, "secret123")` for one of `person`."""
        return httpx.Client(base_url=f"{self.url}/REST/2.0", timeout=60, **options)

    def call(self, method: str, path: str, json: object = None) -> Any:
        answer = self.root.request(method, path, json=json)
        assert answer.is_success, (answer.status_code, path, answer.text[:300])
        return answer.json() if answer.content else None

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.folder / "rt.sqlite", timeout=30)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def one(self, sql: str, *values: object) -> Any:
        with self.database() as connection:
            return connection.execute(sql, values).fetchone()[0]

    def person(self, name: str, *, privileged: bool = True, organisation: str = "") -> int:
        """A user with the password secret123 and the address NAME@people.test; their id."""
        fields = {"Name": name, "EmailAddress": f"{name}@people.test", "Password": "secret123"}
        self.call("POST", "/user", {**fields, "Privileged": int(privileged), "Organization": organisation})
        return int(self.one("select id from Users where Name = ?", name))

    def token_of(self, user: int) -> str:
        """A token for another user: the secret part is root's."""
        with self.database() as connection:
            connection.execute(
                "insert into AuthTokens (Owner, Token, Description, Creator) "
                "select ?, Token, Description, Creator from AuthTokens where Owner = 14",
                (user,),
            )
        return f"1-{user}-{self.token.rsplit('-', 1)[1]}"

    def group(self, name: str, *members: int) -> int:
        group = int(self.call("POST", "/group", {"Name": name})["id"])
        if members:
            self.join(group, *members)
        return group

    def join(self, group: int, *members: int) -> None:
        self.call("PUT", f"/group/{group}/members", list(members))

    def leave(self, group: int, member: int) -> None:
        self.call("DELETE", f"/group/{group}/member/{member}")

    def queue(self, name: str) -> int:
        return int(self.call("POST", "/queue", {"Name": name})["id"])

    def role(self, queue: int, role: str) -> int:
        """The group that a right is granted to for everybody with `role` on a ticket of `queue`; 0: all."""
        domain = "RT::Queue-Role" if queue else "RT::System-Role"
        instance = queue or self.one("select Instance from Groups where Domain = ? limit 1", domain)
        return int(
            self.one(
                "select id from Groups where Domain = ? and Instance = ? and Name = ?", domain, instance, role
            )
        )

    def grant(self, group: int, *rights: str, queue: int = 0, role: str = "Group") -> None:
        """On one queue, or globally. RT asks its database anew for each request."""
        of = ("RT::Queue", queue) if queue else ("RT::System", 1)
        with self.database() as connection:
            for right in rights:
                connection.execute(
                    "insert into ACL (PrincipalType, PrincipalId, RightName, ObjectType, ObjectId) "
                    "values (?, ?, ?, ?, ?)",
                    (role, group, right, *of),
                )

    def ticket(self, queue: int | str, subject: str, text: str = "", **fields: Any) -> int:
        body = {"Queue": queue, "Subject": subject, "Content": text, "ContentType": "text/plain", **fields}
        return int(self.call("POST", "/ticket", body)["id"])

    def say(self, ticket: int, kind: str, text: str, *files: tuple[str, str, bytes], **fields: Any) -> None:
        """`kind`: correspond or comment."""
        attached = [attachment(*file) for file in files]
        body = {"Content": text, "ContentType": "text/plain", **fields}
        self.call("POST", f"/ticket/{ticket}/{kind}", {**body, "Attachments": attached} if attached else body)

    def change(self, ticket: int, **fields: Any) -> None:
        self.call("PUT", f"/ticket/{ticket}", fields)

    def requestor(self, name: str = "customer") -> int:
        if name not in self._requestors:
            self._requestors[name] = self.person(name, privileged=False, organisation="ACME Ltd")
        return self._requestors[name]

    def fill(self, queue: int, texts: dict[str, str]) -> dict[str, int]:
        """Tickets as RT would store them, by their subjects, in the time that one takes over REST."""
        requestor, now = self.requestor(), dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
        found: dict[str, int] = {}
        with self.database() as c:

            def insert(table: str, **values: object) -> int:
                marks = ", ".join("?" * len(values))
                sql = f"insert into {table} ({', '.join(values)}) values ({marks})"
                return int(c.execute(sql, tuple(values.values())).lastrowid or 0)

            for subject, text in texts.items():
                ticket = insert(
                    "Tickets", Queue=queue, Type="ticket", Owner=6, Subject=subject, Status="new",
                    Creator=14, LastUpdatedBy=14, Created=now, LastUpdated=now, SLA="",
                )  # fmt: skip
                c.execute("update Tickets set EffectiveId = id where id = ?", (ticket,))
                for role, member in (("AdminCc", 0), ("Cc", 0), ("Owner", 6), ("Requestor", requestor)):
                    group = insert("Principals", PrincipalType="Group", Disabled=0)
                    insert("Groups", id=group, Name=role, Domain="RT::Ticket-Role", Instance=ticket)
                    for who in filter(None, (group, member)):
                        if who != group:
                            insert("GroupMembers", GroupId=group, MemberId=who)
                        row = insert(
                            "CachedGroupMembers",
                            GroupId=group,
                            MemberId=who,
                            ImmediateParentId=group,
                            Disabled=0,
                        )
                        c.execute("update CachedGroupMembers set Via = id where id = ?", (row,))
                transaction = insert(
                    "Transactions", ObjectType="RT::Ticket", ObjectId=ticket, Type="Create", Creator=14,
                    TimeTaken=0, Created=now,
                )  # fmt: skip
                part = insert("Attachments", TransactionId=transaction, Parent=0, Creator=14, Created=now)
                self._write(c, part, text)
                found[subject] = ticket
        return found

    def rewrite(self, ticket: int, text: str) -> None:
        """Replace what its first message says, which RT can't, as only its database can."""
        with self.database() as connection:
            (part,) = connection.execute(
                "select min(a.id) from Attachments a join Transactions t on t.id = a.TransactionId "
                "where t.ObjectType = 'RT::Ticket' and t.ObjectId = ? and t.Type = 'Create'",
                (ticket,),
            ).fetchone()
            self._write(connection, part, text)

    def forget_history(self, ticket: int, *, forgotten: bool = True) -> None:
        """What RT answers an account it refuses the history of a ticket: nothing said; or again what it was."""
        kind, those = (
            ("'Withheld' || Type", "1") if forgotten else ("substr(Type, 9)", "Type like 'Withheld%'")
        )
        with self.database() as connection:
            connection.execute(
                f"update Transactions set Type = {kind} where ObjectType = 'RT::Ticket' and ObjectId = ? and {those}",
                (ticket,),
            )

    def _write(self, connection: sqlite3.Connection, part: int, text: str) -> None:
        headers = f'Content-Type: text/plain; charset="utf-8"\nContent-Length: {len(text.encode())}\n'
        connection.execute(
            "update Attachments set ContentType = 'text/plain', ContentEncoding = 'none', Content = ?, "
            "Headers = ? where id = ?",
            (text, headers, part),
        )


def attachment(name: str, kind: str, content: bytes) -> dict[str, str]:
    return {"FileName": name, "FileType": kind, "FileContent": base64.b64encode(content).decode()}


@contextmanager
def running() -> Iterator[RequestTracker]:
    """A new one on a free loopback port, gone with its folder at the end."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="rt-test-", dir=place)).resolve()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server: subprocess.Popen[bytes] | None = None
    try:
        _prepare(folder, port)
        _run(folder, "/usr/sbin/rt-setup-database-5", "--action", "init", "--skip-create", "--dba", "")
        with sqlite3.connect(folder / "rt.sqlite") as connection:
            connection.execute("update Scrips set Disabled = 1")
        connection.close()
        token = _run(folder, "perl", "-e", _TOKEN.replace("SHARE", str(SHARE)))
        with (folder / "log" / "server.out").open("wb") as log:
            server = subprocess.Popen(
                [
                    *_unprivileged(),
                    *(str(SHARE / "libexec/rt-server"), "--server", "Starlet", "--host", "127.0.0.1"),
                    *("--port", str(port), "--max-workers", "2", "--env", "deployment"),
                ],
                cwd=folder,
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _wait(server, port, folder)
        tracker = RequestTracker(port, folder, token)
        yield tracker
        tracker.root.close()
    finally:
        if server is not None:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(folder: Path, port: int) -> None:
    for name in ("conf.d", "log", "mason", "sessions", "var"):
        (folder / name).mkdir()
    config = _CONFIG.replace("FOLDER", str(folder)).replace("PORT", str(port))
    (folder / "RT_SiteConfig.pm").write_text(config)
    (folder / "conf.d" / "empty.pm").write_text("1;\n")
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, USER)


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "RT_SITE_CONFIG": str(folder / "RT_SiteConfig.pm"),
        "RT_SITE_CONFIG_DIR": str(folder / "conf.d"),
    }


def _unprivileged() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={USER}", "--clear-groups", "--inh-caps=-all", "--"]


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [*_unprivileged(), *command],
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout[-800:]}\n{done.stderr[-2000:]}"
    return done.stdout


def _wait(server: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until and server.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/REST/2.0/rt", timeout=20)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"RT did not start:\n{(folder / 'log/server.out').read_text()[-2000:]}")
