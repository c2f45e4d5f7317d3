"""What a lexical index keeps of a text."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from assistant.ingest import lexical
from assistant.ingest.lexical import AVERAGE_LENGTH, term_id, tokenise, weights
from assistant.text.stem import stem


def test_identifiers_stay_whole_and_come_in_parts() -> None:
    terms = tokenise("Error FS-1042: set mail.server.default_port in prefs.js")
    assert {"fs-1042", "fs", "1042", "mail.server.default_port", "server", "default", "port"} <= set(terms)


def test_inflections_meet_and_stop_words_go() -> None:
    assert tokenise("The messages were deleted") == tokenise("deleting a message")[::-1]
    assert tokenise("it is what it was") == []


@pytest.mark.parametrize("apostrophe", ["'", "’"])
def test_apostrophes_do_not_make_words(apostrophe: str) -> None:
    assert tokenise(f"the customer{apostrophe}s account") == ["custom", "account"]


def test_scripts_without_spaces_are_found_by_pairs() -> None:
    assert set(tokenise("設定")) <= set(tokenise("アカウント設定を開く"))


def test_umlauts_and_case_are_letters() -> None:
    assert tokenise("GRÖSSE STRASSE") == tokenise("Größe straße") == ["grösse", "strass"]


def test_a_term_keeps_its_number_for_ever() -> None:
    # Stored rows carry these; another hash would orphan them.
    assert term_id("fs-1042") == 740068441
    assert all(1 <= term_id(t) <= 10**9 for t in ("", "a", "größe", "\ud800"))


def test_weights_are_bm25() -> None:
    tokens = ["mail"] * 3 + ["server"]
    norm = 1.2 * (0.25 + 0.75 * 4 / 10)
    assert weights(tokens, avg_length=10, k1=1.2, b=0.75) == {
        term_id("mail"): pytest.approx(3 * 2.2 / (3 + norm)),
        term_id("server"): pytest.approx(2.2 / (1 + norm)),
    }
    assert weights([]) == {}
    longer = weights(["mail"] + ["x"] * 200)
    assert longer[term_id("mail")] < weights(["mail"])[term_id("mail")] <= lexical.K1 + 1
    assert AVERAGE_LENGTH > 0


def test_it_keeps_up_with_ingest() -> None:
    """5,000 chunks a second when idle; a fifth of that must hold on a busy machine."""
    text = "Thunderbird cannot connect to mail.example.org: error 0x80004005 when sending messages. " * 9
    tokenise(text)
    started = time.process_time()
    for _ in range(500):
        weights(tokenise(text))
    assert 500 / (time.process_time() - started) > 1000


def test_threads_get_the_stems_that_one_gets() -> None:
    words = [
        begin + end
        for begin in ("generaliz", "connect", "relat", "oper", "accept")
        for end in ("ation", "ing", "ional", "ed", "ness", "able", "ment", "s")
    ]
    uncached = stem.__wrapped__
    expected = [uncached(word) for word in words]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: [uncached(word) for word in words], range(40)))
    finally:
        sys.setswitchinterval(before)
    assert all(stems == expected for stems in found)
