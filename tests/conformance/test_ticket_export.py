from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from assistant.errors import SourceBusy, SourceRefused
from assistant.model import Access, Audience, Customer, Delete, Event, Failed, SourceDocument, Upsert
from connectors.ticket_export.connector import TicketExportConnector
from connectors.ticket_export.mapping import compile_expression
from connectors.ticket_export.settings import TicketExportSettings
from tests.conformance.connector import CONTENT_WORD, ConnectorConformance, Replica, WritableSource, changes
from tests.paths import DATA
from tests.thunderbird import TICKETS, ticket_export


def record(name: object, text: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "subject": f"About {name}", "body": text, "created": "2025-01-02T03:04:05Z", **fields}


class Exports(WritableSource):
    """A folder with one export, written anew after every change as a nightly job would."""

    def __init__(self, folder: Path, *, suffix: str = "jsonl", **settings: Any) -> None:
        self.folder = folder
        self.file = folder / f"tickets.{suffix}"
        self.records: dict[str, dict[str, Any]] = {}
        self.settings = {"path": str(folder), "access": "group:support", "preset": "deskhand", **settings}

    def connector(self, port: int | None = None) -> TicketExportConnector:
        return TicketExportConnector(TicketExportSettings.model_validate(self.settings))

    def put(self, name: str, text: str) -> str:
        self.records[name] = record(name, text)
        self.write()
        return name

    def remove(self, name: str) -> None:
        del self.records[name]
        self.write()

    def spoil(self) -> None:
        self.records["bad"] = record("bad", f"{CONTENT_WORD} and more", created=f"{CONTENT_WORD} o'clock")
        self.write()

    def withdraw(self, name: str) -> None:
        self.settings["access"] = "nobody"

    def vanish(self) -> None:
        self.file.unlink()

    def write(self) -> None:
        rows = [self.records[name] for name in sorted(self.records)]
        name = self.file.name
        if ".csv" in name:
            target = io.StringIO()
            writer = csv.DictWriter(target, ["id", "subject", "body", "created"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
            text = target.getvalue()
        elif ".jsonl" in name:
            text = "".join(json.dumps(row) + "\n" for row in rows)
        else:
            text = json.dumps({"count": len(rows), "tickets": rows} if "object" in name else rows, indent=1)
        self.save(text.encode())

    def save(self, content: bytes) -> None:
        """As a job would: beside the old file, then in its place."""
        aside = self.folder / "new.tmp"
        aside.write_bytes(gzip.compress(content) if self.file.suffix == ".gz" else content)
        aside.replace(self.file)


@pytest.fixture
def exports(tmp_path: Path) -> Exports:
    return Exports(tmp_path)


class TestTicketExport(ConnectorConformance):
    @pytest.fixture(params=["jsonl", "jsonl.gz", "json", "object.json", "csv", "csv.gz"])
    def source(self, tmp_path: Path, request: pytest.FixtureRequest) -> WritableSource:
        exports = Exports(tmp_path, suffix=request.param)
        exports.write()
        return exports


def lines(exports: Exports, *rows: object) -> None:
    exports.save(
        b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)
    )


def synced(exports: Exports) -> Replica:
    replica = Replica()
    replica.sync(exports.connector())
    return replica


def only(exports: Exports) -> SourceDocument:
    (document,) = synced(exports).documents.values()
    return document


def utc(*values: int) -> dt.datetime:
    return dt.datetime(*values, tzinfo=dt.UTC)


FULL = {
    "id": 17,
    "url": "https://desk.example/17",
    "created": "2025-01-02T10:00:00+01:00",
    "updated": "2025-01-05T00:00:00Z",
    "subject": "Printer on fire",
    "body": "It burns.",
    "status": "closed",
    "priority": "high",
    "product": "Printer",
    "version": "3",
    "tags": ["fire", "paper"],
    "language": "en",
    "requester": {"name": "Eve", "email": "eve@acme.example"},
    "organisation": {"id": "acme", "name": "Acme", "domain": "ACME.example", "plan": "Gold", "region": None},
    "assignee": "mara@desk.example",
    "satisfaction": "good",
    "replies": [
        {
            "id": 2,
            "author": "Mara",
            "role": "agent",
            "created": "2025-01-02T11:00:00Z",
            "public": False,
            "body": "Odd.",
        },
        {
            "id": 3,
            "author": "Eve",
            "role": "customer",
            "created": "2025-01-02T12:00:00Z",
            "public": True,
            "body": "Hot!",
        },
        {
            "id": 4,
            "author": "Mara",
            "role": "agent",
            "created": "2025-01-03T00:00:00Z",
            "public": True,
            "body": "Pull the plug.",
            "is_solution": True,
        },
        {
            "id": 5,
            "author": "Bot",
            "role": "system",
            "created": "2025-01-03T00:00:00Z",
            "body": "Not told to whom.",
        },
    ],
    "events": [
        {"at": "2025-01-04T00:00:00Z", "from": "solved", "to": "closed"},
        {"at": "2025-01-03T00:00:00Z", "from": "open", "to": "solved"},
    ],
}


def test_the_neutral_format(exports: Exports) -> None:
    lines(exports, FULL)
    document = only(exports)
    assert (document.external_id, document.title, document.url) == (
        "17",
        "Printer on fire",
        "https://desk.example/17",
    )
    assert (document.created_at, document.updated_at) == (utc(2025, 1, 2, 9), utc(2025, 1, 5))
    assert document.access == Access.of(groups=("support",))
    assert document.customer == Customer("acme", "Acme", ("acme.example",), {"plan": "Gold"})
    assert isinstance(document.body, tuple)
    said = [(part.text, part.audience, part.role, part.is_solution) for part in document.body]
    assert said == [
        ("It burns.", Audience.PUBLIC, "customer", False),
        ("Odd.", Audience.INTERNAL, "agent", False),
        ("Hot!", Audience.PUBLIC, "customer", False),
        ("Pull the plug.", Audience.PUBLIC, "agent", True),
        ("Not told to whom.", Audience.INTERNAL, "", False),
    ]
    ticket = document.ticket
    assert ticket is not None
    assert (ticket.status, ticket.requester, ticket.requester_email) == ("closed", "Eve", "eve@acme.example")
    assert (ticket.tags, ticket.satisfaction, ticket.assignee) == (
        ("fire", "paper"),
        "good",
        "mara@desk.example",
    )
    assert ticket.events == (
        Event(utc(2025, 1, 3), "open", "solved"),
        Event(utc(2025, 1, 4), "solved", "closed"),
    )
    assert ticket.solved_at == utc(2025, 1, 3)


def test_a_person_without_an_organisation_is_the_customer(exports: Exports) -> None:
    lines(exports, {**FULL, "organisation": None})
    customer = only(exports).customer
    assert customer is not None
    assert (customer.external_id, customer.name) == ("eve@acme.example", "Eve")


def test_a_mapping_on_top_of_a_preset(exports: Exports) -> None:
    lines(exports, {**FULL, "area": "hardware", "custom": [{"id": 7, "value": "x9"}]})
    exports.settings["mapping"] = {
        "product": "area",
        "version": "custom[id=7].value",
        "customer": {"name": '="Somebody"'},
        "metadata": {"second tag": "tags[1]"},
    }
    document = only(exports)
    assert document.ticket is not None
    assert document.customer is not None
    assert (document.ticket.product, document.ticket.version) == ("hardware", "x9")
    assert (document.customer.external_id, document.customer.name) == ("acme", "Somebody")
    assert document.metadata["second tag"] == "paper"


def test_value_maps_and_dropping(exports: Exports) -> None:
    rows = [record(n, "x", solved=solved, spam=n == 3) for n, solved in enumerate([True, False, None, True])]
    lines(exports, *rows)
    exports.settings |= {
        "mapping": {"status": "solved"},
        "status_values": {"true": "solved", "false": "open", "null": "unknown"},
        "drop_if": "spam",
    }
    statuses = {name: doc.ticket and doc.ticket.status for name, doc in synced(exports).documents.items()}
    assert statuses == {"0": "solved", "1": "open", "2": "unknown"}
    assert set(exports.connector().inventory()) == set(statuses)


@pytest.mark.parametrize(
    ("written", "options", "meant"),
    [
        ("2025-03-01 09:00:00 +0100", {}, utc(2025, 3, 1, 8)),
        ("2025-03-01 09:00:00 UTC", {"timezone": "Asia/Tokyo"}, utc(2025, 3, 1, 9)),
        ("2025-03-01T09:00", {"timezone": "Europe/Berlin"}, utc(2025, 3, 1, 8)),
        ("2025-07-01", {"timezone": "Europe/Berlin"}, utc(2025, 6, 30, 22)),
        ("Sat, 01 Mar 2025 09:00:00 +0100", {}, utc(2025, 3, 1, 8)),
        (1740819600, {}, utc(2025, 3, 1, 9)),
        ("1740819600000", {}, utc(2025, 3, 1, 9)),
        ("01/Mar/25 09:00", {"date_format": "%d/%b/%y %H:%M"}, utc(2025, 3, 1, 9)),
        ("", {}, None),
    ],
)
def test_dates(exports: Exports, written: object, options: dict[str, str], meant: dt.datetime | None) -> None:
    lines(exports, record(1, "x", created=written))
    exports.settings |= options
    assert only(exports).created_at == meant


@pytest.mark.parametrize("written", ["03/04/25", "yesterday", True, 1e300, "2025-13-01", {"at": 1}])
def test_a_date_that_is_not_understood_is_a_failure(exports: Exports, written: object) -> None:
    lines(exports, record(1, "x", created=written), record(2, "x"))
    replica = synced(exports)
    assert set(replica.documents) == {"2"}
    assert "tickets.jsonl, line 1: its «created» is no date" in replica.failures["1"]
    assert set(exports.connector().inventory()) == {"1", "2"}, "it exists all the same"


def test_bad_lines(exports: Exports) -> None:
    lines(
        exports,
        record(1, "x"),
        b'{"id": 2, "body": "' + CONTENT_WORD.encode() + b"\n",
        b'["' + CONTENT_WORD.encode() + b'"]\n',
        b'{"id": "\xff"}\n',
        {"subject": CONTENT_WORD, "body": "no id", "created": None},
        record(6, "x", replies=CONTENT_WORD),
        {"id": 7},
        b"\n",
        record(9, "x"),
    )
    replica = synced(exports)
    assert set(replica.documents) == {"1", "9"}
    assert [reason.split(". ")[0].split(", ", 1)[1] for reason in replica.failures.values()] == [
        "line 2: it is no valid JSON (column 31)",
        "line 3: it is no JSON object",
        "line 4: it is no utf-8 text; see the setting «encoding»",
        "line 5: it has no id",
        "line 6: its «replies.list» is no list of objects",
        "line 7: it has neither a title nor a text",
    ]
    assert not [reason for reason in replica.failures.values() if CONTENT_WORD in reason]
    with pytest.raises(SourceBusy, match="line 2"):
        list(exports.connector().inventory())
    assert changes(replica.sync(exports.connector())) == [], "told once, until the file changes"


def test_bad_rows_of_a_csv(tmp_path: Path) -> None:
    exports = Exports(tmp_path, suffix="csv")
    exports.save(
        b'\xef\xbb\xbfid;subject;body\r\n1;"two\r\nlines";"a ""quoted"" word"\r\n2;short\r\n'
        b"3;caf\xe9;x\r\n\r\n4;a;b\r\n"
    )
    replica = synced(exports)
    assert set(replica.documents) == {"1", "4"}
    assert replica.documents["1"].title == "two\r\nlines"
    assert list(replica.failures) == ["tickets.csv:line 4", "tickets.csv:line 5"]
    exports.settings["encoding"] = "cp1252"
    exports.settings["mapping"] = {"title": "subject"}
    replica.sync(exports.connector())
    assert replica.documents["3"].title == "café"


def test_lists_in_csv_cells(tmp_path: Path) -> None:
    exports = Exports(tmp_path, suffix="csv")
    exports.settings["preset"] = None
    exports.settings["mapping"] = {
        "id": "Issue id",
        "title": "Sum.mary",
        "text": "Text",
        "tags": "Affects Version/s",
        "replies": {"list": "Comments", "text": "t"},
    }
    cell = json.dumps([{"t": "first"}, {"t": "second"}]).replace('"', '""')
    exports.save(f'Issue id,Sum.mary,Text,Affects Version/s,Comments\n1,a,b,"1.0, 2.0","{cell}"\n'.encode())
    document = only(exports)
    assert document.ticket is not None
    assert document.ticket.tags == ("1.0", "2.0")
    assert [part.text for part in document.body if not isinstance(part, int)] == ["b", "first", "second"]


def test_a_mapping_to_nothing_names_what_there_is(exports: Exports) -> None:
    lines(exports, record(1, "x", state="open"))
    exports.settings["mapping"] = {"status": "staus", "requester": "who|="}
    with pytest.raises(ValidationError):
        exports.connector()
    exports.settings["mapping"] = {"status": "staus", "replies": {"list": "nosuch"}}
    for attempt in (lambda: exports.connector().check(), lambda: list(exports.connector().sync(None))):
        with pytest.raises(SourceRefused, match=r"status → staus, replies\.list → nosuch") as caught:
            attempt()
        assert "body, created, id, state, subject" in str(caught.value)
    exports.settings["mapping"] = {"status": 'staus|=""'}
    assert only(exports).external_id == "1"


def test_a_preset_for_another_format_is_refused(exports: Exports) -> None:
    lines(exports, {"key": "A-1", "summary": "x", "text": "y"})
    with pytest.raises(SourceRefused, match="id → id, title → subject"):
        exports.connector().check()


def test_check_says_what_is_mapped(exports: Exports) -> None:
    lines(exports, {**FULL, "satisfaction": None}, {**FULL, "id": 18, "satisfaction": "", "created": "?"})
    found = exports.connector().check()
    assert "first 2 records 1 are tickets with id, " in found
    assert "always blank: satisfaction" in found
    assert "1 can't be used, the first because its «created» is no date" in found


@pytest.mark.parametrize("content", [b"%PDF-1.7 ...", b"\x00\x01", b"hello\n"])
def test_a_file_that_is_no_export(tmp_path: Path, content: bytes) -> None:
    exports = Exports(tmp_path, suffix="json")
    exports.save(content)
    with pytest.raises(SourceRefused, match="format"):
        list(exports.connector().sync(None))


def test_unknown_tokens_zones_and_encodings_are_refused(exports: Exports) -> None:
    for key, value in {"access": "support", "timezone": "Mars", "encoding": "nope", "drop_if": '="x'}.items():
        with pytest.raises(ValidationError):
            TicketExportSettings.model_validate({**exports.settings, key: value})
    with pytest.raises(ValidationError, match="access"):
        TicketExportSettings.model_validate({"path": "/x", "preset": "deskhand"})


class TestFiles:
    def test_appended_lines_are_read_alone(self, exports: Exports) -> None:
        lines(exports, *(record(n, "x") for n in range(50)))
        replica = synced(exports)
        with exports.file.open("a") as file:
            file.write(json.dumps(record(50, "x")) + "\n" + json.dumps(record(3, "again")) + "\n")
        found = changes(replica.sync(exports.connector()))
        assert [change.document.external_id for change in found if isinstance(change, Upsert)] == ["50", "3"]
        assert replica.summary() == synced(exports).summary()

    @pytest.mark.parametrize("suffix", ["jsonl", "csv", "json"])
    def test_a_change_of_equal_length_in_the_middle_is_found(self, tmp_path: Path, suffix: str) -> None:
        exports = Exports(tmp_path, suffix=suffix)
        for number in range(40):
            exports.put(f"{number:02}", "open")
        replica = synced(exports)
        size = exports.file.stat().st_size
        exports.put("07", "done")
        assert exports.file.stat().st_size == size
        before = replica.embedded
        replica.sync(exports.connector())
        assert replica.embedded == before + 1
        assert replica.summary() == synced(exports).summary()

    def test_other_columns_of_a_csv_are_found(self, tmp_path: Path) -> None:
        exports = Exports(tmp_path, suffix="csv")
        exports.save(b"id,subject,body\n1,a,b\n")
        replica = synced(exports)
        exports.save(b"id,body,subject\n1,a,b\n")
        replica.sync(exports.connector())
        assert replica.documents["1"].title == "b"

    def test_a_line_still_being_written(self, exports: Exports) -> None:
        whole = json.dumps(record(2, "x")).encode() + b"\n"
        lines(exports, record(1, "x"), whole[:25])
        replica = synced(exports)
        assert list(replica.failures) == ["tickets.jsonl:line 2"]
        lines(exports, record(1, "x"), whole, record(3, "x"))
        replica.sync(exports.connector())
        assert set(replica.documents) == {"1", "2", "3"}
        assert replica.embedded == 3
        assert set(exports.connector().inventory()) == {"1", "2", "3"}, "so that the failure of line 2 goes"

    def test_the_last_record_of_an_id_wins(self, exports: Exports) -> None:
        lines(exports, record(1, "first"), *(record(n, "x") for n in range(100, 140)), record(1, "last"))
        (exports.folder / "a.jsonl").write_text(json.dumps(record(1, "from an earlier file")) + "\n")
        replica = synced(exports)
        assert replica.documents["1"].body[0].text == "last"
        (exports.folder / "a.jsonl").write_text(json.dumps(record(1, "rewritten later")) + "\n")
        replica.sync(exports.connector())
        assert replica.documents["1"].body[0].text == "last"
        assert replica.summary() == synced(exports).summary()

    def test_twice_in_one_batch(self, exports: Exports) -> None:
        lines(exports, record(1, "first"), record(2, "x"), record(1, "last"))
        found = changes(Replica().sync(exports.connector()))
        assert [c.document.body[0].text for c in found if isinstance(c, Upsert)] == ["x", "last"]

    def test_a_folder_takes_only_exports_and_a_glob_what_it_says(self, exports: Exports) -> None:
        lines(exports, record(1, "x"))
        (exports.folder / "notes.txt").write_text("no export")
        (exports.folder / "2024").mkdir()
        (exports.folder / "2024" / "old.ndjson").write_text(json.dumps(record(2, "x")))
        assert set(synced(exports).documents) == {"1"}
        exports.settings["path"] = str(exports.folder / "**" / "*.ndjson")
        assert set(synced(exports).documents) == {"2"}
        exports.settings["path"] = str(exports.folder / "*.xml")
        with pytest.raises(SourceRefused, match="no export file"):
            exports.connector().check()

    def test_a_cut_archive_gives_what_it_has(self, tmp_path: Path) -> None:
        exports = Exports(tmp_path, suffix="jsonl.gz")
        rows = [record(n, os.urandom(40).hex()) for n in range(100)]
        lines(exports, *rows)
        whole = exports.file.read_bytes()
        exports.file.write_bytes(whole[: len(whole) // 2])
        replica = synced(exports)
        assert 10 < len(replica.documents) < 90
        assert "end early" in replica.failures["tickets.jsonl.gz"]
        with pytest.raises(SourceBusy):
            list(exports.connector().inventory())
        exports.file.write_bytes(whole)
        replica.sync(exports.connector())
        assert len(replica.documents) == replica.embedded == 100

    def test_a_cut_array_gives_what_it_has(self, tmp_path: Path) -> None:
        exports = Exports(tmp_path, suffix="json")
        for number in range(40):
            exports.put(f"{number:02}", "x")
        exports.file.write_bytes(exports.file.read_bytes()[:-30])
        replica = synced(exports)
        assert len(replica.documents) == 39
        assert len(replica.failures) == 1

    def test_other_settings_are_applied_to_what_is_known(self, exports: Exports) -> None:
        lines(exports, record(1, "x"), record(2, "x"))
        replica = synced(exports)
        exports.settings["access"] = ["group:other"]
        replica.sync(exports.connector())
        assert {doc.access for doc in replica.documents.values()} == {Access.of(groups=("other",))}
        assert replica.embedded == 2
        exports.settings["text_media_type"] = "text/markdown"
        replica.sync(exports.connector())
        assert replica.embedded == 4

    def test_a_file_that_is_gone_is_forgotten(self, exports: Exports) -> None:
        lines(exports, record(1, "x"))
        extra = exports.folder / "extra.jsonl"
        extra.write_text(json.dumps(record(2, "x")))
        replica = synced(exports)
        extra.unlink()
        assert not [c for c in changes(replica.sync(exports.connector())) if isinstance(c, Delete | Failed)]
        assert set(exports.connector().inventory()) == {"1"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("a", 1),
        ("b.c", "x"),
        ("l[0].n", "first"),
        ("l[-1].n", "last"),
        ("l[k=2].n", "last"),
        ("l[5].n", None),
        ("nosuch|b.nosuch|b.c", "x"),
        ("blank|a", 1),
        ('blank|="a|b"', "a|b"),
        ("dotted.name", "whole"),
        ("Issue [id]", 9),
        ("false|a", False),
        ("a.b.c", None),
    ],
)
def test_expressions(expression: str, value: object) -> None:
    row = {"a": 1, "b": {"c": "x"}, "l": [{"n": "first", "k": 1}, {"n": "last", "k": 2}], "blank": ""}
    row |= {"dotted.name": "whole", "Issue [id]": 9, "false": False}
    assert compile_expression(expression)(row) == value


@pytest.mark.parametrize("expression", ["a||b", '="x', "=x", "|a", "a|"])
def test_expressions_that_are_none(expression: str) -> None:
    with pytest.raises(ValueError, match=r"«|constant"):
        compile_expression(expression)


def test_memory_stays_flat(tmp_path: Path) -> None:
    """A one-line array of 60 MB, of which no more than a window is held."""
    exports = Exports(tmp_path, suffix="json")
    with exports.file.open("w") as file:
        for number in range(6000):
            file.write(("[" if number == 0 else ",") + json.dumps(record(number, "x" * 10_000)))
        file.write("]")
    tracemalloc.start()
    count = sum(len(batch.changes) for batch in exports.connector().sync(None))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 6000
    assert peak < 8 * 2**20


def real(path: str) -> Path:
    if not (DATA / path).exists():
        pytest.skip(f"{path} is not in the folder of test data")
    return DATA / path


def test_30000_real_tickets() -> None:
    settings = ticket_export(real(TICKETS), "group:support", drop_spam=True)
    connector = TicketExportConnector(TicketExportSettings.model_validate(settings))
    replica = Replica()
    replica.sync(connector)
    assert (len(replica.documents), replica.failures) == (30427 - 566, {})
    assert set(connector.inventory()) == set(replica.documents)
    tickets = [doc.ticket for doc in replica.documents.values() if doc.ticket]
    assert {ticket.status for ticket in tickets} == {"solved", "open"}
    parts = [part for doc in replica.documents.values() for part in doc.body if not isinstance(part, int)]
    assert {part.role for part in parts} == {"customer", "agent", ""}
    assert sum(part.is_solution for part in parts) > 2000
    assert changes(replica.sync(connector)) == []


@pytest.mark.parametrize(
    ("name", "extra", "count"),
    [("hadoop__hadoop", {"version": "Affects Version/s"}, 2503), ("seamonkey__SeaMonkey", {}, 1076)],
)
def test_real_issue_trackers(name: str, extra: dict[str, str], count: int) -> None:
    settings = {
        "path": str(real(f"gitbugs/{name}_bugs.csv.gz")),
        "access": "everyone",
        "date_format": "%d/%b/%y %H:%M",
        "mapping": {
            "id": "Issue id",
            "title": "Summary",
            "text": "Description",
            "status": "Status",
            "priority": "Priority",
            "created": "Created",
            "solved_at": "Resolved",
            **extra,
        },
    }
    replica = Replica()
    replica.sync(TicketExportConnector(TicketExportSettings.model_validate(settings)))
    assert (len(replica.documents), replica.failures) == (count, {})
    assert all(doc.created_at for doc in replica.documents.values())


def test_killed_in_the_middle(exports: Exports) -> None:
    """A process that takes batches and is killed; another one goes on from its last checkpoint."""
    lines(exports, *(record(n, "x") for n in range(500)))
    program = (
        "import json, os, sys\n"
        "from connectors.ticket_export.connector import TicketExportConnector\n"
        "from connectors.ticket_export.settings import TicketExportSettings\n"
        "run = TicketExportConnector(TicketExportSettings(**json.loads(sys.argv[1]))).sync(None)\n"
        "for _ in range(4):\n"
        "    batch = next(run)\n"
        "    ids = [change.document.external_id for change in batch.changes]\n"
        "    print(json.dumps([ids, dict(batch.checkpoint)]), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, json.dumps(exports.settings)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert killed.returncode == -9
    written = [json.loads(line) for line in killed.stdout.decode().splitlines() if line.startswith("[[")]
    first = {name for ids, _ in written for name in ids}
    rest = [change for batch in exports.connector().sync(written[-1][1]) for change in batch.changes]
    second = {change.document.external_id for change in rest if isinstance(change, Upsert)}
    assert len(first) == 4 * 32
    assert not first & second
    assert len(first | second) == 500
