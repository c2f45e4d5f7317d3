"""The rules of the code that no linter knows. A rule's exceptions stand here, each with its reason."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from assistant.config import Settings
from assistant.generate.registry import GENERATORS, PROVIDER
from assistant.ingest.embed import EMBEDDERS
from assistant.store.sql import SQL
from assistant.weights import KNOWN
from connectors.base import Connector, ConnectorSettings
from connectors.registry import CONNECTORS, connector_class

PROJECT = Path(__file__).parents[2]
PACKAGES = ("assistant", "connectors", "workers", "migrations")

FILE_LINES, FUNCTION_LINES = 400, 50
TEST_FILE_LINES, TEST_FUNCTION_LINES = 650, 60
"""tests are lists of cases: they are long without being deep"""
LONGER: dict[str, str] = {
    "assistant/store/search.py:candidates": "the choice of plan for one search, to be read in one piece",
    "assistant/surfaces/cli_eval.py:retrieval": "a command's options are its parameters, one a line",
    "migrations/versions/0001_initial.py": "the whole schema, to be read from top to bottom",
}
"""`file` or `file:function` → why it may be longer"""

HEAVY = ("torch", "transformers", "sentence_transformers", "peft", "trl", "optimum")
MAY_BE_HEAVY = ("assistant/tune/", "assistant/generate/transformers_peft.py")
"""fine-tuning and its generator are the extra `[tune]`; nothing else that serves imports it"""

SPEAKS_SQL = {
    "assistant/store/": "all data access",
    "migrations/": "the schema",
    "assistant/runtime/postgres.py": "waits for the embedded server, and makes the database on it",
    "assistant/runtime/doctor.py": "asks the server about extensions",
    "assistant/runtime/up.py": "asks the server for its version",
    "assistant/evaluate/scratch.py": "makes and drops databases of its own",
}
"""who may have SQL text; outside of the first two none may name one of our tables"""

FOR_SOMEBODY = ("assistant/surfaces/", "assistant/retrieve/", "assistant/answer/", "assistant/app.py")
"""code that shows texts to a person, so it must read them as that person"""
NO_TEXTS = {
    "overview": "counts rows",
    "run_progress": "counts rows",
    "space_counts": "counts rows",
    "pending_ready": "counts rows",
    "feedback_counts": "counts rows",
    "pending_retry": "sets queued rows free",
    "feedback_summary": "counts rows",
    "feedback_all": "the knowledge owner's list: titles, and questions without who asked them",
    "documents_complained": "the knowledge owner's list: titles and comments",
    "documents_old": "the knowledge owner's list: titles",
}
"""statements on guarded tables that a surface may run as the writer, and why"""


@cache
def trees(*folders: str) -> dict[str, ast.Module]:
    """Each Python file below `folders` by its path in the project."""
    files = [file for folder in folders for file in sorted((PROJECT / folder).rglob("*.py"))]
    return {f.relative_to(PROJECT).as_posix(): ast.parse(f.read_text(encoding="utf-8")) for f in files}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


# ── sizes ────────────────────────────────────────────────────────────────────


def too_long() -> Iterator[tuple[str, int]]:
    for path, tree in trees(*PACKAGES, "tests").items():
        test = path.startswith("tests/")
        lines = len((PROJECT / path).read_text(encoding="utf-8").splitlines())
        if lines > (TEST_FILE_LINES if test else FILE_LINES):
            yield path, lines
        for function in functions(tree):
            length = (function.end_lineno or 0) - function.lineno + 1
            if length > (TEST_FUNCTION_LINES if test else FUNCTION_LINES):
                yield f"{path}:{function.name}", length


def test_files_and_functions_stay_small() -> None:
    long = dict(too_long())
    new = {place: lines for place, lines in long.items() if place not in LONGER}
    assert not new, f"split these, or list them in LONGER with the reason: {new}"


def test_the_listed_long_ones_exist() -> None:
    gone = [
        place
        for place in LONGER
        if place.partition(":")[0] not in trees(*PACKAGES, "tests")
        or (":" in place and place.partition(":")[2] not in {f.name for f in functions(tree_of(place))})
    ]
    assert not gone, f"take these out of LONGER: {gone}"


def tree_of(place: str) -> ast.Module:
    return trees(*PACKAGES, "tests")[place.partition(":")[0]]


# ── imports ──────────────────────────────────────────────────────────────────


def test_the_import_contracts_hold() -> None:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c()",
        "--no-cache",
    ]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_nobody_imports_workers_or_surfaces() -> None:
    found = [
        f"{path}:{line} {name}"
        for path, tree in trees(*PACKAGES).items()
        for line, name in imported(tree)
        for above in ("workers", "assistant.surfaces")
        if f"{name}.".startswith(f"{above}.") and not path.startswith(f"{above.replace('.', '/')}/")
    ]
    assert not found, f"a surface asks for work by writing a row: {found}"


def test_only_fine_tuning_names_torch() -> None:
    """Not even where an import is inside a function."""
    found = [
        f"{path}:{line} {name}"
        for path, tree in trees(*PACKAGES).items()
        for line, name in imported(tree)
        if name.split(".")[0] in HEAVY and not path.startswith(MAY_BE_HEAVY)
    ]
    assert not found


def test_serving_loads_no_torch() -> None:
    """What our dependencies pull in when everything that serves is imported."""
    modules = sorted(
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in trees("assistant", "connectors", "workers")
        if not path.startswith((*MAY_BE_HEAVY, "assistant/sample/"))
    )
    assert {"assistant.app", "assistant.answer.engine", "assistant.generate.local", "workers.app"} <= {
        *modules
    }
    program = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    # An address is enough for the workers' module: nothing is connected to.
    environment = {**os.environ, "DESKHAND_REDIS_URL": "redis://127.0.0.1:6379/0"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [], "serving imports these"


def test_a_command_that_asks_no_model_loads_no_framework() -> None:
    """LlamaIndex and LangChain take seconds to import, and `deskhand status` answers at once."""
    program = (
        "import sys, assistant.surfaces.cli, assistant.surfaces.cli_sources\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & {'llama_index', 'langchain_core', 'openvino'})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_nothing_reports_home(tmp_path: Path) -> None:
    """OpenVINO's telemetry sends an event to an analytics service at import, and leaves an id in the home."""
    program = (
        "import sys, assistant.ingest.embed, assistant.generate.local, openvino\n"
        "print(*[name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("CI", "JENKINS_URL", "TF_BUILD")
    }
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "HOME": str(tmp_path)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [], "put `sys.modules['openvino_telemetry'] = None` before the first import"
    assert list(tmp_path.iterdir()) == []


