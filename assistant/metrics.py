"""What this process counts for Prometheus: numbers alone, no names and no texts.

Whatever answers counts here; the web server shows its own at `/metrics`.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 60.0)

_answers = Counter("deskhand_answers", "Questions, by whether they were answered or declined.", ["outcome"])
_first = Histogram("deskhand_first_token_seconds", "Until the first word was shown.", buckets=SECONDS)
_whole = Histogram("deskhand_answer_seconds", "Until an answer was whole.", buckets=SECONDS)


def answered(*, declined: bool, first: float | None, whole: float) -> None:
    """Count an answer. `first`: seconds until its first word; None: nothing was said before its end."""
    _answers.labels("declined" if declined else "answered").inc()
    _whole.observe(whole)
    if first is not None:
        _first.observe(first)
