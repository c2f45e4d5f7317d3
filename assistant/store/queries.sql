-- Every statement of the store. One name, one place, one test.

-- ── sources and runs ──────────────────────────────────────────────────────

-- name: source_add
insert into source (name, connector, realm, settings, secrets)
values (%(name)s, %(connector)s, %(realm)s, %(settings)s, %(secrets)s)
on conflict (name) do nothing
returning id

-- name: source_by_name
select * from source where name = %(name)s

-- name: source_by_id
select * from source where id = %(id)s

-- name: source_all
select * from source order by name

-- name: source_remove
delete from source where id = %(id)s

-- name: schedule_set
insert into schedule (source_id, job, every, cron, zone, jitter, next_at)
values (%(source)s, %(job)s, make_interval(secs => %(every)s), %(cron)s, %(zone)s, make_interval(secs => %(jitter)s),
        %(next_at)s)
on conflict (source_id, job) do update set
  every = excluded.every, cron = excluded.cron, zone = excluded.zone, jitter = excluded.jitter,
  next_at = excluded.next_at, paused = false, failures = 0

-- name: schedule_drop
delete from schedule where source_id = %(source)s and job = %(job)s

-- name: schedule_pause
update schedule set paused = %(paused)s where source_id = %(source)s and job = %(job)s

-- name: schedule_all
select s.name as source, c.job, extract(epoch from c.every)::float8 as every, c.cron, c.zone,
  extract(epoch from c.jitter)::float8 as jitter, c.paused, c.next_at, c.failures
from schedule c join source s on s.id = c.source_id
where %(source)s::text is null or s.name = %(source)s
order by s.name, c.job

-- name: schedule_due
select c.source_id, c.job, extract(epoch from c.every)::float8 as every, c.cron, c.zone,
  extract(epoch from c.jitter)::float8 as jitter, c.failures
from schedule c join source s on s.id = c.source_id
where s.paused = '' and not c.paused and c.next_at <= clock_timestamp()
for update of c skip locked

-- name: schedule_next
update schedule set next_at = %(next_at)s where source_id = %(source)s and job = %(job)s

-- name: schedule_outcome
-- After a failure the next run is later each time, up to an hour, and never sooner than the source asked.
update schedule set
  failures = case when %(failed)s then failures + 1 else 0 end,
  next_at = case when %(failed)s then greatest(next_at, now() + make_interval(secs =>
    greatest(%(wait)s, least(3600, 30 * 2 ^ least(failures, 7)) * (0.75 + 0.5 * random())))) else next_at end
where source_id = %(source)s and job = %(job)s

-- name: source_settings
update source set settings = settings || %(settings)s::jsonb where id = %(id)s

-- name: source_reread
update source set checkpoint = null where id = %(id)s

-- name: run_request
insert into sync_run (source_id, job, prune_all) values (%(source)s, %(job)s, %(prune_all)s)
on conflict (source_id, job) where state in ('queued', 'running') do update
  set prune_all = sync_run.prune_all or excluded.prune_all, ready_at = now()
returning id

-- name: run_waiting
-- Runs nobody carries, the one that waited longest first: a long import takes its turn like the others.
select r.id, r.job from sync_run r
where r.state in ('queued', 'running') and r.job = any (%(jobs)s) and r.ready_at <= now()
  and not exists (
    select from pg_locks l
    where l.locktype = 'advisory' and l.classid = %(lock)s and l.objid = (r.id %% 2147483648)::oid
      and l.objsubid = 2 and l.database = (select oid from pg_database where datname = current_database())
  )
order by r.heartbeat_at nulls first, r.id
limit %(limit)s

-- name: run_start
update sync_run set state = 'running', started_at = coalesce(started_at, now()), heartbeat_at = now(),
  slices = slices + 1
where id = %(id)s and state in ('queued', 'running') and ready_at <= now()
returning *

-- name: run_wait
update sync_run set ready_at = now() + make_interval(secs => %(seconds)s), note = %(note)s, heartbeat_at = now()
where id = %(id)s and state in ('queued', 'running')

-- name: run_alive
update sync_run set heartbeat_at = now() where id = %(id)s

-- name: runs_active
select id from sync_run where source_id = %(source)s and state in ('queued', 'running')

-- name: run_progressed
with run as (
  update sync_run set heartbeat_at = now(), added = added + %(added)s, changed = changed + %(changed)s,
    unchanged = unchanged + %(unchanged)s, deleted = deleted + %(deleted)s, failed = failed + %(failed)s,
    total = coalesce(%(total)s, total)
  where id = %(id)s
)
update source set checkpoint = %(checkpoint)s where id = %(source)s

-- name: run_counted
update sync_run set heartbeat_at = now(), deleted = deleted + %(deleted)s, changed = changed + %(changed)s
where id = %(id)s

-- name: run_finish
update sync_run set state = case when %(error)s = '' then 'done' else 'failed' end, finished_at = now(),
  error = %(error)s, note = %(note)s
where id = %(id)s and state in ('queued', 'running')

-- name: run_progress
select r.*, s.name as source,
  (select count(*) from pending p where p.source_id = r.source_id and not p.parked) as pending
from sync_run r join source s on s.id = r.source_id
where r.id = %(id)s

-- name: overview
select s.id, s.name, s.connector, s.realm, s.paused,
  (select min(next_at) from schedule c where c.source_id = s.id and c.job = 'sync' and not c.paused) as next_sync_at,
  (select cardinality(missing) from held_prune h where h.source_id = s.id) as held,
  (select count(*) from document d where d.source_id = s.id and d.kind = 'document') as documents,
  (select count(*) from document d where d.source_id = s.id and d.kind = 'ticket') as tickets,
  (select count(*) from chunk c where c.source_id = s.id) as chunks,
  (select count(*) from pending p where p.source_id = s.id and not p.parked) as pending,
  (select count(*) from failure f where f.source_id = s.id) as failures,
  r.state as run_state, r.started_at, r.finished_at, r.total, r.added, r.changed, r.unchanged,
  r.deleted, r.failed, r.error, r.note
from source s
left join lateral (
  -- What goes on or went wrong is told before what went well.
  select * from sync_run where source_id = s.id
  and id in (select max(id) from sync_run where source_id = s.id group by job)
  order by array_position('{running,queued,failed,done}', state), job = 'sync' desc, id desc limit 1
) r on true
order by s.name

-- ── documents, as a sync sees them ────────────────────────────────────────

-- name: pending_lock
-- Ingest locks these rows first and documents second; so does everybody else.
select p.document_id from pending p join document d on d.id = p.document_id
where d.source_id = %(source)s and d.external_id = any (%(ids)s)
order by p.document_id
for update of p

-- name: document_known
select d.id, d.external_id, d.acl, d.audience, coalesce(p.revision, d.revision) as revision
from document d left join pending p on p.document_id = d.id
where d.source_id = %(source)s and d.external_id = any (%(ids)s)

-- name: document_upsert
-- What is indexed under the same revision keeps the title and the date that ingest found in the file.
insert into document (source_id, external_id, kind, audience, acl, title, url, media_type, language,
                      customer_id, created_at, updated_at, metadata, parent)
values (%(source)s, %(external)s, %(kind)s, %(audience)s, %(acl)s, %(title)s, %(url)s, %(media_type)s,
        %(language)s, %(customer)s, %(created_at)s, %(updated_at)s, %(metadata)s, %(parent)s)
on conflict (source_id, external_id) do update set
  kind = excluded.kind, audience = excluded.audience, acl = excluded.acl,
  title = case when document.revision = %(revision)s then document.title else excluded.title end,
  url = excluded.url, media_type = excluded.media_type, language = excluded.language,
  customer_id = excluded.customer_id,
  created_at = case when document.revision = %(revision)s then document.created_at else excluded.created_at end,
  updated_at = excluded.updated_at,
  metadata = case when document.revision = %(revision)s then document.metadata else excluded.metadata end,
  parent = excluded.parent, synced_at = now()
returning id

-- name: document_set_access
update document set acl = %(acl)s, synced_at = now()
where source_id = %(source)s and external_id = %(external)s and acl <> %(acl)s
returning id

-- name: accesses_changed
-- Of many documents at once those whose readers are not the stored ones any more.
update document d set acl = n.acl, synced_at = now()
from jsonb_to_recordset(%(accesses)s) as n (id text, acl text[])
where d.source_id = %(source)s and d.external_id = n.id and d.acl <> n.acl
returning d.id

-- name: access_spread
-- What a document allows holds for its texts at once, before its new text is indexed.
with c as (
  update chunk c set acl = d.acl, audience = case when d.audience = 'internal' then 'internal' else c.audience end
  from document d where d.id = c.document_id and d.id = any (%(ids)s)
), g as (
  update digest g set acl = d.acl, audience = case when d.audience = 'internal' then 'internal' else g.audience end
  from document d where d.id = g.document_id and d.id = any (%(ids)s)
)
update ticket t set acl = d.acl, audience = d.audience from document d where d.id = t.document_id and d.id = any (%(ids)s)

-- name: document_places
select exists (select from document where source_id = %(source)s and external_id = %(old)s) as old,
  exists (select from document where source_id = %(source)s and external_id = %(new)s) as new

-- name: document_make_room
delete from document where source_id = %(source)s and external_id = %(new)s and %(new)s <> %(old)s

-- name: document_rename
update document set external_id = %(new)s, url = %(url)s, synced_at = now(),
  title = case when metadata->'stated' ? 'title' then title else %(title)s end
where source_id = %(source)s and external_id = %(old)s

-- name: document_delete
with gone as (
  delete from document d
  where source_id = %(source)s and (external_id = any (%(ids)s) or parent = any (%(ids)s) and parent <> '')
  returning id, source_id, external_id, kind, synced_at
)
insert into tombstone (source_id, external_id, kind, synced_at, chunks)
select source_id, external_id, kind, synced_at, (select count(*) from chunk c where c.document_id = gone.id) from gone

-- name: document_stored
select exists (select from document where source_id = %(source)s) as any

-- name: deletions
select r.deleted, r.prune_all, (select count(*) from document d where d.source_id = r.source_id) as documents
from sync_run r where r.id = %(run)s

-- name: held_put
insert into held_prune (source_id, run_id, missing, documents)
values (%(source)s, %(run)s, %(missing)s, %(documents)s)
on conflict (source_id) do update set
  run_id = excluded.run_id, missing = excluded.missing, documents = excluded.documents, held_at = now()

