"""`deskhand people …`: who is known, and whose accounts in the sources are whose."""

from __future__ import annotations

from typing import Annotated

import typer

from assistant.model import Right
from assistant.store import conversations, manage, principals
from assistant.surfaces.terminal import Json, opened, out, print_json, print_rows

people = typer.Typer(no_args_is_help=True, help="Who is known, and which accounts of the sources are theirs.")

Account = Annotated[str, typer.Argument(help="The account, as the source calls it.")]
Email = Annotated[str, typer.Argument(help="The person's address.")]
Name = Annotated[
    Right,
    typer.Argument(
        metavar="RIGHT", help="escalate: work on what others handed over, and write it to ticket systems."
    ),
]


@people.command("list")
def list_people(as_json: Json = False) -> None:
    """Everybody whom a source knows, with their groups."""
    with opened() as assistant, assistant.database.writer() as connection:
        rows = principals.everybody(connection)
    if as_json:
        print_json(rows)
        return
    print_rows(
        rows, {"id": "Person", "name": "Name", "groups": "Groups", "rights": "Rights"}, empty="Nobody yet."
    )


@people.command("allow")
def allow(email: Email, right: Name) -> None:
    """Give somebody a right in Deskhand; what they may read, their sources say."""
    with opened() as assistant, assistant.database.writer() as connection:
        principals.allow(connection, email, right)
        conversations.audit(connection, actor="cli", action="people.allow", object=f"{email} {right.value}")
    out.print(f"{email.lower()} has the right «{right.value}» now.", markup=False)


@people.command("deny")
def deny(email: Email, right: Name) -> None:
    """Take a right back. It holds at once."""
    with opened() as assistant, assistant.database.writer() as connection:
        principals.deny(connection, email, right)
        conversations.audit(connection, actor="cli", action="people.deny", object=f"{email} {right.value}")
    out.print(f"{email.lower()} has not the right «{right.value}» now.", markup=False)


@people.command("accounts")
def list_accounts(
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None, as_json: Json = False
) -> None:
    """The sources' accounts and whom they belong to; those without a person see nothing."""
    with opened() as assistant, assistant.database.writer() as connection:
        rows = principals.accounts(connection, source=source)
    if as_json:
        print_json(rows)
        return
    columns = {
        "source": "Source",
        "account": "Account",
        "person": "Person",
        "fixed": "By an admin",
        "groups": "Groups",
    }
    print_rows(rows, columns, empty="No accounts yet.")


@people.command("map")
def map_account(source: str, account: Account, email: Email) -> None:
    """Say whose account it is. It holds at once, and whatever the source says later."""
    with opened() as assistant, assistant.database.writer() as connection:
        manage.take_for(connection, source, account, email, by="cli")
    out.print(f"«{account}» of «{source}» is {email.lower()}.", markup=False)


@people.command("unmap")
def unmap_account(source: str, account: Account) -> None:
    """Take that back: nobody's account until the source's next permission sync says whose."""
    with opened() as assistant, assistant.database.writer() as connection:
        manage.take_for(connection, source, account, None, by="cli")
    out.print(f"«{account}» of «{source}» is nobody's until its next permission sync.", markup=False)
