"""Erasure: what was erased when, and what therefore must not come back.

Revision: 0003, after 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
create table erasure (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  actor text not null,
  kind text not null check (kind in ('customer', 'person')),
  key bytea not null,
  report jsonb not null default '{}',
  lifted_at timestamptz
);
comment on table erasure is 'that something was erased; nothing of what or whom';
comment on column erasure.key is 'fingerprint of the key that the hashes were made with';
comment on column erasure.report is 'counts and ids';
comment on column erasure.lifted_at is 'since when it may come back';

create table blocked (
  hash bytea not null,
  erasure_id bigint not null references erasure on delete cascade,
  source_id int,
  primary key (hash, erasure_id)
);
comment on table blocked is 'keyed hashes of what no sync may bring back';
comment on column blocked.source_id is 'of a document: where it would come from, to be read anew when it may';
create index blocked_erasure on blocked (erasure_id);

grant select on erasure to deskhand_writer;
grant select, insert on blocked to deskhand_writer;
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("drop table blocked, erasure")