-- name: held_get
select *, held_at < now() - make_interval(secs => %(apart)s) as old from held_prune where source_id = %(source)s for update

-- name: held_drop
delete from held_prune where source_id = %(source)s

-- name: held_all
select s.name as source, cardinality(h.missing) as missing, h.documents, h.held_at, h.missing[1:5] as examples
from held_prune h join source s on s.id = h.source_id order by s.name

-- name: document_before
select external_id from document where source_id = %(source)s and synced_at < %(before)s

-- name: customer_upsert
insert into customer as c (realm, external_id, name, domains, attributes, acl)
values (%(realm)s, %(external)s, %(name)s, %(domains)s, %(attributes)s, %(acl)s)
on conflict (realm, external_id) do update set
  name = excluded.name,
  domains = array(select distinct unnest(c.domains || excluded.domains) order by 1),
  attributes = c.attributes || excluded.attributes,
  acl = array(select distinct unnest(c.acl || excluded.acl) order by 1),
  resolved = c.resolved and c.domains @> excluded.domains
returning id

-- name: customer_unresolved
select id, external_id, domains, fixed, coalesce(same_as, id) as stands_for
from customer where not resolved order by id limit 1 for update skip locked

-- name: customer_alike
-- Another customer that shares a domain, or is named by the same address.
select coalesce(same_as, id) as stands_for from customer
where coalesce(same_as, id) <> %(stands_for)s and not fixed
  and (domains && %(domains)s or (position('@' in %(external)s) > 0 and external_id = %(external)s))
order by 1 limit 1

-- name: customer_follow
update customer set same_as = %(into)s
where (id = %(id)s or same_as = %(id)s) and id <> %(into)s and not fixed

-- name: customer_join
-- With all that stood for the same as it until now.
update customer set same_as = %(into)s, fixed = true
where (id = %(id)s or same_as = %(id)s) and id <> %(into)s
returning id, name, external_id

-- name: customer_split
update customer set same_as = null, fixed = true where id = %(id)s returning id

-- name: customer_successor
-- Its other names go on without it: the first of them stands for the rest.
update customer set same_as = nullif((select min(id) from customer where same_as = %(id)s), id) where same_as = %(id)s

-- name: customer_page
-- Whom one may pick: customers whose name, id or domain has the text in it, the one with the latest ticket first.
with found as (
  select coalesce(c.same_as, c.id) as id from customer c
  where %(pattern)s::text is null or c.name ilike %(pattern)s or c.external_id ilike %(pattern)s
    or array_to_string(c.domains, ' ') ilike %(pattern)s
), its as (
  select coalesce(c.same_as, c.id) as id, c.id = coalesce(c.same_as, c.id) as first, c.name, c.external_id, t.*
  from customer c cross join lateral (
    select count(*) as tickets, max(d.created_at) as latest,
      count(*) filter (where t.solved_at is null and lower(t.status) <> all (%(closed)s)) as open
    from document d join ticket t on t.document_id = d.id where d.customer_id = c.id) t
  where coalesce(c.same_as, c.id) in (select id from found)
)
select (array_agg(id order by id))[1] as id,
  coalesce(nullif(min(name) filter (where first), ''), nullif(min(name), ''), min(external_id)) as name,
  sum(tickets)::int as tickets, sum(open)::int as open, max(latest) as latest
from its group by its.id order by max(latest) desc nulls last, its.id limit %(limit)s

-- name: customer_group
select id, realm, external_id, name, domains, attributes, coalesce(same_as, id) as stands_for
from customer
where coalesce(same_as, id) in (select coalesce(same_as, id) from customer where id = any (%(ids)s))
order by same_as is not null, id

-- name: customer_all
with seen as (
  select coalesce(c.same_as, c.id) as id, c.id = coalesce(c.same_as, c.id) as first, c.name, c.realm || ' ' || c.external_id as account,
    t.tickets, t.latest
  from customer c cross join lateral (
    select count(*) as tickets, max(created_at) as latest from document d where d.customer_id = c.id and d.kind = 'ticket') t
)
select id, coalesce(min(name) filter (where first), min(name)) as name, array_agg(account order by not first, account) as accounts,
  sum(tickets)::int as tickets, max(latest) as latest
from seen group by id order by max(latest) desc nulls last, id limit %(limit)s

-- name: ticket_upsert
insert into ticket (document_id, acl, audience, status, requester, requester_email, assignee, priority, product,
                    version, tags, solved_at, satisfaction, events, custom_fields, links)
values (%(id)s, %(acl)s, %(audience)s, %(status)s, %(requester)s, %(requester_email)s, %(assignee)s,
        %(priority)s, %(product)s, %(version)s, %(tags)s, %(solved_at)s, %(satisfaction)s, %(events)s,
        %(custom_fields)s, %(links)s)
on conflict (document_id) do update set
  acl = excluded.acl, audience = excluded.audience, status = excluded.status, requester = excluded.requester,
  requester_email = excluded.requester_email, assignee = excluded.assignee, priority = excluded.priority,
  product = excluded.product, version = excluded.version, tags = excluded.tags, solved_at = excluded.solved_at,
  satisfaction = excluded.satisfaction, events = excluded.events, custom_fields = excluded.custom_fields,
  links = excluded.links

-- ── the queue ─────────────────────────────────────────────────────────────

-- name: pending_put
insert into pending (document_id, source_id, revision, form, body, size)
values (%(document)s, %(source)s, %(revision)s, %(form)s, %(body)s, %(size)s)
on conflict (document_id) do update set
  revision = excluded.revision, form = excluded.form, body = excluded.body, size = excluded.size,
  attempts = 0, ready_at = now(), parked = false, queued_at = now()

-- name: pending_load
select count(*) as documents, coalesce(sum(size), 0)::bigint as bytes
from pending where source_id = %(source)s and not parked

-- name: pending_ready
select count(*) as documents from pending where not parked and ready_at <= now()

-- name: pending_claim
-- A source at random, so that a long first import doesn't starve a small one. The
-- attempt is counted before the work: a document that kills the worker gives itself away.
with one as (
  select source_id from (select distinct source_id from pending where not parked and ready_at <= now()) s
  order by random() limit 1
), taken as (
  select p.document_id from pending p join one using (source_id)
  where not p.parked and p.ready_at <= now()
  order by p.attempts >= %(suspect)s, p.queued_at, p.document_id
  limit %(limit)s
  for update of p skip locked
)
update pending p set attempts = attempts + 1 from taken where p.document_id = taken.document_id
returning p.document_id, p.attempts

-- name: pending_take
-- The lock is the claim: it falls with the connection, whatever kills the worker.
select p.document_id, p.source_id, p.revision, p.form, p.body, p.attempts, d.external_id, d.kind, d.title,
  d.url, d.media_type, d.language, d.audience, d.acl, d.customer_id, s.realm, d.created_at, d.metadata
from pending p join document d on d.id = p.document_id join source s on s.id = p.source_id
where p.document_id = any (%(ids)s) and not p.parked
order by p.document_id
for update of p skip locked

-- name: pending_done
delete from pending where document_id = any (%(ids)s)

-- name: pending_later
update pending set ready_at = now() + make_interval(secs => %(seconds)s) where document_id = %(id)s

-- name: pending_park
update pending set parked = true where document_id = %(id)s

-- name: pending_retry
update pending p set parked = false, attempts = 0, ready_at = now()
from document d join failure f on f.source_id = d.source_id and f.external_id = d.external_id
where d.id = p.document_id and f.id = any (%(ids)s)

-- ── chunks ────────────────────────────────────────────────────────────────

-- name: chunk_of_documents
select id, document_id, ordinal, hash, audience, acl, narrow, created_at, role, is_solution, customer_id, language, page
from chunk where document_id = any (%(ids)s)

-- name: chunk_vectors
select distinct on (hash) hash, embedding_{slot} as embedding from chunk
where space_{slot} = %(space)s and hash = any (%(hashes)s)

-- name: chunk_keep
update chunk set ordinal = %(ordinal)s, audience = %(audience)s, acl = %(acl)s, narrow = %(narrow)s, created_at = %(created_at)s,
  role = %(role)s, is_solution = %(is_solution)s, customer_id = %(customer)s, language = %(language)s,
  page = %(page)s
where id = %(id)s

-- name: chunk_drop
delete from chunk where id = any (%(ids)s)

-- name: chunk_add
insert into chunk (document_id, source_id, ordinal, kind, audience, acl, narrow, customer_id, language, created_at,
            role, is_solution, headings, page, tokens, text, hash, terms, weights, space_1, embedding_1, space_2, embedding_2)
values (%b, %b, %b, %s, %s, %s, %s, %b, %s, %b, %s, %b, %s, %b, %b, %s, %b, %b, %b, %b, %b, %b, %b)

-- name: document_indexed
update document set revision = %(revision)s, title = %(title)s, created_at = %(created_at)s,
  metadata = metadata || %(stated)s::jsonb, title_space_1 = %(space_1)s, title_embedding_1 = %(title_1)s,
  title_space_2 = %(space_2)s, title_embedding_2 = %(title_2)s
where id = %(id)s

-- name: digest_drop
delete from digest where document_id = any (%(ids)s)

-- name: digest_add
insert into digest (document_id, ordinal, kind, audience, acl, narrow, role, at, text)
values (%(document)s, %(ordinal)s, %(kind)s, %(audience)s, %(acl)s, %(narrow)s, %(role)s, %(at)s, %(text)s)

-- name: ticket_codes
update ticket set codes = %(codes)s where document_id = %(id)s

-- name: failure_clear
delete from failure f using document d
where d.id = any (%(ids)s) and f.source_id = d.source_id and f.external_id = d.external_id

-- name: space_live
select id, name, revision, dimension, slot from embedding_space where live

-- name: statistics_stale
-- More than a twentieth of the chunks are new; ids tell, without counting rows.
select coalesce((select max(id) from chunk), 0) - newest > chunks / 20 as stale from corpus_stat

-- name: statistics_count
with old as (delete from term_stat), n as (select count(*) as chunks, coalesce(max(id), 0) as newest from chunk)
update corpus_stat set chunks = n.chunks, newest = n.newest, counted_at = now() from n

-- name: statistics_terms
insert into term_stat (term, chunks)
select term, count(*) from chunk, unnest(terms) as term group by term