# ── SQL ──────────────────────────────────────────────────────────────────────

STATEMENT = re.compile(
    r"\s*(?:select\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|truncate\s|set\s+(?:local|role)\s"
    r"|with\s+\w+\s+as\s*\(|(?:create|alter|drop)\s+(?:table|database|role|schema|index|extension|function)\s)",
    re.IGNORECASE,
)


@cache
def tables() -> frozenset[str]:
    text = "".join(f.read_text(encoding="utf-8") for f in (PROJECT / "migrations/versions").glob("*.py"))
    return frozenset(re.findall(r"create (?:table|view) (\w+)", text))


def named_tables(sql: str) -> set[str]:
    return tables() & set(re.findall(r"(?:from|join|into|update|table)\s+(?:deskhand\.)?(\w+)", sql.lower()))


def sql_texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("utf-8", "replace")
            if STATEMENT.match(text):
                yield node.lineno, text


def test_sql_stands_in_the_store() -> None:
    wrong = [
        f"{path}:{line} {text[:60]!r}"
        for path, tree in trees(*PACKAGES).items()
        if not path.startswith(("assistant/store/", "migrations/"))
        for line, text in sql_texts(tree)
        if named_tables(text) or not path.startswith(tuple(SPEAKS_SQL))
    ]
    assert not wrong, f"move these to assistant/store/queries.sql: {wrong}"


