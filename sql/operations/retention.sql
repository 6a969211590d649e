-- What has had its time (lambdas/ageing/retention.ts, docs/rights.md). Each operation takes a bounded number of rows, may be
-- repeated, and says how many there were. Times are those of this clock alone.

-- When a thing is over: what was deleted 30 days ago is purged; after a year without use a user's id gives way to a hash;
-- a tenant's own time (retentionDays; null: none) ends everything that is older. The caller has set the tenant.
create or replace function turnkeep.retention_times(p_company_id text, p_platform text)
returns table (deleted_before timestamptz, named_before timestamptz, kept_after timestamptz)
language plpgsql stable as $$
begin
  return query
    select now() - interval '30 days', now() - interval '1 year',
      now() - make_interval(days => (turnkeep.settings_of(p_company_id, p_platform) ->> 'retentionDays')::integer);
end $$;

-- Sessions that are over, marked as an erasure marks them, under the job of all zeros. Returns how many were marked.
create or replace function turnkeep.mark_overdue_sessions(p_company_id text, p_platform text, p_limit integer)
returns table (deleted integer, expired integer)
language plpgsql as $$
declare
  v_times record;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select * into v_times from turnkeep.retention_times(p_company_id, p_platform);
  with over as (
    select s.id, s.deleted_at is not null as was_deleted from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform
      and (s.deleted_at < v_times.deleted_before or s.last_active_at < v_times.kept_after)
      and not exists (
        select 1 from public.erased_sessions e
        where e.company_id = p_company_id and e.platform = p_platform and e.session_id = s.id
      )
    order by s.id limit p_limit for update skip locked
  ), marked as (
    insert into public.erased_sessions (company_id, platform, session_id, job_id)
    select p_company_id, p_platform, o.id, '00000000-0000-0000-0000-000000000000' from over o
    on conflict do nothing
  ), hidden as (
    update public.chat_sessions s set deleted_at = now(), ended_at = coalesce(s.ended_at, now()), is_active = false
    from over o
    where s.company_id = p_company_id and s.platform = p_platform and s.id = o.id and not o.was_deleted
  )
  select count(*) filter (where o.was_deleted), count(*) filter (where not o.was_deleted) into deleted, expired from over o;
  return next;
end $$;

-- Messages of sessions that stay: those that were deleted 30 days ago, and those that are older than the tenant keeps any.
-- One of which the archive has a copy is passed over until that is gone, or the copy would stand in its place: of what was
-- deleted, until the object was written again without its text (next_object_to_rewrite).
create or replace function turnkeep.overdue_messages(p_company_id text, p_platform text, p_limit integer)
returns table (id uuid, content_key text, was_deleted boolean)
language plpgsql stable as $$
#variable_conflict use_column
declare
  v_times record;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select * into v_times from turnkeep.retention_times(p_company_id, p_platform);
  return query
    select m.id, m.content_key, m.is_deleted from (
      -- Each by its own index.
      select o.* from public.chat_messages o
      where o.company_id = p_company_id and o.platform = p_platform and o.created_at < v_times.kept_after
      union all
      select d.* from public.chat_messages d
      where d.company_id = p_company_id and d.platform = p_platform and d.is_deleted and d.deleted_at < v_times.deleted_before
        and (v_times.kept_after is null or d.created_at >= v_times.kept_after)
    ) m
    where not turnkeep.has_copy(p_company_id, p_platform, m.session_id, m.id)
    limit p_limit;
end $$;