-- ── failures ──────────────────────────────────────────────────────────────

-- name: failure_record
insert into failure as f (source_id, external_id, stage, reason, attempts, permanent, parent)
values (%(source)s, %(external)s, %(stage)s, %(reason)s, %(attempts)s, %(permanent)s, %(parent)s)
on conflict (source_id, external_id) do update set
  stage = excluded.stage, permanent = excluded.permanent, reason = excluded.reason, last_at = now(),
  parent = coalesce(nullif(excluded.parent, ''), f.parent),
  attempts = case when excluded.stage = 'read' then f.attempts + 1 else excluded.attempts end
returning attempts

-- name: failure_forget
delete from failure
where source_id = %(source)s and (external_id = any (%(ids)s) or parent = any (%(ids)s) and parent <> '')

-- name: failure_outlived
-- What was read again and is indexed already, so that no indexing will clear it.
delete from failure f using document d
where f.source_id = %(source)s and f.external_id = any (%(ids)s) and f.stage = 'read'
  and d.source_id = f.source_id and d.external_id = f.external_id and d.revision is not null
  and not exists (select from pending p where p.document_id = d.id)

-- name: failure_before
select external_id from failure where source_id = %(source)s and stage = 'read' and last_at < %(before)s

-- name: failure_list
select f.id, s.name as source, f.external_id, f.stage, f.reason, f.attempts, f.first_at, f.last_at
from failure f join source s on s.id = f.source_id
where (%(source)s::text is null or s.name = %(source)s) and f.id < coalesce(%(before)s, 9223372036854775807)
order by f.id desc limit %(limit)s

-- name: failure_passing
select f.id from failure f where f.source_id = %(source)s and not f.permanent and f.stage <> 'read'

-- name: failure_read_passing
-- Ever less often, and not for ever.
update failure set due = true
where source_id = %(source)s and stage = 'read' and not permanent and attempts < %(attempts)s
  and last_at < now() - make_interval(mins => (2 ^ attempts)::int)

-- name: failure_read_again
update failure set due = true where id = any (%(ids)s) and stage = 'read' returning source_id

-- name: failure_due
select coalesce(nullif(parent, ''), external_id) as item from failure
where source_id = %(source)s and due and stage = 'read'
group by item order by min(last_at), item limit %(limit)s

-- name: failure_was_read
update failure set due = false
where source_id = %(source)s and due and coalesce(nullif(parent, ''), external_id) = any (%(ids)s)

-- ── people ────────────────────────────────────────────────────────────────

-- name: principal_upsert
insert into principal (id, name) values (%(id)s, %(name)s)
on conflict (id) do update set name = excluded.name where principal.name <> excluded.name and excluded.name <> ''

-- name: identity_upsert
-- An admin's word about who somebody is outlasts the source's.
insert into identity as i (source_id, realm, name, principal_id)
values (%(source)s, %(realm)s, %(name)s, %(principal)s)
on conflict (source_id, name) do update
  set principal_id = case when i.fixed then i.principal_id else excluded.principal_id end

-- name: identity_fix
update identity set principal_id = %(principal)s, fixed = %(fixed)s
where source_id = %(source)s and name = %(name)s
returning name

-- name: identity_all
select s.name as source, i.name as account, i.principal_id as person, i.fixed,
  (select count(*) from membership m where m.source_id = i.source_id and m.user_name = i.name) as groups
from identity i join source s on s.id = i.source_id
where %(source)s::text is null or s.name = %(source)s
order by s.name, i.name

-- name: membership_replace
with gone as (
  delete from membership
  where source_id = %(source)s and user_name = %(user)s and group_name <> all (%(groups)s)
)
insert into membership (source_id, realm, user_name, group_name)
select %(source)s, %(realm)s, %(user)s, g from unnest(%(groups)s::text[]) g
on conflict do nothing

-- name: membership_forget
with m as (delete from membership where source_id = %(source)s and user_name <> all (%(seen)s))
delete from identity where source_id = %(source)s and name <> all (%(seen)s)

-- name: principal_tokens
select p.id, array_remove(
    array_agg(distinct i.realm || '/user:' || i.name) || array_agg(distinct m.realm || '/group:' || m.group_name),
    null) as tokens
from principal p
left join identity i on i.principal_id = p.id
left join membership m on m.realm = i.realm and m.user_name = i.name
where p.id = %(id)s
group by p.id

-- name: right_give
insert into principal_right (principal_id, name) values (%(principal)s, %(name)s) on conflict do nothing

-- name: right_take
delete from principal_right where principal_id = %(principal)s and name = %(name)s

-- name: principal_all
select p.id, p.name, coalesce(array_agg(distinct m.realm || '/' || m.group_name)
    filter (where m.group_name is not null), '{}') as groups,
  array(select r.name from principal_right r where r.principal_id = p.id order by 1) as rights
from principal p
left join identity i on i.principal_id = p.id
left join membership m on m.realm = i.realm and m.user_name = i.name
group by p.id, p.name order by p.id

-- ── logins, sessions, tokens ──────────────────────────────────────────────

-- name: login_add
insert into login (principal_id, role, password) values (%(id)s, %(role)s, %(password)s)
on conflict (principal_id) do nothing
returning principal_id

-- name: login_all
select l.principal_id as id, p.name, l.role, l.disabled, l.password is not null as local, l.created_at, l.seen_at,
  array(select issuer from login_link k where k.principal_id = l.principal_id order by 1) as providers
from login l join principal p on p.id = l.principal_id
order by l.principal_id

-- name: login_standing
select role, disabled from login where principal_id = %(id)s

-- name: login_role
update login set role = %(role)s where principal_id = %(id)s returning principal_id

-- name: login_disable
update login set disabled = %(disabled)s where principal_id = %(id)s returning principal_id

-- name: login_password
update login set password = %(password)s where principal_id = %(id)s returning principal_id

-- name: login_admins
-- Whether somebody can sign in, and none of them is an admin.
select exists (select from login) and not exists (select from login where role = 'admin' and not disabled) as lost

-- name: login_secret
select password from login where principal_id = %(id)s and not disabled

-- name: login_attempt
-- No row: there were too many, and the last that counted is not long enough ago.
insert into login_attempt as a (address) values (%(address)s)
on conflict (address) do update set
  failures = case when a.last_at < now() - make_interval(mins => %(minutes)s) then 1 else a.failures + 1 end,
  last_at = now()
where a.failures < %(attempts)s or a.last_at < now() - make_interval(mins => %(minutes)s)
returning failures

-- name: login_attempts_forget
delete from login_attempt where last_at < now() - interval '1 day'

-- name: login_attempt_clear
delete from login_attempt where address = %(address)s

-- name: login_linked
select principal_id from login_link where issuer = %(issuer)s and subject = %(subject)s

-- name: login_link
insert into login_link (issuer, subject, principal_id) values (%(issuer)s, %(subject)s, %(id)s)

-- name: login_link_of
select subject from login_link where issuer = %(issuer)s and principal_id = %(id)s limit 1

-- name: login_unlink
delete from login_link where principal_id = %(id)s

-- name: session_add
with old as (delete from session where expires_at < now()),
  seen as (update login set seen_at = now() where principal_id = %(id)s and not disabled returning principal_id)
insert into session (hash, principal_id, expires_at)
select %(hash)s, principal_id, now() + make_interval(days => %(days)s) from seen
returning hash

-- name: session_find
-- Seen at most once a minute, so that a page's requests are reads.
with s as (
  select * from session where hash = %(hash)s and expires_at > now() and seen_at > now() - make_interval(hours => %(hours)s)
), touched as (
  update session t set seen_at = now() from s where t.hash = s.hash and s.seen_at < now() - interval '1 minute'
)
select l.principal_id as id, p.name, l.role
from s join login l using (principal_id) join principal p on p.id = l.principal_id
where not l.disabled

-- name: session_close
delete from session where hash = %(hash)s

-- name: session_close_all
delete from session where principal_id = %(id)s and hash <> %(but)s

-- name: token_add
insert into api_token (hash, principal_id, name, scopes, expires_at)
values (%(hash)s, %(id)s, %(name)s, %(scopes)s, now() + make_interval(days => %(days)s))
returning id

-- name: token_all
select id, name, scopes, created_at, expires_at, used_at from api_token
where principal_id = %(id)s order by created_at desc, id

-- name: token_drop
delete from api_token where principal_id = %(id)s and id = %(token)s returning id

-- name: token_find
with t as (
  select * from api_token where hash = %(hash)s and expires_at > now()
), used as (
  update api_token u set used_at = now() from t
  where u.hash = t.hash and coalesce(t.used_at < now() - interval '1 minute', true)
)
select l.principal_id as id, p.name, l.role, t.scopes
from t join login l using (principal_id) join principal p on p.id = l.principal_id
where not l.disabled

-- ── search ────────────────────────────────────────────────────────────────

-- name: term_counts
select t.term, t.chunks from term_stat t where t.term = any (%(terms)s)

-- name: corpus
select chunks from corpus_stat

-- name: search_permitted
-- How many chunks are in question, counted up to where it no longer changes the plan.
select count(*) as n from (
  select from chunk c where {filters} limit %(limit)s
) c

-- name: search_nearest_exact
-- "+ 0" keeps the vector index out of it: among few permitted rows it would miss most.
select c.id from chunk c where {filters}
order by (c.embedding_{slot}::halfvec({dimension}) <=> %(vector)s) + 0 limit %(depth)s

-- name: search_nearest_index
select c.id from chunk c where {filters}
order by c.embedding_{slot}::halfvec({dimension}) <=> %(vector)s limit %(depth)s

-- name: search_lexical
select l.id from lexical(%(query)s, %(rare)s, %(space)s::smallint, %(depth)s, %(sources)s, %(kinds)s, %(customers)s,
                         %(languages)s, %(before)s) l

