"""The first schema: sources, documents, chunks, people, runs, conversations.

Revision: 0001, after nothing
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# What decides whether a text may be read stands here once; every policy and the
# one function that bypasses policies call it. A setting that was SET LOCAL
# comes back as '' after its transaction, hence nullif.
#
# `narrow` is a second condition of single texts, such as the right to read comments;
# null where there is none.
VISIBLE = """
create function visible(acl text[], narrow text[], audience text) returns boolean
language sql stable parallel safe as $$
  select acl && nullif(current_setting('deskhand.tokens', true), '')::text[]
     and (narrow is null or narrow && nullif(current_setting('deskhand.tokens', true), '')::text[])
     and (audience = 'public' or current_setting('deskhand.audience', true) = 'internal')
$$;
"""

SOURCES = """
create table embedding_space (
  id smallint generated always as identity primary key,
  name text not null,
  revision text not null,
  dimension int not null check (dimension between 1 and 4000),
  live boolean not null default false,
  created_at timestamptz not null default now(),
  unique (name, revision)
);
create unique index embedding_space_live on embedding_space (live) where live;

create table source (
  id int generated always as identity primary key,
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  connector text not null,
  realm text not null,
  settings jsonb not null default '{}',
  secrets bytea,
  paused text not null default '',
  prune_share real not null default 0.2 check (prune_share between 0 and 1),
  checkpoint jsonb,
  created_at timestamptz not null default now()
);
comment on column source.realm is 'prefix of its access tokens: sources of one realm share users and groups';
comment on column source.paused is 'why it is not synced; empty when it is';
comment on column source.prune_share is 'an inventory that misses a larger share deletes nothing until it is confirmed';

create table schedule (
  source_id int not null references source on delete cascade,
  job text not null check (job in ('sync', 'permissions', 'inventory', 'retry')),
  every interval check (every >= interval '10 seconds'),
  cron text not null default '',
  zone text not null default 'UTC',
  jitter interval not null default '0',
  paused boolean not null default false,
  next_at timestamptz,
  failures int not null default 0,
  primary key (source_id, job),
  check ((every is null) <> (cron = ''))
);
comment on column schedule.failures is 'in a row; each doubles the wait for the next run';
create index schedule_next on schedule (next_at) where not paused;

create table sync_run (
  id bigint generated always as identity primary key,
  source_id int not null references source on delete cascade,
  job text not null default 'sync' check (job in ('sync', 'permissions', 'inventory', 'retry')),
  state text not null default 'queued' check (state in ('queued', 'running', 'done', 'failed')),
  requested_at timestamptz not null default now(),
  started_at timestamptz,
  heartbeat_at timestamptz,
  ready_at timestamptz not null default now(),
  finished_at timestamptz,
  slices int not null default 0,
  prune_all boolean not null default false,
  added int not null default 0,
  changed int not null default 0,
  unchanged int not null default 0,
  deleted int not null default 0,
  failed int not null default 0,
  total int,
  error text not null default '',
  note text not null default ''
);
comment on column sync_run.prune_all is 'a person confirmed that most documents are really gone';
comment on column sync_run.ready_at is 'not carried on before: the source asked for a pause, or its queue is full';
create unique index sync_run_active on sync_run (source_id, job) where state in ('queued', 'running');
create index sync_run_source on sync_run (source_id, id desc);

