"""Feedback that is used: what an answer rested on, what became of it, and what the knowledge owner sees.

Revision: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Passages are ids in the order of their rank and no table of their own: they are only read all
# together. Neither they nor the ticket are references: what was deleted since is simply not found,
# and a draft stays one.
ANSWERS = """
alter table message
  add ticket_id bigint,
  add chunks bigint[] not null default '{}',
  add documents bigint[] not null default '{}',
  add vector halfvec,
  add space_id smallint references embedding_space;
comment on column message.ticket_id is 'of a draft: id of the document of the ticket that it replies to';
comment on column message.chunks is 'of the passages that were retrieved, the best first';
comment on column message.documents is 'of the same passages, in the same order';
comment on column message.vector is 'of the searched question, in that space';
create index message_ticket on message (ticket_id) where ticket_id is not null;
create index message_asked on message (created_at) where role = 'assistant';

alter table citation add evidence text check (evidence in ('document', 'ticket', 'history'));
update citation c set evidence = coalesce(
  (select case when d.kind = 'ticket' or d.parent <> '' then 'ticket' end from document d where d.id = c.document_id),
  'document');
alter table citation alter evidence set not null;
comment on column citation.evidence is 'what its passage was for the question';
"""

# One verdict of a kind: up takes back down, and what becomes of a ticket is nobody's verdict.
FEEDBACK = """
alter table feedback
  drop constraint feedback_verdict_check,
  alter principal_id drop not null,
  add kind text not null generated always as (case
    when verdict in ('up', 'down') then 'thumb'
    when verdict in ('source_wrong', 'source_outdated') then 'source'
    else verdict end) stored;
alter table feedback
  add constraint feedback_verdict_check
    check (verdict in ('up', 'down', 'source_wrong', 'source_outdated', 'accepted', 'solved', 'reopened')),
  add constraint feedback_marker_check check ((kind = 'source') = (marker is not null)),
  add constraint feedback_person_check check ((verdict in ('solved', 'reopened')) = (principal_id is null));
comment on column feedback.principal_id is 'null for what became of the ticket: nobody said it';
drop index feedback_message;
create unique index feedback_once on feedback (message_id, principal_id, kind, marker) nulls not distinct;
grant update (verdict, comment, created_at) on feedback to deskhand_reader;
"""

# The knowledge owner's door: questions that were declined or judged, without who asked them.
# Conversations stay closed to the writer; a view reads with the rights of its owner, and as
# a barrier: no condition of whoever asks is put to rows that the view leaves out.
KNOWLEDGE = """
create view given_answer as
  select id, created_at, model, refusal <> '' as declined, ticket_id from message where role = 'assistant';
create view given_citation as
  select distinct message_id, marker, document_id, evidence from citation;
create view given_feedback as
  select id, message_id, verdict, marker, comment, created_at from feedback;
create view told_question with (security_barrier) as
  select m.id, m.searched as question, m.model, m.refusal <> '' as declined, m.documents, m.vector, m.space_id,
    m.created_at
  from message m
  where m.role = 'assistant' and (m.refusal <> '' or exists (select from feedback f where f.message_id = m.id));
-- How many people asked these: a number is all that is told of them.
create function askers(messages bigint[]) returns int
language sql stable security definer set search_path = deskhand, public, pg_temp as $$
  select count(distinct c.principal_id)::int
  from message m join conversation c on c.id = m.conversation_id where m.id = any (messages)
$$;
-- What became of the tickets that drafts were written for, once for each draft.
create function record_outcomes(closed text[], solved text[]) returns int
language sql security definer set search_path = deskhand, public, pg_temp as $$
  with draft as (
    select m.id, m.created_at, t.solved_at, t.events
    from message m join ticket t on t.document_id = m.ticket_id
    where m.ticket_id is not null and m.refusal = ''
      and not exists (select from feedback f where f.message_id = m.id and f.verdict = 'reopened')
  ), change as (
    select d.id, (e->>'at')::timestamptz as at,
      lower(e->>'old') <> all (closed) and lower(e->>'new') = any (solved) as solves,
      lower(e->>'old') = any (closed) and lower(e->>'new') <> all (closed) as reopens
    from draft d, jsonb_array_elements(d.events) e
    where (e->>'at')::timestamptz > d.created_at
  ), solving as (
    select id, min(at) as at from (
      select id, at from change where solves
      union all
      select id, solved_at from draft where events = '[]' and solved_at > created_at
    ) s group by id
  ), made as (
    insert into feedback (message_id, principal_id, verdict, created_at)
    select id, null, 'solved', at from solving
    union all
    select f.id, null, 'reopened', min(c.at) from solving f join change c on c.id = f.id and c.reopens and c.at > f.at
    group by f.id
    on conflict (message_id, principal_id, kind, marker) do nothing
    returning 1
  )
  select count(*)::int from made
$$;
revoke all on function askers, record_outcomes from public;
grant execute on function askers, record_outcomes to deskhand_writer;
grant select on given_answer, given_citation, given_feedback, told_question to deskhand_writer;
"""


def upgrade() -> None:
    for part in (ANSWERS, FEEDBACK, KNOWLEDGE):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
      drop function askers, record_outcomes;
      drop view told_question, given_feedback, given_citation, given_answer;
      revoke update (verdict, comment, created_at) on feedback from deskhand_reader;
      delete from feedback where principal_id is null;
      drop index feedback_once;
      alter table feedback
        drop constraint feedback_verdict_check, drop constraint feedback_marker_check,
        drop constraint feedback_person_check,
        drop column kind, alter principal_id set not null,
        add constraint feedback_verdict_check
          check (verdict in ('up', 'down', 'source_wrong', 'source_outdated', 'accepted'));
      create index feedback_message on feedback (message_id);
      alter table citation drop column evidence;
      alter table message
        drop column ticket_id, drop column chunks, drop column documents, drop column vector, drop column space_id;
      drop index message_asked;
    """)
