"""English stems (Snowball's), from any thread."""

from __future__ import annotations

from functools import lru_cache

import snowballstemmer


@lru_cache(maxsize=1 << 17)
def stem(word: str) -> str:
    """The stem of a word in lower case."""
    # A stemmer keeps the word it works on in itself: shared by threads, it returns wrong stems, or raises.
    return snowballstemmer.stemmer("english").stemWord(word)
