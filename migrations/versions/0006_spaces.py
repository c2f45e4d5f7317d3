"""Room for a second vector beside each one, so that another embedder can take over without a gap.

Revision: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# A vector stands beside the id of the space it is of, in each row: the condition of a search says
# which space it searches, so no two spaces are ever compared, whatever else goes on.
SLOTS = """
alter table embedding_space
  add slot smallint unique check (slot in (1, 2)),
  add wanted_by text;
update embedding_space set slot = 1 where live;
alter table embedding_space
  add constraint embedding_space_placed check (slot is not null or not live and wanted_by is null);
create unique index embedding_space_wanted on embedding_space ((wanted_by is not null)) where wanted_by is not null;
comment on column embedding_space.slot is 'which of the two columns of vectors is its; null: none any more';
comment on column embedding_space.wanted_by is 'who wants it to become the live one, once nothing lacks its vector';

alter table chunk drop constraint chunk_document_id_space_id_ordinal_key;
drop index chunk_hash;
alter table chunk rename embedding to embedding_1;
alter table chunk rename space_id to space_1;
alter table chunk
  alter embedding_1 drop not null,
  alter space_1 drop not null,
  add embedding_2 halfvec,
  add space_2 smallint references embedding_space,
  add constraint chunk_order unique (document_id, ordinal) deferrable initially deferred;
alter table chunk alter embedding_2 set storage plain;
create index chunk_hash on chunk (hash);
comment on column chunk.space_1 is 'the space that embedding_1 is of';
comment on column chunk.space_2 is 'the space that embedding_2 is of';
comment on column chunk.hash is 'of what was embedded: equal hash, equal vectors';

alter table document rename title_embedding to title_embedding_1;
alter table document
  add title_space_1 smallint references embedding_space,
  add title_embedding_2 halfvec,
  add title_space_2 smallint references embedding_space;
update document set title_space_1 = (select id from embedding_space where live) where title_embedding_1 is not null;
"""

# A replaced function keeps its owner, its grants and its settings.
LEXICAL = """
do $$ begin
  execute replace(pg_get_functiondef('lexical'::regproc), '{old}', '{new}');
end $$
"""
ONE, TWO = "c.space_id = space", "space in (c.space_1, c.space_2)"


def upgrade() -> None:
    op.execute(SLOTS)
    op.execute(LEXICAL.format(old=ONE, new=TWO))


def downgrade() -> None:
    op.execute("""
      update chunk set embedding_1 = embedding_2, space_1 = space_2 from embedding_space s where s.live and s.slot = 2;
      update document set title_embedding_1 = title_embedding_2 from embedding_space s where s.live and s.slot = 2;
      drop index chunk_hash;
      alter table chunk drop constraint chunk_order;
      alter table chunk drop column embedding_2, drop column space_2;
      alter table chunk rename embedding_1 to embedding;
      alter table chunk rename space_1 to space_id;
      alter table chunk alter embedding set not null, alter space_id set not null;
      alter table chunk add constraint chunk_document_id_space_id_ordinal_key
        unique (document_id, space_id, ordinal) deferrable initially deferred;
      create index chunk_hash on chunk (hash, space_id);
      alter table document drop column title_space_1, drop column title_embedding_2, drop column title_space_2;
      alter table document rename title_embedding_1 to title_embedding;
      drop index embedding_space_wanted;
      alter table embedding_space drop constraint embedding_space_placed;
      alter table embedding_space drop column slot, drop column wanted_by;
    """)
    op.execute(LEXICAL.format(old=TWO, new=ONE))
