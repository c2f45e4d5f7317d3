from __future__ import annotations

import pytest

from assistant.ingest.lexical import identifiers
from assistant.retrieve.mask import Mask

GLOBEX = Mask(
    names=["Globex Maschinenbau GmbH", "globex"],
    people=["Ralf Kunze"],
    domains=["globex-mb.example"],
    private=["srv-fin-07"],
)


@pytest.mark.parametrize(
    "said",
    [
        "Hi Ralf, Globex has it",
        "Kunze's server at globex",
        "GLOBEX MASCHINENBAU GMBH wrote",
        "write to r.kunze@globex-mb.example or it@mail.globex-mb.example",
        "https://vpn.globex-mb.example/login",
        "restart srv-fin-07",
        "call +49 (0)30 1234-5678",
        "account 4111 1111 1111 1111",
        "host 10.20.30.40",
        "token ghp_a8Kd93mZqP0rT5vW2xYb",
        "my password is tr0ub4dor&3.",
        "The password of the vault is tr0ub4dor&3",
        "the password is: tr0ub4dor!",
        'Passwort lautet "tr0ub4dor leise"',
        "PIN: 1234",
        "licence key = TR0UB4DOR-99",
    ],
)
def test_nothing_tells_whose_it_is(said: str) -> None:
    hidden = GLOBEX(said).lower()
    secrets = ("ralf", "kunze", "globex", "srv-fin", "1234", "4111", "10.20", "ghp_", "tr0ub4dor")
    assert not [secret for secret in secrets if secret in hidden], hidden


@pytest.mark.parametrize(
    "said",
    [
        "Set match_by = uuid and restart the service.",
        "Look at the second number: inodes 0.4 %.",
        "It is fixed in 5.2.1, out on 2026-02-01.",
        "The FS-1043 limit of 5 % holds for inodes too.",
        "globexification is no name",
        "The password is required; reset your password.",
        "The PIN is set to 5 digits. Enter the password: 3 times",
    ],
)
def test_what_helped_stays(said: str) -> None:
    assert GLOBEX(said) == said


def test_a_common_word_is_not_hidden_because_a_customer_is_named_by_it() -> None:
    mask = Mask(names=["City of Lakemont", "Data Works Ltd"], people=["Mark Will Grace"])
    assert mask("Mark the data as read; the city will do.") == "Mark the data as read; the city will do."
    assert "Lakemont" not in mask("City of Lakemont says")


def test_names_of_things_are_told_from_words() -> None:
    found = identifiers(
        "Copy home/ana/q3.xlsx to SRV-FIN-07 (10 GB, 5.2.1), max_size, /proc/sys/dev/raid/limit_max, ana.r.d.example"
    )
    assert set(found) == {"home/ana/q3.xlsx", "SRV-FIN-07", "ana.r.d.example"}