create table held_prune (
  source_id int primary key references source on delete cascade,
  run_id bigint not null,
  missing text[] not null,
  documents int not null,
  held_at timestamptz not null default now()
);
comment on table held_prune is 'what an inventory missed and was not deleted: too much at once';
create table tombstone (
  id bigint generated always as identity primary key,
  source_id int not null,
  external_id text not null,
  kind text not null,
  chunks int not null,
  synced_at timestamptz not null,
  deleted_at timestamptz not null default now()
);
comment on table tombstone is 'that a document was here and until when; nothing of its text';
create index tombstone_source on tombstone (source_id, external_id);
"""

PEOPLE = """
create table principal (
  id text primary key check (id = lower(id) and id <> ''),
  name text not null default '',
  created_at timestamptz not null default now()
);
create table identity (
  source_id int not null references source on delete cascade,
  realm text not null,
  name text not null,
  principal_id text references principal on delete set null,
  fixed boolean not null default false,
  primary key (source_id, name)
);
comment on column identity.fixed is 'an admin said who this is; the source no longer decides';
create index identity_principal on identity (principal_id);
create table membership (
  source_id int not null references source on delete cascade,
  realm text not null,
  user_name text not null,
  group_name text not null,
  primary key (source_id, user_name, group_name)
);
create index membership_user on membership (realm, user_name);
create table customer (
  id int generated always as identity primary key,
  realm text not null,
  external_id text not null,
  name text not null,
  domains text[] not null default '{}',
  attributes jsonb not null default '{}',
  acl text[] not null default '{}',
  same_as int references customer on delete set null,
  fixed boolean not null default false,
  resolved boolean not null default false,
  unique (realm, external_id),
  check (same_as <> id)
);
comment on table customer is 'as one source names it; several rows may be one customer';
comment on column customer.acl is 'everyone who could read one of its tickets at some time';
comment on column customer.same_as is 'the row this one is another name of; null when it stands for itself';
comment on column customer.fixed is 'an admin said whether and whose other name it is; domains no longer decide';
comment on column customer.resolved is 'compared with the others since its domains last changed';
create index customer_same_as on customer (same_as) where same_as is not null;
create index customer_unresolved on customer (id) where not resolved;
create index customer_domains on customer using gin (domains);
"""

DOCUMENTS = """
create table document (
  id bigint generated always as identity primary key,
  source_id int not null references source on delete cascade,
  external_id text not null,
  kind text not null check (kind in ('document', 'ticket')),
  audience text not null check (audience in ('public', 'internal')),
  acl text[] not null,
  title text not null,
  url text not null default '',
  media_type text not null default '',
  language text not null default '',
  customer_id int references customer,
  created_at timestamptz,
  updated_at timestamptz,
  synced_at timestamptz not null default now(),
  revision text,
  metadata jsonb not null default '{}',
  parent text not null default '',
  title_embedding halfvec,
  number text generated always as (case when kind = 'ticket' then lower(coalesce(
    substring(url from '/([A-Z][A-Z0-9_]+-[0-9]+)$'), substring(external_id from '[^/#]+$'))) end) stored,
  unique (source_id, external_id)
);
comment on column document.revision is 'the revision its chunks were made from; null before the first';
comment on column document.parent is 'external id of the ticket it is attached to';
comment on column document.number is 'what people call a ticket: 4521, or DESK-17';
create index document_number on document (number) where number is not null;
create index document_parent on document (source_id, parent) where parent <> '';
create index document_customer on document (customer_id, created_at desc) where customer_id is not null;

create table ticket (
  document_id bigint primary key references document on delete cascade,
  acl text[] not null,
  audience text not null,
  status text not null,
  requester text not null default '',
  requester_email text not null default '',
  assignee text not null default '',
  priority text not null default '',
  product text not null default '',
  version text not null default '',
  tags text[] not null default '{}',
  solved_at timestamptz,
  satisfaction text not null default '',
  events jsonb not null default '[]',
  custom_fields jsonb not null default '{}',
  links jsonb not null default '[]',
  codes text[] not null default '{}'
);
comment on column ticket.codes is 'error codes in what everybody who may read the ticket may read of it';

create table digest (
  document_id bigint not null references document on delete cascade,
  ordinal int not null,
  kind text not null check (kind in ('problem', 'tried', 'solution', 'reply')),
  audience text not null check (audience in ('public', 'internal')),
  acl text[] not null,
  narrow text[],
  role text not null default '',
  at timestamptz,
  text text not null,
  primary key (document_id, ordinal)
);
comment on table digest is 'what happened in a ticket, in its own words: a line or two of each message';

create table chunk (
  id bigint generated always as identity primary key,
  document_id bigint not null references document on delete cascade,
  source_id int not null,
  space_id smallint not null references embedding_space,
  ordinal int not null,
  kind text not null,
  audience text not null check (audience in ('public', 'internal')),
  acl text[] not null,
  narrow text[],
  customer_id int,
  language text not null default '',
  created_at timestamptz,
  role text not null default '',
  is_solution boolean not null default false,
  headings text[] not null default '{}',
  page int,
  tokens int not null,
  text text not null,
  hash bytea not null,
  embedding halfvec not null,
  terms int[] not null,
  weights sparsevec(1000000000) not null,
  unique (document_id, space_id, ordinal) deferrable initially deferred
);
comment on column chunk.hash is 'of what was embedded: equal hash in one space, equal vector';
comment on column chunk.terms is 'ids of its words; candidates for BM25';
comment on column chunk.weights is 'BM25 weight of each word without its idf';
create index chunk_hash on chunk (hash, space_id);
create index chunk_acl on chunk using gin (acl) with (fastupdate = off);
create index chunk_terms on chunk using gin (terms);
create index chunk_customer on chunk (customer_id) where customer_id is not null;
-- Vectors and weights are read for every candidate: out of line they cost a second fetch each.
alter table chunk alter embedding set storage plain, alter weights set storage main;