def test_the_rule_on_sql_sees_sql() -> None:
    seen = [text for _, text in sql_texts(ast.parse('a = "select text from chunk"\nb = "Select a source."'))]
    assert seen[0] == "select text from chunk"
    assert named_tables(seen[0]) == {"chunk"}
    assert {"document", "chunk", "pending", "conversation"} <= tables()


def statements(tree: ast.AST) -> Iterator[str]:
    """Names of the statements a piece of code uses: every literal inside `SQL[…]`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "SQL":
            for part in ast.walk(node.slice):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def test_every_statement_is_used_and_every_used_one_exists() -> None:
    used = {name for tree in trees(*PACKAGES).values() for name in statements(tree)}
    assert used - set(SQL) == set(), "queries.sql doesn't have these"
    assert set(SQL) - used == set(), "nothing uses these: remove them"


# ── who may read texts ───────────────────────────────────────────────────────

GUARDED = {"document", "chunk", "ticket", "pending", "message", "citation", "conversation", "feedback"}
GUARDED |= {"told_question", "given_feedback"}


@cache
def reach(module: str, function: str) -> frozenset[str]:
    """Statements a function of the store runs, itself or through others of its module."""
    found = [
        f for f in functions(trees("assistant/store")[f"assistant/store/{module}.py"]) if f.name == function
    ]
    names = {name for f in found for name in statements(f)}
    for called in (node.func for f in found for node in ast.walk(f) if isinstance(node, ast.Call)):
        if isinstance(called, ast.Name) and called.id != function:
            names |= reach(module, called.id)
    return frozenset(names)


def as_writer(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls made with a writer's connection: inside `with ….writer() as connection`, and what these call here."""
    local = {f.name: f for f in functions(tree)}
    for block in (node for node in ast.walk(tree) if isinstance(node, ast.With)):
        names = {
            item.optional_vars.id
            for item in block.items
            if isinstance(item.optional_vars, ast.Name)
            and isinstance(item.context_expr, ast.Call)
            and isinstance(item.context_expr.func, ast.Attribute)
            and item.context_expr.func.attr == "writer"
        }
        waiting: list[ast.AST] = [*block.body] if names else []
        done: set[str] = set()
        while waiting:
            for call in (node for node in ast.walk(waiting.pop()) if isinstance(node, ast.Call)):
                yield call
                if isinstance(call.func, ast.Name) and call.func.id in local and call.func.id not in done:
                    done.add(call.func.id)
                    waiting += local[call.func.id].body