-- Removes the rows of these, whose texts are gone: a JSON array of ids as overdue_messages returned them. What has changed
-- since stays. A session keeps its count of those that were not deleted by anybody, and loses the title that was made of one.
-- Of what was deleted and is followed by others its place stays, without whatever anybody has written, and without deleted_at:
-- what follows it leads over it to what was before. It goes, or leaves for the archive, as those others do.
create or replace function turnkeep.remove_overdue_messages(p_company_id text, p_platform text, p_ids jsonb) returns integer
language plpgsql as $$
declare
  v_ids uuid[] := turnkeep.texts_of(p_ids)::uuid[];
  v_times record;
  v_emptied integer;
  v_count integer;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select * into v_times from turnkeep.retention_times(p_company_id, p_platform);
  -- Turns have the text, too, where nothing was saved since (sweep_turns), and stand in for a message that is not there. First, as
  -- saving locks them. Of a question whose answer stays the turn does: that may be its only copy.
  with purged as materialized (
    select m.id from public.chat_messages m
    where m.company_id = p_company_id and m.platform = p_platform and m.id = any (v_ids)
      and (m.created_at < v_times.kept_after or (m.is_deleted and m.deleted_at < v_times.deleted_before))
  ), turns as (
    delete from public.chat_turns t using purged p
    where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p.id and t.state = 'finished'
    returning t.message_id
  ), questions as (
    update public.chat_turns t set question = null
    from purged p
    where t.company_id = p_company_id and t.platform = p_platform and t.question_id = p.id and t.state = 'finished'
      and t.question is not null and t.message_id not in (select x.id from purged x)
  )
  delete from public.chat_reply_events e using turns t
  where e.company_id = p_company_id and e.platform = p_platform and e.message_id = t.message_id;
  update public.chat_messages m
  set content = '', content_key = null, sources = '[]', metadata = '{}', feedback_comment = null, deleted_at = null,
    updated_at = now()
  where m.company_id = p_company_id and m.platform = p_platform and m.id = any (v_ids)
    and m.is_deleted and m.deleted_at < v_times.deleted_before and (v_times.kept_after is null or m.created_at >= v_times.kept_after)
    and (
      exists (
        select 1 from public.chat_messages f
        where f.company_id = p_company_id and f.platform = p_platform and f.session_id = m.session_id
          and f.sequence_number > m.sequence_number
      )
      or exists (
        select 1 from public.archive_segments c
        where c.company_id = p_company_id and c.platform = p_platform and c.session_id = m.session_id
          and c.last_sequence > m.sequence_number
      )
    );
  get diagnostics v_emptied = row_count;
  with gone as (
    delete from public.chat_messages m
    where m.company_id = p_company_id and m.platform = p_platform and m.id = any (v_ids)
      and (m.created_at < v_times.kept_after or (m.is_deleted and m.deleted_at < v_times.deleted_before))
    returning m as message, m.session_id, m.is_deleted
  ), counted as (
    update public.chat_sessions s
    set message_count = greatest(s.message_count - g.messages, 0),
      title = case when exists (
        select 1 from gone c where c.session_id = s.id and turnkeep.is_titled_by(s.title, c.message)
      ) then null else s.title end
    from (select c.session_id, count(*) filter (where not c.is_deleted) as messages from gone c group by 1) g
    where s.company_id = p_company_id and s.platform = p_platform and s.id = g.session_id
  )
  select count(*) into v_count from gone;
  return v_emptied + v_count;
end $$;

-- An object of the archive that was written before the tenant's time: all in it is older. Null: there is none.
create or replace function turnkeep.overdue_object(p_company_id text, p_platform text) returns text
language plpgsql stable as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return (
    select o.key from public.archive_objects o, turnkeep.retention_times(p_company_id, p_platform) t
    where o.company_id = p_company_id and o.platform = p_platform and o.state = 'complete' and o.created_at < t.kept_after
    order by o.key limit 1
  );
end $$;

-- Messages of an object whose newest copy is in another segment, with that. One by one: a join might read all that have left.
-- The caller has set the tenant.
create or replace function turnkeep.left_again(p_company_id text, p_platform text, p_key text)
returns table (id uuid, session_id uuid, segment_id uuid)
language sql stable as $$
  select i.id, c.session_id, n.segment_id
  from public.archive_segments c cross join unnest(c.message_ids) i (id)
  cross join lateral (
    select a.segment_id from public.archived_messages a
    where a.company_id = p_company_id and a.platform = p_platform and a.id = i.id limit 1
  ) n
  where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key and n.segment_id <> c.id
$$;

-- Messages of an object that left again for another one: of each of those segments, in the order of their ids after the one that is
-- given, {message_ids, …} as segment_place says it. Those that are rows are not among them.
create or replace function turnkeep.newer_copies(p_company_id text, p_platform text, p_key text, p_after uuid, p_limit integer)
returns table (body jsonb)
language plpgsql stable as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    with again as materialized (
      select * from turnkeep.left_again(p_company_id, p_platform, p_key)
    )
    select turnkeep.segment_place(s) || jsonb_build_object('message_ids', n.ids)
    from (
      select l.session_id, l.segment_id, array_agg(l.id) as ids from again l
      where (
        select m.id from public.chat_messages m where m.company_id = p_company_id and m.platform = p_platform and m.id = l.id limit 1
      ) is null
      group by 1, 2
    ) n
    join public.archive_segments s on s.company_id = p_company_id and s.platform = p_platform and s.session_id = n.session_id
      and s.id = n.segment_id
    where s.id > p_after
    order by s.id limit p_limit;
end $$;

