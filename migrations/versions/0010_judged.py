"""Answers that somebody judged, as training data: a door to them, and what was trained on whose.

Revision: 0010
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# What was made of somebody's question goes with their conversation, whoever deletes it. What a model was
# trained on stays known: ids alone, as of documents.
EXAMPLES = """
alter table example
  add message_id bigint references message on delete cascade,
  drop constraint example_kind_check,
  add constraint example_kind_check
    check (kind in ('answer', 'decline', 'turns', 'draft', 'replay', 'good', 'bad'));
comment on column example.message_id is 'the answer that was judged, of one that is `good` or `bad`';
create index example_message on example (message_id) where message_id is not null;
create table version_message (
  version_id bigint not null references version on delete cascade,
  message_id bigint not null,
  primary key (version_id, message_id)
);
comment on table version_message is 'judged answers it was trained on; no reference, since it outlives the message';
create index version_message_message on version_message (message_id);
grant select, insert, update, delete on version_message to deskhand_writer;
"""

# Conversations stay closed to the writer, and so does who asked: the asker's name, and those of the customer it is
# about and of anybody whose whole name is said, are taken out before a text passes. Functions rather than a view:
# what a view calls, its reader may call, with any text and any conversation.
JUDGED = r"""
create function without_names(said text, talk uuid) returns text
language sql stable security definer set search_path = deskhand, public, pg_temp as $$
  with about as (
    select coalesce(k.same_as, k.id) as id from customer k
    where k.id = (select customer_id from conversation where id = talk)
      or length(k.name) > 3 and position(lower(k.name) in lower(said)) > 0
  ), alias as (
    select k.* from customer k where coalesce(k.same_as, k.id) in (select id from about)
  ), name as (
    select p.name from conversation c join principal p on p.id = c.principal_id where c.id = talk
    union select unnest(array[name, external_id] || domains) from alias
    union select t.requester from ticket t join document d on d.id = t.document_id
    where d.customer_id in (select id from alias)
      or position(' ' in t.requester) > 0 and position(lower(t.requester) in lower(said)) > 0
  ), word as (
    select trim(name) as word from name
    union select part from name, regexp_split_to_table(name, '[\s,]+') part
  )
  select coalesce(regexp_replace(said, (
    select '\m(' || string_agg(regexp_replace(word, '([^\w\s])', '\\\1', 'g'), '|' order by length(word) desc) || ')\M'
    from word where length(word) > 2 and word !~ '^\d+$' and lower(word) not in ('the', 'and', 'for')
  ), '(name)', 'gi'), said)
$$;
create function judged_answers() returns table (
  id bigint, question text, answer text, chunks bigint[], ticket_id bigint, citations jsonb, verdicts text[],
  created_at timestamptz)
language sql stable security definer set search_path = deskhand, public, pg_temp as $$
  select m.id, without_names(m.searched, m.conversation_id), without_names(m.content, m.conversation_id), m.chunks,
    coalesce(m.ticket_id, c.ticket_id), (
      select jsonb_agg(distinct jsonb_build_object('marker', x.marker, 'chunk', x.chunk_id, 'evidence', x.evidence))
      from citation x where x.message_id = m.id),
    array(select distinct f.verdict from feedback f where f.message_id = m.id), m.created_at
  from message m join conversation c on c.id = m.conversation_id
  where m.role = 'assistant' and m.refusal = '' and not m.stopped
    and exists (select from feedback f where f.message_id = m.id)
  order by m.created_at, m.id
$$;
comment on function judged_answers is 'without who asked, and without their names';
revoke all on function without_names, judged_answers from public;
grant execute on function judged_answers to deskhand_writer;
"""


def upgrade() -> None:
    op.execute(EXAMPLES)
    op.execute(JUDGED)


def downgrade() -> None:
    op.execute("""
      drop function judged_answers, without_names;
      drop table version_message;
      delete from example where kind in ('good', 'bad');
      alter table example
        drop column message_id,
        drop constraint example_kind_check,
        add constraint example_kind_check check (kind in ('answer', 'decline', 'turns', 'draft', 'replay'));
    """)
