"""`deskhand login …`: who may sign in to the web chat, and as what."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from assistant.errors import ConfigError
from assistant.store import conversations, logins
from assistant.store.logins import Role
from assistant.surfaces.terminal import Json, opened, out, print_json, print_rows

login = typer.Typer(no_args_is_help=True, help="Who may sign in to the web chat, and as what.")

Email = Annotated[str, typer.Argument(help="The person's address, as the sources know it.")]
FromInput = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input instead of making one up."),
]


@login.command("add")
def add(
    email: Email,
    role: Annotated[
        Role, typer.Option(help="agent: asks. owner: also sees what is asked in vain. admin: everything.")
    ] = Role.AGENT,
    name: Annotated[str, typer.Option(help="How they are called.")] = "",
    password_stdin: FromInput = False,
    as_json: Json = False,
) -> None:
    """Let somebody in; tells their first password once."""
    password = _password(password_stdin)
    with opened() as assistant, assistant.database.writer() as connection:
        logins.add(connection, email, role, name=name, password=password)
        conversations.audit(
            connection, actor="cli", action="login.add", object=f"{email.lower()} {role.value}"
        )
    _tell(email, password, made_up=not password_stdin, as_json=as_json)


@login.command("list")
def list_logins(as_json: Json = False) -> None:
    """Who may sign in."""
    with opened() as assistant, assistant.database.writer() as connection:
        rows = logins.everybody(connection)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["state"] = "disabled" if row["disabled"] else "active"
        row["by"] = ", ".join([*(["password"] if row["local"] else []), *row["providers"]])
    columns = {
        "id": "Person",
        "name": "Name",
        "role": "Role",
        "state": "State",
        "by": "By",
        "seen_at": "Last sign-in",
    }
    print_rows(rows, columns, empty="Nobody yet: `deskhand login add EMAIL --role admin`.")


@login.command("reset")
def reset(email: Email, password_stdin: FromInput = False, as_json: Json = False) -> None:
    """Give somebody a new password. Ends their sessions and a lock-out."""
    password = _password(password_stdin)
    with opened() as assistant, assistant.database.writer() as connection:
        logins.set_password(connection, email, password)
        conversations.audit(connection, actor="cli", action="login.reset", object=email.lower())
    _tell(email, password, made_up=not password_stdin, as_json=as_json)


@login.command("role")
def role(
    email: Email, to: Annotated[Role, typer.Argument(metavar="ROLE", help="agent, owner or admin.")]
) -> None:
    """Give somebody another role. It holds at once."""
    with opened() as assistant, assistant.database.writer() as connection:
        logins.set_role(connection, email, to)
        conversations.audit(
            connection, actor="cli", action="login.role", object=f"{email.lower()} {to.value}"
        )
    out.print(f"{email.lower()} is «{to.value}» now.", markup=False)


@login.command("disable")
def disable(email: Email) -> None:
    """Shut somebody out at once, their tokens included. What they wrote stays."""
    _disabled(email, True)


@login.command("enable")
def enable(email: Email) -> None:
    """Let them in again."""
    _disabled(email, False)


@login.command("unlink")
def unlink(email: Email) -> None:
    """Forget which account of the identity provider they are, so that another one may come with this address."""
    with opened() as assistant, assistant.database.writer() as connection:
        count = logins.unlink(connection, email)
        conversations.audit(connection, actor="cli", action="login.unlink", object=email.lower())
    out.print(f"{count} linked account(s) of {email.lower()} forgotten.", markup=False)


def hint() -> None:
    """Where nobody can sign in yet: how the first one gets in."""
    with opened() as assistant, assistant.database.writer() as connection:
        if not logins.everybody(connection):
            out.print("  nobody can sign in yet: `deskhand login add EMAIL --role admin`")


def _disabled(email: str, disabled: bool) -> None:
    word = "disable" if disabled else "enable"
    with opened() as assistant, assistant.database.writer() as connection:
        logins.set_disabled(connection, email, disabled)
        conversations.audit(connection, actor="cli", action=f"login.{word}", object=email.lower())
    out.print(f"{email.lower()} {'may not' if disabled else 'may'} sign in now.", markup=False)


def _password(from_input: bool) -> str:
    if not from_input:
        return logins.made_up()
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise ConfigError("No password came on standard input. Nothing was changed.")
    return password


def _tell(email: str, password: str, *, made_up: bool, as_json: bool) -> None:
    """A made-up password is told this once, and stored nowhere."""
    if as_json:
        print_json({"email": logins.normal(email), "password": password if made_up else None})
        return
    out.print(f"✓ {logins.normal(email)} may sign in.", markup=False)
    if made_up:
        out.print(f"  password: {password}", markup=False)
        out.print("  It is shown only now; they can change it in the web chat.", style="dim")