-- Nothing of such an object is found any more; list_dropped_objects returns it for removal. Returns how many messages went with
-- it: those that are rows again go as rows, and of those whose newer copies are in objects that stay, they say that these are to be
-- purged (next_object_to_rewrite).
create or replace function turnkeep.drop_overdue_object(p_company_id text, p_platform text, p_key text) returns bigint
language plpgsql as $$
declare
  v_again uuid[];
  v_messages bigint;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  perform 1 from public.archive_objects o, turnkeep.retention_times(p_company_id, p_platform) t
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'complete'
    and o.created_at < t.kept_after for update of o;
  if not found then
    return 0;
  end if;
  v_again := array(select l.id from turnkeep.left_again(p_company_id, p_platform, p_key) l);
  with over as (
    select m.id, m.session_id, m.is_deleted as was_deleted, t.deleted_before
    from public.chat_messages m, turnkeep.retention_times(p_company_id, p_platform) t
    where m.company_id = p_company_id and m.platform = p_platform and m.id = any (v_again)
    for update of m
  ), ended as (
    update public.chat_messages m set is_deleted = true, deleted_at = least(m.deleted_at, o.deleted_before), updated_at = now()
    from over o where m.company_id = p_company_id and m.platform = p_platform and m.id = o.id
  )
  update public.chat_sessions s set message_count = greatest(s.message_count - g.messages, 0)
  from (select o.session_id, count(*) as messages from over o where not o.was_deleted group by 1) g
  where s.company_id = p_company_id and s.platform = p_platform and s.id = g.session_id;
  -- What the first question said is not known here, so whatever the title was made of goes with it.
  update public.chat_sessions s set title = null
  from public.archive_segments c
  where s.company_id = p_company_id and s.platform = p_platform and s.id = c.session_id and s.title is not null
    and c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key and c.state = 'live' and c.first_sequence = 1;
  delete from public.archived_threads h using public.archived_messages a, public.archive_segments c
  where h.company_id = p_company_id and h.platform = p_platform and h.newest_answer_id = a.id
    and a.company_id = p_company_id and a.platform = p_platform and a.id = any (c.message_ids) and a.segment_id = c.id
    and c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key;
  with gone as (
    delete from public.archived_messages a using public.archive_segments c
    where a.company_id = p_company_id and a.platform = p_platform and a.id = any (c.message_ids) and a.segment_id = c.id
      and c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key
    returning a.id, a.session_id
  ), last as materialized (
    select n.id, n.session_id from gone n
    -- Of one that is a row once more, that row's end is counted; of one that was deleted, its deletion was.
    where not exists (
      select 1 from public.chat_messages m where m.company_id = p_company_id and m.platform = p_platform and m.id = n.id
    )
  ), counted as (
    update public.chat_sessions s set message_count = greatest(s.message_count - g.messages, 0)
    from (select l.session_id, count(*) as messages from last l group by 1) g
    where s.company_id = p_company_id and s.platform = p_platform and s.id = g.session_id
  )
  select count(*) into v_messages from last;
  delete from public.archive_segments c
  where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key;
  update public.archive_objects o set state = 'dropped'
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key;
  return v_messages;
end $$;

-- Lines of the audit log that are older than a year, tombstones that nothing can come up against any more (a queue keeps a
-- message for 14 days), turns that ended a day ago and are saved, and counts of rate limits that count no more. p_limit of each
-- at most, of turns 200.
create or replace function turnkeep.remove_expired(p_company_id text, p_platform text, p_limit integer)
returns table (audit_lines integer, tombstones integer)
language plpgsql as $$
declare
  v_before timestamptz := now() - interval '1 year';
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  delete from public.audit_log a
  where a.company_id = p_company_id and a.platform = p_platform and a.at < v_before and a.ctid = any (array(
    select o.ctid from public.audit_log o
    where o.company_id = p_company_id and o.platform = p_platform and o.at < v_before order by o.at, o.id limit p_limit
  ));
  get diagnostics audit_lines = row_count;
  delete from public.erased_sessions e
  where e.company_id = p_company_id and e.platform = p_platform and e.session_id = any (array(
    select o.session_id from public.erased_sessions o
    where o.company_id = p_company_id and o.platform = p_platform and o.cleared_at < v_before
      and not exists (
        select 1 from public.archive_segments c
        where c.company_id = p_company_id and c.platform = p_platform and c.session_id = o.session_id
      )
    limit p_limit
  ));
  get diagnostics tombstones = row_count;
  delete from public.erasures e where e.company_id = p_company_id and e.platform = p_platform and e.cutoff < v_before;
  -- Saving does it; where nothing is saved any more, turns would keep what was said, and by whom, for ever.
  perform turnkeep.sweep_turns(p_company_id, p_platform);
  -- New keys remove old ones; where none come, the names of users would stand there for ever.
  delete from public.rate_limits r
  where r.company_id = p_company_id and r.platform = p_platform and r.ctid = any (array(
    select o.ctid from public.rate_limits o
    where o.company_id = p_company_id and o.platform = p_platform and o.kept_until < now() order by o.kept_until limit p_limit
    for update skip locked
  ));
  return next;
