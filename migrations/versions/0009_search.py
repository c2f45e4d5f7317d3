"""Finding a conversation among thousands: by an index over what was said, and by policies that settle one's own first.

Revision: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Policies are joined with "or", in an order that PostgreSQL chooses: it asked `shared` of each of one's own
# rows, a third of a millisecond each. Where no link is open nothing is shared, which costs nothing to see.
OPEN = "nullif(current_setting('deskhand.share', true), '') is not null and "
SHARED = (
    ("conversation", "shared(id)"),
    ("message", "shared(conversation_id)"),
    ("citation", "exists (select from message m where m.id = message_id and shared(m.conversation_id))"),
)

# Rare words are found by their trigrams, frequent ones by going through one's own from the last on until
# there are enough: which, the planner tells from the words, so it has to see them (no generic plan).
# It runs as the owner, since a policy forbids the index to whoever it holds for.
FOUND = """
create index message_content on message using gin (content gin_trgm_ops) where not replaced;
drop function said(text);
create function said(pattern text, before timestamptz, last uuid, k int) returns setof uuid
language plpgsql stable security definer set search_path = deskhand, public, pg_temp
set plan_cache_mode = force_custom_plan as $$
declare
  person text := nullif(current_setting('deskhand.principal', true), '');
begin
  return query
  select f.id from (
    (select c.id, c.updated_at from conversation c
     where c.principal_id = person and c.surface <> 'draft' and c.title ilike pattern
       and (before is null or (c.updated_at, c.id) < (before, last))
     order by c.updated_at desc, c.id desc limit k)
    union
    (select c.id, c.updated_at from conversation c
     where c.principal_id = person and c.surface <> 'draft'
       and (before is null or (c.updated_at, c.id) < (before, last))
       and exists (
         select from message m where m.conversation_id = c.id and not m.replaced and m.content ilike pattern)
     order by c.updated_at desc, c.id desc limit k)) f
  order by f.updated_at desc, f.id desc limit k;
end $$;
comment on function said is 'own conversations with the pattern in title or text, the last k before a place';
grant execute on function said to deskhand_reader;
"""

BEFORE = """
drop function said(text, timestamptz, uuid, int);
drop index message_content;
create function said(pattern text) returns setof uuid
language sql stable security definer set search_path = deskhand, public, pg_temp as $$
  select distinct m.conversation_id from conversation c join message m on m.conversation_id = c.id
  where c.principal_id = nullif(current_setting('deskhand.principal', true), '')
    and not m.replaced and m.content ilike pattern
$$;
grant execute on function said to deskhand_reader;
"""


def upgrade() -> None:
    for table, condition in SHARED:
        op.execute(f"alter policy shared on {table} using ({OPEN}{condition})")
    op.execute(FOUND)


def downgrade() -> None:
    op.execute(BEFORE)
    for table, condition in SHARED:
        op.execute(f"alter policy shared on {table} using ({condition})")
