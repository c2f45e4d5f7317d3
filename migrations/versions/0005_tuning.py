"""Fine-tuning: what a model was trained on, and which model answers.

Revision: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# An example's text is made of documents, so it goes when one of them is erased; what is left
# of it in a trained model is told by `version_document`, which has ids alone and therefore stays.
DATASETS = """
create table dataset (
  id bigint primary key generated always as identity,
  hash text not null unique,
  settings jsonb not null,
  counts jsonb not null,
  created_at timestamptz not null default now()
);
comment on column dataset.hash is 'SHA-256 of its examples and settings';
comment on column dataset.counts is 'examples by part and kind, and what was left out by reason';
create table example (
  id bigint primary key generated always as identity,
  dataset_id bigint not null references dataset on delete cascade,
  part text not null check (part in ('train', 'dev', 'test')),
  kind text not null check (kind in ('answer', 'decline', 'turns', 'draft', 'replay')),
  origin text not null,
  prompt jsonb not null,
  completion text not null,
  documents bigint[] not null default '{}',
  asked_at timestamptz
);
comment on column example.origin is '`desk`, or the name of the file it came from';
comment on column example.prompt is 'chat messages: [{role, content}, …]';
comment on column example.documents is 'its ticket first, then those of its passages';
create index example_part on example (dataset_id, part);
create index example_documents on example using gin (documents);
"""

VERSIONS = """
create table version (
  id bigint primary key generated always as identity,
  kind text not null check (kind in ('generator', 'embedder')),
  name text not null unique,
  base text not null,
  dataset_hash text,
  folder text not null,
  recipe jsonb not null,
  metrics jsonb not null default '{}',
  state text not null check (state in ('training', 'failed', 'candidate', 'rejected', 'live', 'retired')),
  reason text not null default '',
  progress jsonb not null default '{}',
  requested_by text not null default '',
  created_at timestamptz not null default now(),
  promoted_at timestamptz,
  promoted_by text
);
comment on column version.folder is 'its weights, below the models folder';
comment on column version.reason is 'why it failed or was rejected, in words';
comment on column version.progress is 'of a training: step, steps, loss, seconds; what a resumed one goes on from';
create unique index version_live on version (kind) where state = 'live';
create table version_document (
  version_id bigint not null references version on delete cascade,
  document_id bigint not null,
  primary key (version_id, document_id)
);
comment on table version_document is 'what it was trained on; no reference, since it outlives the document';
create index version_document_document on version_document (document_id);
grant select, insert, update, delete on dataset, example, version, version_document to deskhand_writer;
"""


def upgrade() -> None:
    op.execute(DATASETS)
    op.execute(VERSIONS)


def downgrade() -> None:
    op.execute("drop table version_document, version, example, dataset")