-- name: search_scores
select c.id, c.document_id, c.customer_id, 1 - (c.embedding_{slot} <=> %(vector)s) as cosine, -(c.weights <#> %(query)s) as bm25,
  case when d.title_space_{slot} = %(space)s then 1 - (d.title_embedding_{slot} <=> %(vector)s) end as title_cosine,
  not exists (select from chunk o where o.document_id = c.document_id and o.id <> c.id) as alone
from chunk c join document d on d.id = c.document_id
where c.id = any (%(ids)s) and c.space_{slot} = %(space)s

-- name: search_outcomes
-- A ticket is solved with the reply that solved it, or when it says so; one without a date is as old as can be.
select d.id, coalesce(t.solved_at < coalesce(%(before)s::timestamptz, 'infinity'), false) or exists (
    select from chunk c where c.document_id = d.id and c.is_solution
      and coalesce(c.created_at, d.created_at) < coalesce(%(before)s::timestamptz, 'infinity')) as solved,
  coalesce(extract(epoch from coalesce(%(before)s::timestamptz, now()) - d.created_at)::float8 / 86400, 'infinity') as days
from document d join ticket t on t.document_id = d.id where d.id = any (%(ids)s)

-- name: search_texts
select c.id, c.document_id, c.text, c.headings, c.page, c.kind, d.parent, c.audience, c.role, c.is_solution, c.customer_id,
  c.created_at, d.title, d.url, d.external_id, s.name as source, t.status, t.solved_at, t.events,
  case when d.kind = 'ticket' or d.parent <> '' then 'ticket' else 'document' end as evidence
from chunk c join document d on d.id = c.document_id join source s on s.id = c.source_id
left join ticket t on t.document_id = d.id
where c.id = any (%(ids)s)

-- name: search_replies
select id, document_id, customer_id, 1 - (embedding_{slot} <=> %(vector)s) as cosine
from (
  select c.*, row_number() over (partition by c.document_id order by c.is_solution desc, c.tokens desc) as place
  from chunk c
  where c.document_id = any (%(documents)s) and not c.id = any (%(known)s) and c.role = 'agent'
    and c.tokens >= %(tokens)s and {filters}
) c
where place <= %(each)s

-- name: document_passages
-- One document as its passages, in their order; of a long one those around a passage.
select c.id, c.document_id, c.text, c.headings, c.page, c.kind, d.parent, c.audience, c.role, c.is_solution, c.customer_id,
  c.created_at, d.title, d.url, d.external_id, s.name as source, t.status, t.solved_at, t.events,
  case when d.kind = 'ticket' or d.parent <> '' then 'ticket' else 'document' end as evidence
from document d join source s on s.id = d.source_id join chunk c on c.document_id = d.id
left join ticket t on t.document_id = d.id
where d.id = %(id)s and c.ordinal between
  coalesce((select k.ordinal from chunk k where k.id = %(chunk)s and k.document_id = d.id), 0) - %(around)s and
  coalesce((select k.ordinal from chunk k where k.id = %(chunk)s and k.document_id = d.id), 0) + %(around)s
order by c.ordinal

-- name: customer_find
with exact as (
  select id, external_id, name, same_as from customer
  where lower(external_id) = %(name)s or lower(name) = %(name)s or %(name)s = any (domains)
)
select *, coalesce(same_as, id) as stands_for from exact
union all
select id, external_id, name, same_as, coalesce(same_as, id) from customer
where not exists (select from exact) and position(%(name)s in lower(name)) > 0
order by name limit 20

-- ── history ───────────────────────────────────────────────────────────────

-- name: history_tickets
-- The latest first: few enough to be read whole, however many the customer has.
select d.id, d.external_id, s.name as source, d.title, d.url, d.created_at, d.customer_id, d.language, t.status, t.solved_at,
  t.requester, t.assignee, t.product, coalesce(d.metadata->>'queue', '') as queue, t.version, t.priority, t.tags, t.codes, t.satisfaction, t.events,
  coalesce((
    select jsonb_agg(jsonb_build_object('step', g.kind, 'text', g.text, 'at', g.at, 'role', g.role,
                                        'audience', g.audience) order by g.ordinal)
    from digest g where g.document_id = d.id and (%(before)s::timestamptz is null or g.at <= %(before)s)), '[]') as lines
from document d join ticket t on t.document_id = d.id join source s on s.id = d.source_id
where d.kind = 'ticket' and (%(customers)s::int[] is null or d.customer_id = any (%(customers)s))
  and (%(ids)s::bigint[] is null or d.id = any (%(ids)s))
  and (%(before)s::timestamptz is null or d.created_at <= %(before)s)
  and (not %(open)s or t.solved_at is null and lower(t.status) <> all (%(closed)s)
       or t.solved_at > %(before)s)
order by d.created_at desc nulls last, d.id desc
limit %(limit)s

-- name: history_counts
select count(*) as tickets, min(d.created_at) as first, max(d.created_at) as latest,
  count(*) filter (where t.solved_at is null and lower(t.status) <> all (%(closed)s) or t.solved_at > %(before)s) as open
from document d join ticket t on t.document_id = d.id
where d.customer_id = any (%(customers)s) and (%(before)s::timestamptz is null or d.created_at <= %(before)s)

-- name: history_recurring
-- What several of the latest tickets have in common.
with latest as (
  select d.id, d.created_at, t.codes, t.tags from document d join ticket t on t.document_id = d.id
  where d.customer_id = any (%(customers)s) and (%(before)s::timestamptz is null or d.created_at <= %(before)s)
  order by d.created_at desc nulls last limit %(limit)s
), said as (
  select id, created_at, what from latest, unnest(codes || tags) as what
)
select what, count(distinct id) as tickets, max(created_at) as latest, array_agg(distinct id) as ids
from said group by what having count(distinct id) > 1
order by count(distinct id) desc, max(created_at) desc limit 8

-- name: history_versions
select product, version, max(created_at) as latest from (
  select t.product, t.version, d.created_at from document d join ticket t on t.document_id = d.id
  where d.customer_id = any (%(customers)s) and (%(before)s::timestamptz is null or d.created_at <= %(before)s)
    and t.version <> ''
  order by d.created_at desc nulls last limit %(limit)s
) v group by product, version order by max(created_at) desc limit 5

-- name: ticket_find
select d.id, d.external_id, s.name as source, d.title, d.url, d.created_at, d.customer_id, d.number
from document d join source s on s.id = d.source_id
where d.kind = 'ticket' and (d.number = any (%(numbers)s) or d.url = any (%(urls)s))
order by d.created_at desc limit 5

-- name: ticket_latest
select title from document where kind = 'ticket' order by id desc limit %(limit)s

-- name: ticket_asked
-- What its customer wrote in it, from the first message on.
select text from chunk where document_id = %(id)s and role <> 'agent' order by ordinal limit %(limit)s

-- name: customers_named
-- Customers whose name, or whose name's first word, the question has in it; its domains and addresses, too.
select c.id, c.name, c.external_id, c.domains, coalesce(c.same_as, c.id) as stands_for
from customer c
where position(lower(c.name) in %(text)s) > 0 and length(c.name) > 3
  or split_part(lower(c.name), ' ', 1) = any (%(words)s)
  or c.domains && %(domains)s or c.external_id = any (%(names)s)
limit 50

-- name: names_of_customers
-- Who is behind these tickets: whatever would tell it to somebody else.
select d.id, c.name, c.external_id, c.domains, t.requester, t.requester_email
from document d join ticket t on t.document_id = d.id left join customer c on c.id = d.customer_id
where d.id = any (%(ids)s)

-- ── conversations ─────────────────────────────────────────────────────────

-- name: conversation_add
insert into conversation (title, surface) values (%(title)s, %(surface)s) returning id

-- name: conversation_get
-- One's own, or one that the transaction's link opens.
select c.id, c.title, c.surface, c.customer_id, c.ticket_id, c.created_at, c.updated_at,
  c.principal_id = nullif(current_setting('deskhand.principal', true), '') as mine, p.name as asked_by
from conversation c left join principal p on p.id = c.principal_id
where c.id = %(id)s

-- name: conversation_go_on
-- Of the reader's own. What it is about by now; a question about nobody in particular changes nothing.
update conversation set updated_at = now(), customer_id = coalesce(%(customer)s, customer_id),
  ticket_id = coalesce(%(ticket)s, ticket_id)
where id = %(id)s returning id

-- name: conversation_turns
select role, content from (
  select id, role, content from message where conversation_id = %(id)s and not replaced order by id desc limit %(limit)s
) m order by id

-- name: conversation_replace
-- A question, given by its own id or its answer's, with all that follows it.
update message set replaced = true
where conversation_id = %(conversation)s and not replaced and id >= (
  select max(q.id) from message q
  where q.conversation_id = %(conversation)s and q.role = 'user' and not q.replaced and q.id <= %(message)s
    and exists (select from message m where m.id = %(message)s and m.conversation_id = %(conversation)s and not m.replaced))
returning id

-- name: conversation_page
-- Of the reader's own, those last talked in first. Drafts are kept for what becomes of their tickets, not to go on with.
-- What a policy is asked about (customers, links) is looked up for the rows of the page alone.
select c.id, c.title, c.created_at, c.updated_at, c.customer_id, coalesce(k.name, '') as customer,
  exists (select from share s where s.conversation_id = c.id) as shared
from (
  select * from conversation
  where principal_id = nullif(current_setting('deskhand.principal', true), '') and surface <> 'draft'
    and (%(before)s::timestamptz is null or (updated_at, id) < (%(before)s, %(id)s::uuid))
    and (%(pattern)s::text is null or id in (select said(%(pattern)s, %(before)s, %(id)s::uuid, %(limit)s::int)))
  order by updated_at desc, id desc limit %(limit)s
) c left join customer k on k.id = c.customer_id
order by c.updated_at desc, c.id desc

-- name: conversation_rename
update conversation set title = %(title)s where id = %(id)s returning id

-- name: conversation_remove
delete from conversation where id = %(id)s returning id

-- name: conversation_share
insert into share (conversation_id, hash, created_at) values (%(id)s, %(hash)s, %(at)s) on conflict do nothing

-- name: conversation_unshare
delete from share where conversation_id = %(id)s

-- name: conversation_share_of
select created_at from share where conversation_id = %(id)s

-- name: conversation_by_link
select conversation_id from share where encode(hash, 'hex') = current_setting('deskhand.share', true)

-- name: message_all
select m.id, m.role, m.content as text, m.created_at, m.refusal, m.confidence, m.searched as question, m.model, m.stopped,
  m.chunks, m.documents, coalesce((
    select jsonb_agg(jsonb_build_object('verdict', f.verdict, 'marker', f.marker, 'comment', f.comment) order by f.id)
    from feedback f where f.message_id = m.id), '[]') as feedback
from message m
where m.conversation_id = %(conversation)s and not m.replaced and (%(message)s::bigint is null or m.id = %(message)s)
order by m.id

-- name: message_citations
-- A passage may have been indexed anew since: then it is the one that still has the quote. What is gone, or no
-- longer the reader's to read, has no title here.
select x.message_id, x.marker, x.document_id, x.evidence, x.quote, coalesce(m.documents[x.marker] = 0, false) as file,
  d.id is not null as there, c.id, coalesce(c.text, '') as text,
  coalesce(c.headings, '{}') as headings, c.page, coalesce(d.kind, 'document') as kind, coalesce(d.parent, '') as parent,
  coalesce(c.audience, d.audience, 'public') as audience, coalesce(c.role, '') as role,
  coalesce(c.is_solution, false) as is_solution, d.customer_id, coalesce(c.created_at, d.created_at) as created_at,
  coalesce(d.title, '') as title, coalesce(d.url, '') as url, coalesce(d.external_id, '') as external_id,
  coalesce(s.name, '') as source, t.status, t.solved_at, t.events
from citation x join message m on m.id = x.message_id
left join document d on d.id = x.document_id
left join lateral (
  select * from chunk c where c.id = x.chunk_id
    or (x.chunk_id is null and c.document_id = x.document_id and position(x.quote in c.text) > 0)
  order by c.ordinal limit 1) c on true
left join source s on s.id = d.source_id left join ticket t on t.document_id = d.id
where x.message_id = any (%(messages)s)
order by x.message_id, x.marker, x.span_start

-- name: message_next
select nextval('message_id_seq') as id

-- name: message_add
insert into message (id, conversation_id, role, content, searched, confidence, refusal, model, timings, ticket_id,
                     chunks, documents, vector, space_id, stopped)
overriding system value
values (coalesce(%(id)s, nextval('message_id_seq')), %(conversation)s, %(role)s, %(content)s, %(searched)s, %(confidence)s,
        %(refusal)s, %(model)s, %(timings)s, %(ticket)s, %(chunks)s, %(documents)s, %(vector)s, %(space)s, %(stopped)s)
returning id

-- name: citation_add
insert into citation (message_id, marker, chunk_id, document_id, evidence, quote, span_start, span_end)
values (%(message)s, %(marker)s, %(chunk)s, %(document)s, %(evidence)s, %(quote)s, %(start)s, %(end)s)
on conflict do nothing

-- name: message_asked
-- Of an answer the question before it; of a question that itself.
select m.id, q.content as question, coalesce(nullif(m.searched, ''), q.content) as searched, c.customer_id, c.ticket_id
from message m join conversation c on c.id = m.conversation_id cross join lateral (
  select content from message q where q.conversation_id = m.conversation_id and q.role = 'user' and q.id <= m.id
  order by q.id desc limit 1) q
where m.id = %(id)s

-- ── feedback ──────────────────────────────────────────────────────────────

-- name: feedback_about
-- An answer of one's own and the markers in it; somebody else's is not there.
select m.refusal <> '' as declined, array(select distinct marker from citation c where c.message_id = m.id order by 1) as markers
from message m where m.id = %(message)s and m.role = 'assistant'

-- name: feedback_add
insert into feedback (message_id, verdict, marker, comment)
values (%(message)s, %(verdict)s, %(marker)s, %(comment)s)
on conflict (message_id, principal_id, kind, marker) do update set
  verdict = excluded.verdict, comment = excluded.comment, created_at = now()

-- name: feedback_outcomes
select record_outcomes(%(closed)s, %(solved)s) as made

-- name: feedback_all
-- Of a verdict on one source the document is that source's, else all that the answer cites.
select f.message_id as message, f.created_at as at, f.verdict, f.comment, q.question, q.model, q.declined,
  array(select distinct d.title from given_citation c join document d on d.id = c.document_id
        where c.message_id = f.message_id and (f.marker is null or c.marker = f.marker) order by 1) as documents
from given_feedback f join told_question q on q.id = f.message_id
where f.created_at >= %(since)s and (%(verdict)s::text is null or f.verdict = %(verdict)s)
order by f.created_at desc, f.id desc limit %(limit)s

-- name: feedback_summary
-- Answers by model and by what they rest on; one that rests on several kinds counts for each of them.
with judged as (
  select message_id, bool_or(verdict = 'up') as up, bool_or(verdict = 'down') as down,
    bool_or(verdict = 'accepted') as accepted, bool_or(verdict = 'solved') as solved,
    bool_or(verdict = 'reopened') as reopened, bool_or(verdict in ('source_wrong', 'source_outdated')) as complained
  from given_feedback group by message_id
), told as (
  select a.*, j.* from given_answer a left join judged j on j.message_id = a.id where a.created_at >= %(since)s
), kinds as (
  select id, 'all' as evidence, 0 as place from told
  union all
  select distinct c.message_id, c.evidence, array_position('{document,history,ticket}', c.evidence)
  from given_citation c join told t on t.id = c.message_id
  union all
  select id, 'nothing', 4 from told t where not exists (select from given_citation c where c.message_id = t.id)
)
select t.model, k.evidence, count(*)::int as answers, (count(*) filter (where t.declined))::int as declined,
  (count(*) filter (where t.up))::int as up, (count(*) filter (where t.down))::int as down,
  (count(*) filter (where t.complained))::int as complained,
  (count(*) filter (where t.ticket_id is not null and not t.declined))::int as drafts,
  (count(*) filter (where t.accepted))::int as accepted, (count(*) filter (where t.solved))::int as solved,
  (count(*) filter (where t.reopened))::int as reopened
from told t join kinds k on k.id = t.id
group by t.model, k.evidence, k.place order by t.model, k.place

-- name: feedback_counts
select verdict, count(*)::int as said from given_feedback where created_at >= %(since)s group by verdict

-- name: answers_by_day
-- In UTC; of a day without answers there is no row.
select a.created_at::date as day, count(*)::int as questions, (count(*) filter (where a.declined))::int as declined,
  askers(array_agg(a.id)) as people
from given_answer a where a.created_at >= %(since)s group by 1 order by 1

-- name: unanswered
-- Questions that were declined, or whose answer was judged bad, the latest first.
select q.id, q.question, q.created_at, q.declined, q.documents, case when q.space_id = %(space)s then q.vector end as vector
from told_question q
where q.created_at >= %(since)s and (q.declined
  or exists (select from given_feedback f where f.message_id = q.id and f.verdict = 'down'))
order by q.created_at desc, q.id desc limit %(limit)s

-- name: askers
select askers(%(messages)s) as people

-- name: document_titles
select d.id, d.title, d.url, d.external_id, s.name as source
from document d join source s on s.id = d.source_id where d.id = any (%(ids)s)

-- name: documents_complained
-- Whatever was said before a document's last change may be settled by it.
select d.id, d.title, d.url, d.external_id, s.name as source, d.kind, coalesce(d.updated_at, d.created_at) as changed,
  (count(distinct f.id) filter (where f.verdict = 'source_wrong'))::int as wrong,
  (count(distinct f.id) filter (where f.verdict = 'source_outdated'))::int as outdated,
  askers(array_agg(f.message_id)) as people, max(f.created_at) as latest,
  array_remove(array_agg(distinct f.comment), '') as comments
from given_feedback f
join given_citation c on c.message_id = f.message_id and c.marker = f.marker
join document d on d.id = c.document_id join source s on s.id = d.source_id
where f.created_at >= coalesce(d.updated_at, d.created_at, '-infinity')
group by d.id, s.name order by count(distinct f.id) desc, max(f.created_at) desc limit %(limit)s

-- name: documents_old
-- Documents, not tickets, that nobody has changed for long and that answers still rest on.
select d.id, d.title, d.url, d.external_id, s.name as source, coalesce(d.created_at, d.updated_at) as changed,
  count(distinct a.id)::int as answers, askers(array_agg(distinct a.id)) as people, max(a.created_at) as latest
from given_answer a join given_citation c on c.message_id = a.id
join document d on d.id = c.document_id join source s on s.id = d.source_id
where a.created_at >= %(since)s and d.kind = 'document' and d.parent = ''
  and coalesce(d.created_at, d.updated_at) < now() - make_interval(months => %(months)s)
group by d.id, s.name having count(distinct a.id) >= %(cited)s
order by count(distinct a.id) desc, changed limit %(limit)s

-- ── escalations ───────────────────────────────────────────────────────────

-- name: escalation_add
insert into escalation (question, packet, message_id, customer_id, ticket_id)
values (%(question)s, %(packet)s, %(message)s, %(customer)s, %(ticket)s) returning id

-- name: escalation_all
select e.id, e.state, e.principal_id as asked_by, e.question, e.created_at, e.changed_by, e.changed_at, e.note,
  d.url as ticket
from escalation e left join document d on d.id = e.ticket_id
where e.state = any (%(states)s) order by e.created_at limit %(limit)s

-- name: escalation_find
-- What was searched belongs to the conversation, which only its person sees.
select e.id, e.state, e.principal_id as asked_by, e.question, e.packet, e.message_id, e.customer_id, e.ticket_id,
  e.created_at, e.changed_by, e.changed_at, e.note, m.searched, d.url as ticket, d.external_id as ticket_external,
  d.source_id, s.name as source
from escalation e left join message m on m.id = e.message_id left join document d on d.id = e.ticket_id
left join source s on s.id = d.source_id
where starts_with(e.id::text, %(start)s) limit 2

-- name: escalation_move
update escalation set state = %(state)s, changed_by = current_setting('deskhand.principal'), changed_at = now(),
  note = coalesce(nullif(%(note)s, ''), note)
where id = %(id)s and state = any (%(before)s)
returning id

-- name: escalation_references
select d.id, d.title, d.url, d.external_id, d.number, d.kind = 'ticket' or d.parent <> '' as of_ticket, d.customer_id,
  s.name as source, coalesce(d.customer_id = t.customer_id, false) as own,
  coalesce(d.audience = 'public' and t.acl <> '{}' and (d.acl @> t.acl or 'everyone' = any (d.acl)), false) as shared
from document d join source s on s.id = d.source_id left join document t on t.id = %(ticket)s
where d.id = any (%(ids)s)

-- name: audit
insert into audit_log (actor, action, object, detail) values (%(actor)s, %(action)s, %(object)s, %(detail)s)

-- name: audit_page
select id, at, actor, action, object, detail from audit_log
where id < coalesce(%(before)s, 9223372036854775807) order by id desc limit %(limit)s

-- name: evaluation_all
select id, at, kind, dataset, system, metrics from evaluation order by id desc limit %(limit)s

-- name: evaluation_add
insert into evaluation (kind, dataset, system, metrics, settings)
values (%(kind)s, %(dataset)s, %(system)s, %(metrics)s, %(settings)s) returning id

-- ── erasure ───────────────────────────────────────────────────────────────

-- name: erasure_keys
-- An erasure locks the table before it looks for anything, so what is written after reading this is
-- either there for the erasure to find, or was read after it.
select distinct key from erasure where lifted_at is null

-- name: erasure_lock
lock table erasure in access exclusive mode

-- name: erasure_lock_writers
-- Whoever joins customers, stores an answer or indexes a document ends it first; others wait. In this
-- order, since a conversation is stored with its customer first and its messages second.
lock table customer, message, pending, escalation, example in exclusive mode

-- name: erasure_told
select d.id, d.source_id, s.name as source, d.external_id, d.kind, d.title, d.url
from document d join source s on s.id = d.source_id
where d.id = any (%(ids)s) order by d.id

-- name: blocked_among
select hash, min(erasure_id) as erasure_id from blocked where hash = any (%(hashes)s) group by hash

-- name: blocked_add
insert into blocked (hash, erasure_id, source_id) values (%(hash)s, %(erasure)s, %(source)s) on conflict do nothing

-- name: document_leave_out
-- Without a tombstone, which would name it.
delete from document
where source_id = %(source)s and (external_id = any (%(ids)s) or parent = any (%(ids)s) and parent <> '')

-- name: erasure_customers
select id, realm, external_id, name, coalesce(same_as, id) as stands_for from customer
where id::text = %(name)s or lower(name) = %(name)s or lower(external_id) = %(name)s
  or lower(realm || ' ' || external_id) = %(name)s or %(name)s = any (domains)
order by id

-- name: erasure_domains
-- Of these customers alone: what somebody else has too stands for nobody.
select distinct d as domain from customer c, unnest(c.domains) d
where c.id = any (%(ids)s)
  and not exists (select from customer o where o.id <> all (%(ids)s) and d = any (o.domains))

-- name: erasure_people_of_customer
select t.requester as name, lower(t.requester_email) as email
from ticket t join document d on d.id = t.document_id
where d.customer_id = any (%(ids)s) and t.requester_email <> ''
  and (split_part(lower(t.requester_email), '@', 2) = any (%(domains)s) or lower(t.requester_email) = any (%(accounts)s))
union
select name, id from principal where split_part(id, '@', 2) = any (%(domains)s) or id = any (%(accounts)s)

-- name: erasure_names_of_person
select name from principal where id = %(email)s
union select requester from ticket where lower(requester_email) = %(email)s
union select name from customer where lower(external_id) = %(email)s

-- name: erasure_customers_of_person
select id from customer where lower(external_id) = %(email)s

-- name: erasure_accounts
select distinct realm, name from identity where principal_id = any (%(people)s)
union select distinct realm, e from source, unnest(%(people)s::text[]) e

-- name: erasure_trail
-- As the trail names whose account an admin said it is.
select lower(s.name || ' ' || i.name) as object from identity i join source s on s.id = i.source_id
where (i.realm, i.name) in (select r, a from unnest(%(realms)s::text[], %(logins)s::text[]) n (r, a))

-- name: erasure_documents
with own as (
  select d.id, d.source_id, d.external_id
  from document d join source s on s.id = d.source_id left join ticket t on t.document_id = d.id
  where d.customer_id = any (%(customers)s) or d.id = any (%(more)s)
    or lower(t.requester_email) = any (%(requesters)s)
    or t.requester_email = '' and lower(s.realm || ' ' || t.requester) = any (%(accounts)s)
)
select id from own
union select d.id from document d join own o on d.source_id = o.source_id and d.parent = o.external_id

-- name: erasure_mentions
-- What an assignee is called is taken out, and so are rights; anything else that names somebody is a mention.
select d.id from document d
where d.id <> all (%(ids)s) and (
  d.title ~* %(pattern)s or d.url ~* %(pattern)s or d.external_id ~* %(pattern)s or d.parent ~* %(pattern)s
  or d.metadata::text ~* %(pattern)s
  or exists (select from chunk c where c.document_id = d.id
             and (c.text ~* %(pattern)s or array_to_string(c.headings, ' ') ~* %(pattern)s))
  or exists (select from digest g where g.document_id = d.id and g.text ~* %(pattern)s)
  or exists (select from ticket t where t.document_id = d.id
             and ((to_jsonb(t) - 'assignee' - 'acl')::text ~* %(pattern)s
                  or t.assignee ~* %(pattern)s and lower(t.assignee) <> all (%(assignees)s)))
  or exists (select from pending p where p.document_id = d.id
             and case when p.form = 'parts' then convert_from(p.body, 'UTF8') ~* %(pattern)s
                 else encode(p.body, 'escape') ~* %(pattern)s end))

-- name: erasure_conversations
select c.id from conversation c
where c.customer_id = any (%(customers)s) or c.principal_id = any (%(people)s) or c.title ~* %(pattern)s
  or c.ticket_id = any (%(ids)s) or exists (
    select from message m where m.conversation_id = c.id and (
      m.content ~* %(pattern)s or m.searched ~* %(pattern)s or m.refusal ~* %(pattern)s
      or m.ticket_id = any (%(ids)s)
      or exists (select from citation x where x.message_id = m.id
                 and (x.document_id = any (%(ids)s) or x.quote ~* %(pattern)s))
      or exists (select from feedback f where f.message_id = m.id
                 and (f.comment ~* %(pattern)s or f.principal_id = any (%(people)s)))))

-- name: erasure_messages
select id from message where conversation_id = any (%(talks)s)

-- name: erasure_counts
-- What goes with a document, a conversation or a person without being named.
select (select count(*) from ticket where document_id = any (%(ids)s)) as ticket,
  (select count(*) from chunk where document_id = any (%(ids)s)) as chunk,
  (select count(*) from digest where document_id = any (%(ids)s)) as digest,
  (select count(*) from pending where document_id = any (%(ids)s)) as pending,
  (select count(*) from message where conversation_id = any (%(talks)s)) as message,
  (select count(*) from citation x join message m on m.id = x.message_id where m.conversation_id = any (%(talks)s)) as citation,
  (select count(*) from feedback f join message m on m.id = f.message_id where m.conversation_id = any (%(talks)s)) as feedback

-- name: erasure_chunks
select id from chunk where document_id = any (%(ids)s)

-- name: erasure_drop_examples
-- Those that hold something of its documents, or its name: of a file that was given.
delete from example e
where e.documents && %(ids)s::bigint[] or e.prompt::text ~* %(pattern)s or e.completion ~* %(pattern)s
  or e.message_id = any (%(messages)s)

-- name: erasure_drop_escalations
delete from escalation e
where e.customer_id = any (%(customers)s) or e.ticket_id = any (%(ids)s) or e.principal_id = any (%(people)s)
  or e.question ~* %(pattern)s or e.note ~* %(pattern)s
  or e.message_id in (select id from message where conversation_id = any (%(talks)s))

-- name: erasure_drop_conversations
delete from conversation where id = any (%(talks)s)

-- name: erasure_drop_documents
delete from document where id = any (%(ids)s)

-- name: erasure_drop_failures
delete from failure f
where f.external_id ~* %(pattern)s or f.parent ~* %(pattern)s or f.reason ~* %(pattern)s
  or (f.source_id, f.external_id) in (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))
  or (f.source_id, f.parent) in (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))

