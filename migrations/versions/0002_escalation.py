"""Questions that are handed over to a person, and the right to work on them.

Revision: 0002, after 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

RIGHTS = """
create table principal_right (
  principal_id text not null references principal on delete cascade,
  name text not null check (name ~ '^[a-z_]+$'),
  granted_at timestamptz not null default now(),
  primary key (principal_id, name)
);
comment on table principal_right is 'what a person may do in Deskhand; what they may read, their sources say';

create function has_right(wanted text) returns boolean
language sql stable as $$
  select exists (select from principal_right r
    where r.principal_id = nullif(current_setting('deskhand.principal', true), '') and r.name = wanted)
$$;
"""

# The packet names documents and holds none of their text: whoever opens it reads what they may
# read themselves. So the policy need only ask who works on escalations, not who may read what.
ESCALATIONS = """
create table escalation (
  id uuid primary key default gen_random_uuid(),
  principal_id text not null default current_setting('deskhand.principal') references principal on delete cascade,
  message_id bigint references message on delete set null,
  customer_id int references customer on delete set null,
  ticket_id bigint references document on delete set null,
  question text not null,
  packet jsonb not null,
  state text not null default 'open' check (state in ('open', 'taken', 'delivered', 'closed')),
  note text not null default '',
  created_at timestamptz not null default now(),
  changed_by text not null default current_setting('deskhand.principal'),
  changed_at timestamptz not null default now()
);
comment on table escalation is 'a question that was handed over to a person';
comment on column escalation.packet is 'ids of the nearest documents, of the customer''s tickets and of tickets alike';
create index escalation_principal on escalation (principal_id);
create index escalation_waiting on escalation (created_at) where state <> 'closed';
create index escalation_message on escalation (message_id) where message_id is not null;
create index escalation_customer on escalation (customer_id) where customer_id is not null;
create index escalation_ticket on escalation (ticket_id) where ticket_id is not null;

alter table escalation enable row level security;
create policy seen on escalation for select to deskhand_reader using (
  principal_id = nullif(current_setting('deskhand.principal', true), '') or has_right('escalate'));
-- A reference to what the asker may not see would tell them that it exists.
create policy added on escalation for insert to deskhand_reader with check (
  principal_id = nullif(current_setting('deskhand.principal', true), '') and changed_by = principal_id
  and state = 'open'
  and (message_id is null or exists (select from message m where m.id = message_id))
  and (customer_id is null or exists (select from customer c where c.id = customer_id))
  and (ticket_id is null or exists (select from document d where d.id = ticket_id)));
create policy moved on escalation for update to deskhand_reader using (
  principal_id = nullif(current_setting('deskhand.principal', true), '') or has_right('escalate'))
with check (changed_by = nullif(current_setting('deskhand.principal', true), '')
  and (state <> 'delivered' or has_right('escalate')));

grant select on principal_right to deskhand_reader;
grant select, insert, delete on principal_right to deskhand_writer;
grant select, insert on escalation to deskhand_reader;
grant update (state, note, changed_by, changed_at) on escalation to deskhand_reader;
"""


def upgrade() -> None:
    for part in (RIGHTS, ESCALATIONS):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
      drop table escalation;
      drop function has_right;
      drop table principal_right;
    """)
