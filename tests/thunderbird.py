"""The Thunderbird tickets of the test data, as a ticket export's settings describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TICKETS = "thunderbird/tickets/tickets_2024-2025.jsonl.gz"


def ticket_export(path: Path, access: str, *, drop_spam: bool = False) -> dict[str, Any]:
    """Settings of the connector `ticket-export`.

    Spam is kept unless `drop_spam`: the benchmarks count every ticket of the file.
    """
    spam = {"drop_if": "spam"} if drop_spam else {}
    return {
        "path": str(path),
        "access": [access],
        "text_media_type": "text/html",
        "status_values": {"true": "solved", "false": "open", "null": "open"},
        "mapping": {
            "id": "id",
            "title": "subject",
            "text": "html",
            "url": "url",
            "created": "created",
            "updated": "updated",
            "status": "solved",
            "product": "product",
            "tags": "tags",
            "language": "locale",
            "requester": "customer",
            "customer": {"id": "customer"},
            "replies": {
                "list": "replies",
                "text": "html",
                "author": "author",
                "role": "role",
                "created": "created",
                "is_solution": "is_solution",
                **spam,
            },
        },
        **spam,
    }