-- name: erasure_drop_tombstones
delete from tombstone t
where t.external_id ~* %(pattern)s
  or (t.source_id, t.external_id) in (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))

-- name: erasure_drop_customers
delete from customer where id = any (%(customers)s)

-- name: erasure_drop_memberships
delete from membership m
where (m.realm, m.user_name) in (select r, a from unnest(%(realms)s::text[], %(logins)s::text[]) n (r, a))

-- name: erasure_drop_identities
delete from identity i
where (i.realm, i.name) in (select r, a from unnest(%(realms)s::text[], %(logins)s::text[]) n (r, a))

-- name: erasure_drop_people
delete from principal where id = any (%(people)s)

-- name: erasure_clear_held
update held_prune h set missing = array(
  select m from unnest(h.missing) m where coalesce(m !~* %(pattern)s, true) and (h.source_id, m) not in
    (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e)))
where array_to_string(h.missing, ' ') ~* %(pattern)s or exists (
  select from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e) where h.source_id = s and e = any (h.missing))

-- name: erasure_clear_links
update ticket t set links = coalesce((
    select jsonb_agg(l) from jsonb_array_elements(t.links) l where (d.source_id, l->>'external_id') not in
      (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))), '[]')
from document d
where d.id = t.document_id and exists (
  select from jsonb_array_elements(t.links) l
  join unnest(%(sources)s::int[], %(names)s::text[]) n (s, e) on s = d.source_id and e = l->>'external_id')