def wrong_reads(tree: ast.Module) -> list[str]:
    """Guarded tables reached as the writer, or around the roles, by code that answers somebody."""
    modules = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "assistant.store"
        for alias in node.names
    }
    direct = {
        alias.asname or alias.name: (node.module.rpartition(".")[2], alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("assistant.store.")
        for alias in node.names
    }
    found = [
        f"line {line}: imports {name}"
        for line, name in imported(tree)
        if name.split(".")[0] == "psycopg" or name.startswith("assistant.store.sql.")
    ]
    for call in as_writer(tree):
        match call.func:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in modules:
                target = (modules[module], name)
            case ast.Attribute(attr="execute" | "cursor" | "copy"):
                found.append(f"line {call.lineno}: runs SQL of its own")
                continue
            case ast.Name(id=name) if name in direct:
                target = direct[name]
            case _:
                continue
        texts = [n for n in reach(*target) - set(NO_TEXTS) if named_tables(SQL[n].decode()) & GUARDED]
        found += [f"line {call.lineno}: {'.'.join(target)} runs {name} as the writer" for name in texts]
    return found


def test_texts_are_read_as_the_person_who_asks() -> None:
    answering = {p: t for p, t in trees("assistant").items() if p.startswith(FOR_SOMEBODY)}
    assert len(answering) > 10
    wrong = {path: found for path, tree in answering.items() if (found := wrong_reads(tree))}
    assert not wrong, f"use Database.reader(principal, audience): {wrong}"


@pytest.mark.parametrize(
    ("code", "complaints"),
    [
        ("with db.reader(p, a) as c:\n  search.passages(c, {})", 0),
        ("with db.writer() as c:\n  search.passages(c, {})", 1),
        ("with db.writer() as c:\n  helper(c)\ndef helper(c):\n  search.passages(c, {})", 1),
        ("with db.writer() as c:\n  c.execute('select 1')", 1),
        ("with db.writer() as c:\n  search.customers_named(c)", 0),
        ("import psycopg", 1),
    ],
)
def test_the_rule_on_reading_sees_what_it_should(code: str, complaints: int) -> None:
    assert len(wrong_reads(ast.parse(f"from assistant.store import search\n{code}"))) == complaints


# ── registries ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", CONNECTORS)
def test_a_connector_resolves(name: str) -> None:
    made = connector_class(name)
    assert issubclass(made.Settings, ConnectorSettings)
    missing = [
        attribute
        for attribute in vars(Connector)
        if not attribute.startswith("_") and not hasattr(made, attribute)
    ]
    assert not missing


@pytest.mark.parametrize("place", [*GENERATORS.values(), PROVIDER])
def test_a_generator_resolves(place: str) -> None:
    module, _, function = place.partition(":")
    assert callable(getattr(import_module(module), function))


def test_the_default_models_are_known() -> None:
    assert all(callable(factory) for factory in EMBEDDERS.values())
    defaults = Settings()
    assert defaults.embedder in EMBEDDERS
    assert {defaults.embedder, defaults.local_model} <= set(KNOWN)
    assert defaults.generator in GENERATORS


# ── habits ───────────────────────────────────────────────────────────────────


def test_nothing_prints_but_the_surfaces() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, tree in trees(*PACKAGES).items()
        if not path.startswith("assistant/surfaces/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not found, f"log it, or give it to the surface: {found}"


IGNORE = re.compile(
    r"#\s*(?:noqa|type:\s*ignore|pyright:\s*ignore)"
    r"(?P<rules>:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[\w, -]+\])?(?P<reason>.*)"
)


def ignores(text: str) -> Iterator[tuple[int, str]]:
    """Lines that silence a checker without naming the rule, or without saying why."""
    for number, line in enumerate(text.splitlines(), 1):
        found = IGNORE.search(line)
        if found and not (found["rules"] and len(re.findall(r"[A-Za-z]{2,}", found["reason"])) > 1):
            yield number, line.strip()


def test_an_ignored_rule_is_named_and_justified() -> None:
    found = [
        f"{path}:{number} {line}"
        for path in trees(*PACKAGES, "tests")
        for number, line in ignores((PROJECT / path).read_text(encoding="utf-8"))
    ]
    assert not found, f"say why on the same line: {found}"


def test_a_skipped_test_says_why() -> None:
    found: list[str] = []
    for path, tree in trees("tests").items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call | ast.Attribute)):
            name = ast.unparse(call.func if isinstance(call, ast.Call) else call)
            given = {k.arg for k in call.keywords} if isinstance(call, ast.Call) else set[str | None]()
            positional = call.args if isinstance(call, ast.Call) else []
            if name in ("pytest.mark.skipif", "pytest.mark.xfail") and isinstance(call, ast.Call):
                found += [] if "reason" in given else [f"{path}:{call.lineno} {name}"]
            elif name in ("pytest.skip", "pytest.mark.skip", "pytest.xfail") and isinstance(call, ast.Call):
                found += [] if positional or "reason" in given else [f"{path}:{call.lineno} {name}"]
    assert not found
