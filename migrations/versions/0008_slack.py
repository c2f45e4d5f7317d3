"""Slack: workspaces with their sealed tokens, settings of channels, what was delivered, which thread is which talk.

Revision: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Ids of Slack's and of ours, never a text: what was asked and answered is a conversation like any
# other, under its own policies, and a row here goes with it.
PLACES = """
create table slack_workspace (
  team text primary key,
  enterprise text not null default '',
  name text not null default '',
  token bytea not null,
  bot text not null,
  bot_user text not null,
  allowed boolean not null default false,
  installed_at timestamptz not null default now()
);
comment on column slack_workspace.token is 'the bot''s, encrypted with the installation''s key';
comment on column slack_workspace.allowed is
  'an admin said that its members are who their addresses say: anybody can install an app in a workspace of theirs';
create table slack_channel (
  team text not null,
  channel text not null,
  auto boolean not null default false,
  floor real not null default 0.8 check (floor between 0 and 1),
  audience text not null default 'public' check (audience in ('public', 'members')),
  customer_id int references customer on delete set null,
  quiet_from time,
  quiet_to time,
  zone text not null default 'UTC',
  alerts text[] not null default '{}',
  told jsonb not null default '{}',
  primary key (team, channel),
  check ((quiet_from is null) = (quiet_to is null))
);
comment on column slack_channel.auto is
  'questions are answered without a mention, if the answer is at least as sure as floor';
comment on column slack_channel.audience is
  'public: what everybody may read; members: what each of its members may read';
comment on column slack_channel.customer_id is
  'whom private answers there are about, unless the question says otherwise';
comment on column slack_channel.told is 'by alert, up to where it was told';
"""

TALKS = """
create table slack_delivery (
  team text not null,
  key text not null,
  at timestamptz not null default now(),
  primary key (team, key)
);
comment on table slack_delivery is 'what Slack delivered and was taken up: a second delivery finds its row';
create index slack_delivery_at on slack_delivery (at);
create table slack_thread (
  team text not null,
  channel text not null,
  thread text not null,
  principal_id text not null,
  conversation_id uuid not null references conversation on delete cascade,
  primary key (team, channel, thread, principal_id)
);
comment on column slack_thread.principal_id is
  'whose conversation it is: the channel''s own, or a person''s who asked privately';
create index slack_thread_conversation on slack_thread (conversation_id);
create table slack_question (
  team text not null,
  channel text not null,
  ts text not null,
  thread text not null,
  user_id text not null,
  conversation_id uuid references conversation on delete cascade,
  question_id bigint,
  replies text[] not null default '{}',
  state text not null default 'answering' check (state in ('answering', 'answered', 'failed', 'gone')),
  revision int not null default 0,
  seen_at timestamptz not null default now(),
  primary key (team, channel, ts)
);
comment on table slack_question is 'a message that is a question: whoever inserts the row answers it';
comment on column slack_question.replies is 'the messages that answer it, to be edited or deleted with it';
comment on column slack_question.revision is 'how often it was edited: an answer to an earlier one is not posted';
comment on column slack_question.seen_at is 'when whoever answers it last said so';
create index slack_question_seen on slack_question (seen_at);
create index slack_question_thread on slack_question (team, channel, thread);
create index slack_question_conversation on slack_question (conversation_id) where conversation_id is not null;
grant select, insert, update, delete on slack_workspace, slack_channel, slack_delivery, slack_thread, slack_question
  to deskhand_writer;
"""


def upgrade() -> None:
    op.execute(PLACES)
    op.execute(TALKS)


def downgrade() -> None:
    op.execute("drop table slack_question, slack_thread, slack_delivery, slack_channel, slack_workspace")