-- name: erasure_clear_assignees
update ticket set assignee = '' where lower(assignee) = any (%(assignees)s)

-- name: erasure_clear_rights
-- A right of somebody who is gone; what nobody else may read then is read by nobody.
with d as (update document set acl = array(select a from unnest(acl) a where a <> all (%(tokens)s)) where acl && %(tokens)s
  returning id),
  t as (update ticket set acl = array(select a from unnest(acl) a where a <> all (%(tokens)s)) where acl && %(tokens)s),
  g as (update digest set acl = array(select a from unnest(acl) a where a <> all (%(tokens)s)),
    narrow = case when narrow is not null then array(select a from unnest(narrow) a where a <> all (%(tokens)s)) end
    where acl && %(tokens)s or narrow && %(tokens)s),
  c as (update chunk set acl = array(select a from unnest(acl) a where a <> all (%(tokens)s)),
    narrow = case when narrow is not null then array(select a from unnest(narrow) a where a <> all (%(tokens)s)) end
    where acl && %(tokens)s or narrow && %(tokens)s),
  k as (update customer set acl = array(select a from unnest(acl) a where a <> all (%(tokens)s)) where acl && %(tokens)s)
select count(*) as documents from d

-- name: erasure_clear_runs
update sync_run set error = case when error ~* %(pattern)s then '(erased)' else error end,
  note = case when note ~* %(pattern)s then '(erased)' else note end