create table term_stat (term int primary key, chunks int not null);
create table corpus_stat (
  single boolean primary key default true check (single),
  chunks bigint not null default 0,
  newest bigint not null default 0,
  counted_at timestamptz not null default '-infinity'
);
insert into corpus_stat default values;
"""

QUEUE = """
create table pending (
  document_id bigint primary key references document on delete cascade,
  source_id int not null,
  revision text not null,
  form text not null check (form in ('file', 'parts')),
  body bytea not null,
  size bigint not null,
  attempts int not null default 0,
  ready_at timestamptz not null default now(),
  parked boolean not null default false,
  queued_at timestamptz not null default now()
);
comment on table pending is 'documents whose chunks are still to be made; a message only hints at them';
comment on column pending.form is 'a file to parse, or JSON of parts that are text already';
comment on column pending.parked is 'given up on: see failure; kept so that a retry needs no new sync';
create index pending_ready on pending (source_id, ready_at) where not parked;

create table failure (
  id bigint generated always as identity primary key,
  source_id int not null references source on delete cascade,
  external_id text not null,
  stage text not null check (stage in ('read', 'parse', 'index')),
  reason text not null,
  attempts int not null default 1,
  permanent boolean not null default false,
  parent text not null default '',
  due boolean not null default false,
  first_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  unique (source_id, external_id)
);
comment on column failure.parent is 'external id of the item it hangs on and is read with; empty: it is read by itself';
comment on column failure.due is 'the next sync reads it again, whether or not it changed';
create index failure_due on failure (source_id) where due;
"""

TALK = """
create table conversation (
  id uuid primary key default gen_random_uuid(),
  principal_id text not null default current_setting('deskhand.principal'),
  title text not null default '',
  surface text not null default '',
  customer_id int references customer,
  created_at timestamptz not null default now()
);
create index conversation_principal on conversation (principal_id, created_at desc);
create table message (
  id bigint generated always as identity primary key,
  conversation_id uuid not null references conversation on delete cascade,
  role text not null check (role in ('user', 'assistant')),
  content text not null,
  searched text not null default '',
  confidence real,
  refusal text not null default '',
  model text not null default '',
  timings jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index message_conversation on message (conversation_id, id);
create table citation (
  message_id bigint not null references message on delete cascade,
  marker int not null,
  chunk_id bigint references chunk on delete set null,
  document_id bigint references document on delete set null,
  quote text not null,
  span_start int not null,
  span_end int not null,
  primary key (message_id, marker, span_start)
);
create index citation_chunk on citation (chunk_id);
create index citation_document on citation (document_id);
create table feedback (
  id bigint generated always as identity primary key,
  message_id bigint not null references message on delete cascade,
  principal_id text not null default current_setting('deskhand.principal'),
  verdict text not null check (verdict in ('up', 'down', 'source_wrong', 'source_outdated', 'accepted')),
  marker int,
  comment text not null default '',
  created_at timestamptz not null default now()
);
create index feedback_message on feedback (message_id);
create table audit_log (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  actor text not null,
  action text not null,
  object text not null default '',
  detail jsonb not null default '{}'
);
create table evaluation (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  kind text not null check (kind in ('retrieval', 'answers')),
  dataset text not null,
  system text not null,
  metrics jsonb not null,
  settings jsonb not null default '{}'
);
"""

# Under row-level security an array operator that is not leakproof loses its GIN
# index, so the lexical leg runs as the owner with the predicate written out. It
# returns ids and scores only: texts are read by the caller, under its policies.
LEXICAL = """
create function lexical(
  query sparsevec, rare int[], space smallint, k int,
  sources int[], kinds text[], customers int[], languages text[], before timestamptz
) returns table (id bigint, bm25 real)
language plpgsql stable security definer set search_path = deskhand, public, pg_temp
set plan_cache_mode = force_custom_plan as $$
begin
  return query
  select c.id, (-(c.weights <#> query))::real
  from chunk c
  where visible(c.acl, c.narrow, c.audience)
    and c.space_id = space
    and (rare is null or c.terms && rare)
    and (sources is null or c.source_id = any (sources))
    and (kinds is null or c.kind = any (kinds))
    and (customers is null or c.customer_id is null or c.customer_id = any (customers))
    and (languages is null or c.language = any (languages))
    and (before is null or c.created_at <= before)
  order by c.weights <#> query, c.id
  limit k;
end $$;
-- Which of these words some document has that belongs to no ticket, whoever may read it. It tells
-- no text, and what is known from a document is nobody's secret name.
create function documented(words int[]) returns setof int
language sql stable security definer set search_path = deskhand, public, pg_temp as $$
  select w from unnest(words) w
  where exists (
    select from chunk c join document d on d.id = c.document_id
    where c.terms @> array[w] and c.kind = 'document' and d.parent = '')
$$;
revoke all on function lexical, documented from public;
grant execute on function lexical, documented to deskhand_reader, deskhand_writer;
"""

POLICIES = """
alter table document enable row level security;
alter table ticket enable row level security;
alter table chunk enable row level security;
alter table digest enable row level security;
alter table customer enable row level security;
alter table pending enable row level security;
alter table conversation enable row level security;
alter table message enable row level security;
alter table citation enable row level security;
alter table feedback enable row level security;

create policy readable on document for select to deskhand_reader using (visible(acl, null, audience));
create policy readable on ticket for select to deskhand_reader using (visible(acl, null, audience));
create policy readable on chunk for select to deskhand_reader using (visible(acl, narrow, audience));
create policy readable on digest for select to deskhand_reader using (visible(acl, narrow, audience));
-- acl only grows, so that most rows are settled without looking; a visible ticket decides.
create policy readable on customer for select to deskhand_reader using (
  visible(acl, null, 'public') and exists (select from document d where d.customer_id = customer.id));

create policy own on conversation to deskhand_reader
  using (principal_id = nullif(current_setting('deskhand.principal', true), ''));
create policy own on message to deskhand_reader
  using (exists (select from conversation c where c.id = conversation_id));
create policy own on citation to deskhand_reader
  using (exists (select from message m where m.id = message_id));
create policy own on feedback to deskhand_reader
  using (principal_id = nullif(current_setting('deskhand.principal', true), ''))
  with check (principal_id = nullif(current_setting('deskhand.principal', true), '')
              and exists (select from message m where m.id = message_id));

create policy everything on document to deskhand_writer using (true);
create policy everything on ticket to deskhand_writer using (true);
create policy everything on chunk to deskhand_writer using (true);
create policy everything on digest to deskhand_writer using (true);
create policy everything on customer to deskhand_writer using (true);
create policy everything on pending to deskhand_writer using (true);

grant select on document, ticket, chunk, digest, customer, embedding_space, term_stat, corpus_stat, principal,
  identity, membership to deskhand_reader;
grant select (id, name, connector, realm) on source to deskhand_reader;
grant select, insert, update, delete on conversation, message, citation to deskhand_reader;
grant select, insert on feedback to deskhand_reader;
grant insert on audit_log to deskhand_reader;
grant usage on all sequences in schema deskhand to deskhand_reader, deskhand_writer;

grant select, insert, update, delete on source, schedule, sync_run, held_prune, principal, identity, membership,
  customer, document, ticket, chunk, digest, term_stat, pending, failure, embedding_space to deskhand_writer;
grant truncate on term_stat to deskhand_writer;
grant select, update on corpus_stat to deskhand_writer;
grant select, insert on audit_log, evaluation, tombstone to deskhand_writer;
"""


def upgrade() -> None:
    for part in (VISIBLE, SOURCES, PEOPLE, DOCUMENTS, QUEUE, TALK, LEXICAL, POLICIES):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
      drop function lexical, documented;
      drop table evaluation, audit_log, tombstone, held_prune, schedule, feedback, citation, message, conversation,
        failure, pending, corpus_stat, term_stat, chunk, digest, ticket, document, customer, membership, identity,
        principal, sync_run, source, embedding_space;
      drop function visible;
    """)
