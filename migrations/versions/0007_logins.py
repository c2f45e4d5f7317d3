"""People who sign in: logins, sessions, tokens; and conversations that are listed, edited and shared.

Revision: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Of what opens a door only hashes are kept. What a person may read, their sources say: a login
# names the person, and the role says what they may do in Deskhand.
LOGINS = """
create table login (
  principal_id text primary key references principal on delete cascade,
  role text not null default 'agent' check (role in ('agent', 'owner', 'admin')),
  password text,
  disabled boolean not null default false,
  created_at timestamptz not null default now(),
  seen_at timestamptz
);
comment on column login.password is 'argon2id; null: signs in at an identity provider only';
create table login_link (
  issuer text not null,
  subject text not null,
  principal_id text not null references login on delete cascade,
  created_at timestamptz not null default now(),
  primary key (issuer, subject)
);
comment on table login_link is 'who a subject of an identity provider is; an address may change hands';
create index login_link_principal on login_link (principal_id);
create table login_attempt (
  address bytea primary key,
  failures int not null default 1,
  last_at timestamptz not null default now()
);
comment on table login_attempt is 'by hash of what was typed as address, known or not: a lock-out tells nobody which';
create table session (
  hash bytea primary key,
  principal_id text not null references login on delete cascade,
  created_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index session_principal on session (principal_id);
create table api_token (
  id uuid primary key default gen_random_uuid(),
  hash bytea not null unique,
  principal_id text not null references login on delete cascade,
  name text not null,
  scopes text[] not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at timestamptz
);
create index api_token_principal on api_token (principal_id, created_at);
grant select, insert, update, delete on login, login_link, login_attempt, session, api_token to deskhand_writer;
"""

# A conversation that is shown in a list, a question that is asked differently (what it replaces stays as
# a record of what was answered), and one that colleagues may read.
CONVERSATIONS = """
alter table conversation add updated_at timestamptz not null default now(), add ticket_id bigint;
comment on column conversation.ticket_id is 'document of the ticket it is about; no reference, as of a draft';
update conversation set updated_at = created_at;
drop index conversation_principal;
create index conversation_principal on conversation (principal_id, updated_at desc, id desc);
alter table conversation drop constraint conversation_customer_id_fkey;
alter table conversation add constraint conversation_customer_id_fkey
  foreign key (customer_id) references customer on delete set null;
alter table message
  add replaced boolean not null default false,
  add stopped boolean not null default false;
comment on column message.replaced is 'it was asked again differently: no longer part of the conversation';
comment on column message.stopped is 'whoever asked had read enough: the text is what there was by then';

create table share (
  conversation_id uuid primary key references conversation on delete cascade,
  hash bytea not null unique,
  created_at timestamptz not null default now()
);
alter table share enable row level security;
create policy own on share to deskhand_reader using (exists (
  select from conversation c where c.id = conversation_id
    and c.principal_id = nullif(current_setting('deskhand.principal', true), '')));
create policy opened on share for select to deskhand_reader using (
  encode(hash, 'hex') = nullif(current_setting('deskhand.share', true), ''));
grant select, insert, delete on share to deskhand_reader;
"""

# Whoever has the link reads the conversation if they may read all that its answers rest on: what is
# cited, and of a declined question what was found, since its text names the nearest. What is gone
# can't be judged, so nobody reads it by a link; of a document whose passage is not known (it was
# indexed again, or a ticket was told line by line) all must be readable. It runs as the owner:
# row-level security would hide the very rows whose absence it is about.
SHARED = """
create function told(document_id bigint, chunk_id bigint) returns boolean
language sql stable security definer set search_path = deskhand, public, pg_temp as $$
  select coalesce((
    select visible(d.acl, null, d.audience) and coalesce(
      (select visible(c.acl, c.narrow, c.audience) from chunk c where c.id = told.chunk_id),
      not exists (select from chunk c where c.document_id = d.id and not visible(c.acl, c.narrow, c.audience))
      and not exists (select from digest g where g.document_id = d.id and not visible(g.acl, g.narrow, g.audience)))
    from document d where d.id = told.document_id), false)
$$;
create function shared(wanted uuid) returns boolean
language sql stable security definer set search_path = deskhand, public, pg_temp as $$
  select exists (
      select from share s where s.conversation_id = wanted
        and encode(s.hash, 'hex') = nullif(current_setting('deskhand.share', true), ''))
    and not exists (
      select from message m join citation x on x.message_id = m.id
      where m.conversation_id = wanted and not m.replaced and not told(x.document_id, x.chunk_id))
    and not exists (
      select from message m cross join lateral unnest(m.documents, m.chunks) f (document, chunk)
      where m.conversation_id = wanted and not m.replaced and m.refusal <> '' and not told(f.document, f.chunk))
$$;
-- Conversations of the reader's own in which something was said. A policy is asked for each row before
-- such a condition may be, which takes seconds with the messages of years.
create function said(pattern text) returns setof uuid
language sql stable security definer set search_path = deskhand, public, pg_temp as $$
  select distinct m.conversation_id from conversation c join message m on m.conversation_id = c.id
  where c.principal_id = nullif(current_setting('deskhand.principal', true), '')
    and not m.replaced and m.content ilike pattern
$$;
grant execute on function shared, said to deskhand_reader;

create policy shared on conversation for select to deskhand_reader using (shared(id));
drop policy own on message;
create policy own on message to deskhand_reader using (exists (
  select from conversation c where c.id = conversation_id
    and c.principal_id = nullif(current_setting('deskhand.principal', true), '')));
create policy shared on message for select to deskhand_reader using (shared(conversation_id));
drop policy own on citation;
create policy own on citation to deskhand_reader using (exists (
  select from message m join conversation c on c.id = m.conversation_id where m.id = message_id
    and c.principal_id = nullif(current_setting('deskhand.principal', true), '')));
create policy shared on citation for select to deskhand_reader using (exists (
  select from message m where m.id = message_id and shared(m.conversation_id)));
"""


def upgrade() -> None:
    for part in (LOGINS, CONVERSATIONS, SHARED):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
      drop policy shared on citation;
      drop policy own on citation;
      create policy own on citation to deskhand_reader using (exists (select from message m where m.id = message_id));
      drop policy shared on message;
      drop policy own on message;
      create policy own on message to deskhand_reader
        using (exists (select from conversation c where c.id = conversation_id));
      drop policy shared on conversation;
      drop function shared, told, said;
      drop table share;
      alter table message drop column replaced, drop column stopped;
      alter table conversation drop constraint conversation_customer_id_fkey;
      alter table conversation add constraint conversation_customer_id_fkey
        foreign key (customer_id) references customer;
      drop index conversation_principal;
      alter table conversation drop column updated_at, drop column ticket_id;
      create index conversation_principal on conversation (principal_id, created_at desc);
      drop table api_token, session, login_attempt, login_link, login;
    """)