where error ~* %(pattern)s or note ~* %(pattern)s

-- name: erasure_clear_pauses
update source set paused = '(erased)' where paused ~* %(pattern)s

-- name: erasure_clear_trail
-- That something was done stays, who and to whom goes.
update audit_log set
  actor = case when lower(actor) = any (%(people)s) then '(erased)' else actor end,
  object = case when object ~* %(pattern)s or lower(object) = any (%(trail)s) then '(erased)' else object end,
  detail = case when detail::text ~* %(pattern)s then '{}' else detail end
where lower(actor) = any (%(people)s) or object ~* %(pattern)s or lower(object) = any (%(trail)s) or detail::text ~* %(pattern)s

-- name: erasure_clear_actors
update erasure set actor = '(erased)' where lower(actor) = any (%(people)s)

-- name: erasure_clear_escalations
update escalation set changed_by = '(erased)' where lower(changed_by) = any (%(people)s)

-- name: erasure_waiting
select count(*) as documents from pending where document_id <> all (%(ids)s) and not parked

-- name: erasure_add
insert into erasure (actor, kind, key, report) values (%(actor)s, %(kind)s, %(key)s, %(report)s) returning id

-- name: erasure_reported
update erasure set report = %(report)s where id = %(id)s

-- name: erasure_left
-- Rows that still point to what was erased, by table and column; there are none.
select * from (
  select 'document.external_id' as place, count(*) as rows from document where (source_id, external_id) in
    (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))
  union all select 'document.parent', count(*) from document where (source_id, parent) in
    (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))
  union all select 'failure.external_id', count(*) from failure where (source_id, external_id) in
    (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))
  union all select 'failure.parent', count(*) from failure where (source_id, parent) in
    (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))
  union all select 'tombstone.external_id', count(*) from tombstone where (source_id, external_id) in
    (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))
  union all select 'held_prune.missing', count(*) from held_prune, unnest(missing) m where (source_id, m) in
    (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))
  union all select 'ticket.links', count(*) from ticket t join document d on d.id = t.document_id,
    jsonb_array_elements(t.links) l where (d.source_id, l->>'external_id') in
    (select s, e from unnest(%(sources)s::int[], %(names)s::text[]) n (s, e))
  union all select 'chunk.id', count(*) from chunk where id = any (%(chunks)s)
  union all select 'chunk.document_id', count(*) from chunk where document_id = any (%(ids)s)
  union all select 'chunk.customer_id', count(*) from chunk where customer_id = any (%(customers)s)
  union all select 'digest.document_id', count(*) from digest where document_id = any (%(ids)s)
  union all select 'ticket.document_id', count(*) from ticket where document_id = any (%(ids)s)
  union all select 'pending.document_id', count(*) from pending where document_id = any (%(ids)s)
  union all select 'example.documents', count(*) from example where documents && %(ids)s::bigint[]
  union all select 'conversation.ticket_id', count(*) from conversation where ticket_id = any (%(ids)s)
  union all select 'message.ticket_id', count(*) from message where ticket_id = any (%(ids)s)
  union all select 'citation.document_id', count(*) from citation where document_id = any (%(ids)s)
  union all select 'citation.chunk_id', count(*) from citation where chunk_id = any (%(chunks)s)
  union all select 'escalation.ticket_id', count(*) from escalation where ticket_id = any (%(ids)s)
  union all select 'escalation.customer_id', count(*) from escalation where customer_id = any (%(customers)s)
  union all select 'conversation.id', count(*) from conversation where id = any (%(talks)s)
  union all select 'conversation.customer_id', count(*) from conversation where customer_id = any (%(customers)s)
  union all select 'customer.id', count(*) from customer where id = any (%(customers)s)
  union all select 'principal.id', count(*) from principal where id = any (%(people)s)
) left_over where rows > 0

-- name: erasure_all
select e.id, e.at, e.actor, e.kind, e.lifted_at, e.report, (select count(*) from blocked b where b.erasure_id = e.id) as blocked
from erasure e order by e.id desc

-- name: erasure_lift
with gone as (delete from blocked where erasure_id = %(id)s returning source_id),
  origin as (select array(select distinct source_id from gone where source_id is not null order by 1) as sources)
update erasure set lifted_at = coalesce(lifted_at, now()),
  report = case when lifted_at is null then jsonb_set(report, '{sources}', to_jsonb(origin.sources)) else report end
from origin where id = %(id)s
returning report

-- name: version_request
insert into version (kind, name, base, dataset_hash, folder, recipe, state, requested_by)
select %(kind)s, name, %(base)s, %(dataset_hash)s, 'tuned/' || name, %(recipe)s, 'training', %(requested_by)s
from (select %(kind)s || '-' || coalesce(max(id), 0) + 1 as name from version) n
returning *

-- name: version_progress
update version set progress = %(progress)s where id = %(id)s and state = 'training'

-- name: version_finish
update version set state = 'candidate', metrics = metrics || %(metrics)s, reason = '' where id = %(id)s

-- name: version_measured
update version set metrics = metrics || %(metrics)s where id = %(id)s

-- name: version_end
-- It failed, or is not good enough.
update version set state = %(state)s, reason = %(reason)s where id = %(id)s

-- name: version_note
update version set reason = %(reason)s where id = %(id)s and state not in ('training', 'live')

-- name: version_claimed
select l.objid::bigint as id from pg_locks l
where l.locktype = 'advisory' and l.classid = %(lock)s and l.objsubid = 2 and l.granted
  and l.database = (select oid from pg_database where datname = current_database())

-- name: version_get
select * from version where name = %(name)s

-- name: version_all
select * from version order by id desc

-- name: version_live
select * from version where kind = %(kind)s and state = 'live'

-- name: version_waiting
-- A training that was asked for, or that somebody's death left unfinished; one that waits for space has a time.
select * from version where state = 'training' and kind = %(kind)s
  and coalesce((progress ->> 'again_at')::timestamptz, '-infinity') <= now()
order by id limit 1

-- name: version_resume
update version set state = 'training', reason = '', progress = progress - 'again_at' - 'trouble' - 'starts'
where id = %(id)s and state in ('failed', 'training') returning *


-- name: version_retire
update version set state = 'retired' where kind = %(kind)s and state = 'live'

-- name: version_promote
update version set state = 'live', reason = '', promoted_at = now(), promoted_by = %(by)s where id = %(id)s

-- name: version_before
-- The one that was live before the live one, if any was.
select v.* from version v where v.kind = %(kind)s and v.state = 'retired' and v.promoted_at is not null
  and v.promoted_at < (select promoted_at from version where kind = %(kind)s and state = 'live')
order by v.promoted_at desc limit 1

-- name: version_remember
insert into version_document (version_id, document_id)
select %(id)s, unnest(%(documents)s::bigint[]) on conflict do nothing

-- name: version_remember_messages
insert into version_message (version_id, message_id)
select %(id)s, unnest(%(messages)s::bigint[]) on conflict do nothing

-- name: version_inherit
-- It began as another one: whatever that was trained on is in it as well.
with documents as (
  insert into version_document (version_id, document_id)
  select %(id)s, document_id from version_document where version_id = %(start)s on conflict do nothing
)
insert into version_message (version_id, message_id)
select %(id)s, message_id from version_message where version_id = %(start)s on conflict do nothing

-- name: versions_trained_on
select v.name from version v
where exists (select from version_document d where d.version_id = v.id and d.document_id = any (%(documents)s))
  or exists (select from version_message m where m.version_id = v.id and m.message_id = any (%(messages)s))
order by v.id

-- name: dataset_add
insert into dataset (hash, settings, counts) values (%(hash)s, %(settings)s, %(counts)s)
on conflict (hash) do nothing returning *

-- name: dataset_find
select * from dataset where starts_with(hash, %(name)s) order by id desc

-- name: example_add
insert into example (dataset_id, part, kind, origin, prompt, completion, documents, message_id, asked_at)
values (%(dataset)s, %(part)s, %(kind)s, %(origin)s, %(prompt)s, %(completion)s, %(documents)s, %(message)s, %(asked_at)s)

-- name: example_all
select kind, origin, prompt, completion, documents, message_id, asked_at from example
where dataset_id = %(dataset)s and part = %(part)s order by id

-- name: example_sources
select distinct unnest(documents) as id from example where dataset_id = %(dataset)s and part = 'train' order by 1

-- name: judged_answers
select * from judged_answers()

-- name: tickets_resolved
select d.id, d.title, d.created_at, d.customer_id, t.tags, t.status
from document d join ticket t on t.document_id = d.id
where d.kind = 'ticket' and d.created_at is not null
  and (t.solved_at is not null or lower(t.status) = any (%(closed)s)
    or exists (select from chunk c where c.document_id = d.id and c.is_solution))
  and exists (select from chunk c where c.document_id = d.id and (c.role = 'agent' or c.is_solution))
order by d.created_at, d.id

-- name: ticket_messages
select c.role, c.is_solution, string_agg(c.text, E'\n\n' order by c.ordinal) as text
from chunk c where c.document_id = %(id)s group by c.role, c.is_solution, c.created_at order by min(c.ordinal)

-- ── embedding spaces ──────────────────────────────────────────────────────

-- name: space_wanted
select id, name, revision, dimension, slot from embedding_space where wanted_by is not null

-- name: space_targets
select id, name, revision, dimension, slot from embedding_space where live or wanted_by is not null order by live desc

-- name: space_lock_shared
-- Whoever writes vectors; a switch of spaces comes before or after the whole transaction.
select pg_advisory_xact_lock_shared(hashtext('deskhand.space'))

-- name: space_lock
select pg_advisory_xact_lock(hashtext('deskhand.space'))

-- name: space_claim
select pg_try_advisory_lock(hashtext('deskhand.reembed')) as ok

-- name: space_register
insert into embedding_space (name, revision, dimension) values (%(name)s, %(revision)s, %(dimension)s)
on conflict (name, revision) do update set dimension = excluded.dimension
returning id, live

-- name: space_named
select name, revision, dimension from embedding_space where name = %(name)s order by id desc limit 1

-- name: space_unwant
update embedding_space set wanted_by = null where wanted_by is not null