end $$;

-- What the next run would do, and nothing is changed: how many of each kind are due now, where all of the archive can be read.
-- Sessions go first, and what goes with them is counted as theirs.
create or replace function turnkeep.retention_due(p_company_id text, p_platform text)
returns table (kind text, rows bigint)
language plpgsql stable as $$
#variable_conflict use_column
declare
  v_times record;
  v_over uuid[];
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select * into v_times from turnkeep.retention_times(p_company_id, p_platform);
  v_over := array(
    select s.id from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform
      and (s.deleted_at < v_times.deleted_before or s.last_active_at < v_times.kept_after)
  );
  return query
    select k.kind, count(s.id) from (values ('overdueSessions', true), ('deletedSessions', false)) k (kind, is_there)
    left join public.chat_sessions s on s.company_id = p_company_id and s.platform = p_platform and s.id = any (v_over)
      and (s.deleted_at is null) = k.is_there and not exists (
        select 1 from public.erased_sessions e
        where e.company_id = p_company_id and e.platform = p_platform and e.session_id = s.id
      )
    group by 1 order by 1;
  return query
    select case when m.is_deleted then 'deletedMessages' else 'overdueMessages' end, count(*) from public.chat_messages m
    where m.company_id = p_company_id and m.platform = p_platform and m.session_id <> all (v_over)
      and case
        when m.is_deleted and m.deleted_at < v_times.deleted_before then true -- Its copies are written again before.
        -- One object that is over ends all of its copies.
        when m.created_at < v_times.kept_after then coalesce((
          select bool_or(o.created_at < v_times.kept_after) from public.archive_segments c
          join public.archive_objects o on o.company_id = p_company_id and o.platform = p_platform and o.key = c.object_key
          where c.company_id = p_company_id and c.platform = p_platform and c.session_id = m.session_id and m.id = any (c.message_ids)
        ), true)
        else false end
    group by 1;
  return query
    with overdue as (
      select o.key, c.session_id, c.id, c.message_ids from public.archive_objects o
      join public.archive_segments c on c.company_id = p_company_id and c.platform = p_platform and c.object_key = o.key
      where o.company_id = p_company_id and o.platform = p_platform and o.state = 'complete' and o.created_at < v_times.kept_after
        and c.state = 'live' and c.session_id <> all (v_over)
    )
    select 'archiveObjects', count(distinct o.key) from overdue o
    union all
    select 'archivedMessages', count(distinct a.id) from overdue o
    join public.archived_messages a on a.company_id = p_company_id and a.platform = p_platform and a.id = any (o.message_ids)
    where not exists ( -- Counted above.
      select 1 from public.chat_messages m where m.company_id = p_company_id and m.platform = p_platform and m.id = a.id
    );
  return query
    select 'usersToHide', count(*) from turnkeep.users_to_hide(p_company_id, p_platform, 1000000) u
    where not exists (
      select 1 from public.chat_sessions s
      where s.company_id = p_company_id and s.platform = p_platform and s.user_id = u.user_id and s.id = any (v_over)
    ) or exists (
      select 1 from public.chat_sessions s
      where s.company_id = p_company_id and s.platform = p_platform and s.user_id = u.user_id and s.id <> all (v_over)
        and s.last_active_at < v_times.named_before
    ) or exists (
      select 1 from public.usage_daily d
      where d.company_id = p_company_id and d.platform = p_platform and d.user_id = u.user_id
        and d.day < (v_times.named_before at time zone 'UTC')::date
    ) or exists (
      select 1 from public.idempotency_keys k
      where k.company_id = p_company_id and k.platform = p_platform and k.user_id = u.user_id and k.created_at < v_times.named_before
    ) or exists (
      select 1 from public.user_jobs j
      where j.company_id = p_company_id and j.platform = p_platform and j.user_id = u.user_id and j.created_at < v_times.named_before
    );
  return query
    select 'auditLines', count(*) from public.audit_log a
    where a.company_id = p_company_id and a.platform = p_platform and a.at < v_times.named_before;
end $$;
