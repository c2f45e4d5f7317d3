"""Which questions are about a history as a whole, and which only sound like it."""

from __future__ import annotations

import pytest

from assistant.retrieve.cues import Listing, cues


@pytest.mark.parametrize(
    ("question", "listing"),
    [
        ("What is still open for them?", Listing.OPEN),
        ("open tickets?", Listing.OPEN),
        ("Anything still unsolved with this customer at the moment?", Listing.OPEN),
        ("Was ist bei diesem Kunden noch offen?", Listing.OPEN),
        ("What have we tried with this customer?", Listing.TRIED),
        ("What was already done?", Listing.TRIED),
        ("Was haben wir schon versucht?", Listing.TRIED),
        ("Summarise this ticket", Listing.TRIED),
        ("Give me an overview of their history", Listing.TRIED),
        ("Fasse das Ticket zusammen", Listing.TRIED),
        ("Have others had this?", Listing.OTHERS),
        ("Has anyone else had the same problem before?", Listing.OTHERS),
        ("Which ports must be open for sync?", None),
        ("What have we tried against the proxy error?", None),
        ("Is the certificate request of the new server still open?", None),
        ("How do I open a ticket with the vendor of the antivirus?", None),
        ("Do other customers use object lock?", None),
    ],
)
def test_lists(question: str, listing: Listing | None) -> None:
    assert cues(question).listing is listing


@pytest.mark.parametrize(
    ("question", "them"),
    [
        ("when do they intend to get off 4.2?", True),
        ("did we ever have a fix or just advice?", True),
        ("Which port does sync use?", False),
    ],
)
def test_of_whom_it_speaks(question: str, them: bool) -> None:
    assert cues(question).them is them