-- name: space_displace
-- Neither live nor wanted: it loses its column to the one that is wanted now.
update embedding_space set slot = null where not live and id <> %(id)s and slot is not null

-- name: space_want
update embedding_space set wanted_by = %(by)s, slot = 3 - (select slot from embedding_space where live) where id = %(id)s

-- name: space_texts
select c.id, c.hash, d.title, c.headings, c.text from chunk c join document d on d.id = c.document_id
where c.id > %(after)s and c.space_{slot} is distinct from %(space)s order by c.id limit %(limit)s

-- name: space_titles
select id, title from document
where id > %(after)s and revision is not null and title_space_{slot} is distinct from %(space)s order by id limit %(limit)s

-- name: space_fill
with free as (select id from chunk where id = any (%(ids)s) order by id for update skip locked)
update chunk c set embedding_{slot} = n.vector, space_{slot} = %(space)s
from unnest(%(ids)s::bigint[], %(vectors)s::halfvec[]) as n (id, vector) join free using (id)
where c.id = n.id

-- name: space_fill_titles
with free as (select id from document where id = any (%(ids)s) order by id for update skip locked)
update document d set title_embedding_{slot} = n.vector, title_space_{slot} = %(space)s
from unnest(%(ids)s::bigint[], %(titles)s::text[], %(vectors)s::halfvec[]) as n (id, title, vector) join free using (id)
where d.id = n.id and d.title = n.title and d.title_space_{slot} is distinct from %(space)s

-- name: space_counts
select count(*) as total, count(*) filter (where space_{slot} = %(space)s) as done from chunk

-- name: space_indexes
select c.relname as name, i.indisvalid as valid,
  exists (select from embedding_space s where c.relname = %(start)s || s.id and s.slot is not null) as placed
from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = 'chunk'::regclass and starts_with(c.relname, %(start)s)

-- name: space_lacking
-- Nothing is told of a space that is not wanted any more.
select s.wanted_by, exists (select from chunk where space_{slot} is distinct from %(space)s)
  or exists (select from document where revision is not null and title_space_{slot} is distinct from %(space)s) as lacking
from embedding_space s where s.id = %(space)s and s.slot = %(slot)s and s.wanted_by is not null

-- name: space_retire
update embedding_space set live = false where live

-- name: space_take_over
update embedding_space set live = true, wanted_by = null where id = %(space)s

-- name: erasure_clear_spaces
update embedding_space set wanted_by = '(erased)' where lower(wanted_by) = any (%(people)s)

-- ── what belongs together, for training ───────────────────────────────────

-- name: pair_addressed
select id, url, kind, created_at, customer_id from document where url <> '' and revision is not null order by id

-- name: pair_linking
select document_id, text from chunk
where kind = 'ticket' and role = 'agent' and position('://' in text) > 0 order by document_id, ordinal

-- name: pair_related
select d.id, o.id as other
from ticket t join document d on d.id = t.document_id, jsonb_array_elements(t.links) l
join document o on o.external_id = l->>'external_id'
where o.source_id = d.source_id and o.kind = 'ticket' and l->>'relation' in ('duplicate', 'merged_into', 'related')
  and o.created_at < d.created_at
order by d.id, o.id

-- name: pair_asked
select d.id, d.title, d.created_at, d.customer_id, (
    select string_agg(c.text, E'\n' order by c.ordinal) from chunk c
    where c.document_id = d.id and c.role <> 'agent' and c.audience = 'public' and c.ordinal < 3) as text
from document d where d.id = any (%(ids)s) order by d.id

-- name: pair_ids
select external_id, id from document where external_id = any (%(names)s) and revision is not null

-- name: pair_tokens
select distinct unnest(acl) as token from document
union select distinct unnest(narrow) from chunk where narrow is not null

-- name: pair_nearest
select id, document_id, cosine from (
  select c.id, c.document_id, 1 - (c.embedding_{slot} <=> %(vector)s) as cosine,
    row_number() over (partition by c.document_id order by c.embedding_{slot} <=> %(vector)s) as place
  from chunk c where c.document_id = any (%(ids)s) and c.space_{slot} = %(space)s
) c where place <= %(each)s order by cosine desc, id

-- name: pair_chunks
select c.id, c.document_id, d.title, c.headings, c.text, c.kind, d.created_at
from chunk c join document d on d.id = c.document_id
where c.document_id = any (%(ids)s) order by c.document_id, c.ordinal

-- name: pair_some
select id from (
  select id, row_number() over (order by id) as n, count(*) over () as total from document where revision is not null
) d where total <= %(count)s or n %% (total / %(count)s) = 0
order by id

-- name: version_made_of
update version set dataset_hash = %(hash)s where id = %(id)s

-- ── Slack ─────────────────────────────────────────────────────────────────

-- name: slack_workspace_save
-- Installed again it keeps what the admin said of it.
insert into slack_workspace (team, enterprise, name, token, bot, bot_user)
values (%(team)s, %(enterprise)s, %(name)s, %(token)s, %(bot)s, %(bot_user)s)
on conflict (team) do update set enterprise = excluded.enterprise, name = excluded.name, token = excluded.token,
  bot = excluded.bot, bot_user = excluded.bot_user, installed_at = now()

-- name: slack_workspace_get
select * from slack_workspace where team = %(team)s

-- name: slack_workspace_all
select team, enterprise, name, allowed, installed_at from slack_workspace order by team

-- name: slack_workspace_allow
update slack_workspace set allowed = true where team = %(team)s returning team

-- name: slack_workspace_remove
delete from slack_workspace where team = %(team)s returning team

-- name: slack_claim
insert into slack_delivery (team, key) values (%(team)s, %(key)s) on conflict do nothing returning key

-- name: slack_forget
with gone as (delete from slack_delivery where at < now() - interval '7 days')
delete from slack_question where seen_at < now() - interval '30 days'

-- name: slack_question_claim
insert into slack_question (team, channel, ts, thread, user_id)
values (%(team)s, %(channel)s, %(ts)s, %(thread)s, %(user)s) on conflict do nothing returning ts

-- name: slack_question_get
select * from slack_question where team = %(team)s and channel = %(channel)s and ts = %(ts)s

-- name: slack_question_stored
update slack_question set conversation_id = %(conversation)s, question_id = %(question)s, seen_at = now()
where team = %(team)s and channel = %(channel)s and ts = %(ts)s and revision = %(revision)s

-- name: slack_question_alive
-- No row: it was edited or deleted meanwhile, so this answer is not wanted any more.
update slack_question set seen_at = now()
where team = %(team)s and channel = %(channel)s and ts = %(ts)s and revision = %(revision)s and state = 'answering'
returning ts

-- name: slack_question_end
update slack_question set state = %(state)s, replies = %(replies)s, seen_at = now()
where team = %(team)s and channel = %(channel)s and ts = %(ts)s and revision = %(revision)s and state = 'answering'
returning ts

-- name: slack_question_again
update slack_question set state = 'answering', revision = revision + 1, seen_at = now()
where team = %(team)s and channel = %(channel)s and ts = %(ts)s and state <> 'gone'
returning *

-- name: slack_question_gone
update slack_question set state = 'gone', revision = revision + 1, seen_at = now()
where team = %(team)s and channel = %(channel)s and ts = %(ts)s and state <> 'gone'
returning *

-- name: slack_question_interrupted
-- Whoever answered these has not been heard of for a while; whoever gets the rows says so.
update slack_question set state = 'failed'
where state = 'answering' and seen_at < now() - make_interval(secs => %(seconds)s) and seen_at > now() - interval '1 day'
returning *

-- name: slack_last_asker
select user_id from slack_question where team = %(team)s and channel = %(channel)s and thread = %(thread)s
order by ts desc limit 1

-- name: slack_thread_get
select conversation_id from slack_thread
where team = %(team)s and channel = %(channel)s and thread = %(thread)s and principal_id = %(principal)s

-- name: slack_thread_owner
select principal_id from slack_thread where conversation_id = %(conversation)s limit 1

-- name: slack_thread_set
insert into slack_thread (team, channel, thread, principal_id, conversation_id)
values (%(team)s, %(channel)s, %(thread)s, %(principal)s, %(conversation)s)
on conflict (team, channel, thread, principal_id) do update set conversation_id = excluded.conversation_id

-- name: slack_channel_get
select * from slack_channel where team = %(team)s and channel = %(channel)s

-- name: slack_channel_set
insert into slack_channel (team, channel, auto, floor, audience, customer_id, quiet_from, quiet_to, zone)
values (%(team)s, %(channel)s, %(auto)s, %(floor)s, %(audience)s, %(customer)s, %(quiet_from)s, %(quiet_to)s, %(zone)s)
on conflict (team, channel) do update set auto = excluded.auto, floor = excluded.floor, audience = excluded.audience,
  customer_id = excluded.customer_id, quiet_from = excluded.quiet_from, quiet_to = excluded.quiet_to, zone = excluded.zone

-- name: slack_subscribe
-- What is told from now on; of what it has been told already nothing is told again.
update slack_channel set alerts = %(alerts)s, told = %(told)s || told where team = %(team)s and channel = %(channel)s

-- name: slack_subscriber
-- One at a time, and nobody else's at this moment: what is told of is told once.
select * from slack_channel where team = %(team)s and channel = %(channel)s and alerts <> '{}' for update skip locked

-- name: slack_subscribers
select team, channel from slack_channel
where alerts && %(alerts)s::text[] and (%(team)s::text is null or team = %(team)s) order by team, channel

-- name: slack_told
update slack_channel set told = told || %(told)s where team = %(team)s and channel = %(channel)s

-- name: slack_failed_runs
-- The first failure since it last worked; that it goes on failing is told nobody.
select r.id, s.name as source, r.job, r.finished_at as at from sync_run r join source s on s.id = r.source_id
where r.state = 'failed' and r.finished_at > %(since)s and not exists (
  select from sync_run b where b.source_id = r.source_id and b.job = r.job and b.state = 'failed' and b.id < r.id
    and not exists (select from sync_run g where g.source_id = r.source_id and g.job = r.job and g.state = 'done'
      and g.id > b.id and g.id < r.id))
order by r.finished_at

-- name: slack_held
select s.name as source, h.documents, h.held_at as at from held_prune h join source s on s.id = h.source_id
where h.held_at > %(since)s order by h.held_at
