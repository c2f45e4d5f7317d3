"""Every revision goes up and down again and leaves the schema as the one before it had it."""

from __future__ import annotations

from pathlib import Path

import psycopg

from assistant.store import schema

VERSIONS = Path(__file__).parents[2] / "migrations" / "versions"
PICTURES = (
    "select 'column', table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default)"
    " from information_schema.columns where table_schema = 'deskhand'",
    "select 'function', p.oid::regprocedure::text, md5(prosrc) from pg_proc p"
    " where pronamespace = 'deskhand'::regnamespace",
    "select 'policy', tablename || '.' || policyname, coalesce(qual, '') || ' / ' || coalesce(with_check, '')"
    " from pg_policies where schemaname = 'deskhand'",
    "select 'index', indexname, indexdef from pg_indexes where schemaname = 'deskhand'",
    "select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) from pg_constraint"
    " where connamespace = 'deskhand'::regnamespace",
    "select 'grant', table_name || '.' || grantee, string_agg(privilege_type, ' ' order by privilege_type)"
    " from information_schema.role_table_grants where table_schema = 'deskhand' group by table_name, grantee",
)  # fmt: skip


def picture(url: str) -> set[tuple[str, ...]]:
    with psycopg.connect(url) as connection:
        connection.execute("set search_path to deskhand, public")
        return {row for query in PICTURES for row in connection.execute(query.encode())}


def test_up_and_down(empty_database_url: str) -> None:
    revisions = sorted(file.stem.partition("_")[0] for file in VERSIONS.glob("[0-9]*.py"))
    assert len(revisions) > 1
    seen: dict[str, set[tuple[str, ...]]] = {}
    for revision in revisions:
        schema.migrate(empty_database_url, revision)
        seen[revision] = picture(empty_database_url)
    for revision in reversed(revisions[:-1]):
        schema.downgrade(empty_database_url, revision)
        assert picture(empty_database_url) == seen[revision], f"back at {revision}"
    schema.migrate(empty_database_url)
    assert picture(empty_database_url) == seen[revisions[-1]]
