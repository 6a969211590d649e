-- The daily run: over all tenants, what was copied leaves Postgres, and what is left is looked at (lambdas/ageing/archive.ts,
-- docs/archive-format.md).

-- Tenants in the order of their names, after the one that is given.
create or replace function turnkeep.list_tenants(p_company_id text, p_platform text, p_limit integer)
returns table (company_id text, platform text)
language plpgsql as $$
#variable_conflict use_column
begin
  perform set_config('turnkeep.sweep', 'on', true);
  return query
    select t.company_id, t.platform from public.tenants t
    where (t.company_id, t.platform) > (p_company_id, p_platform) order by t.company_id, t.platform limit p_limit;
  perform set_config('turnkeep.sweep', 'off', true);
end $$;

-- The rows of these segments leave: [{id, session_id, byte_offset, last_active_at, due, messages, first_sequence, first_id,
-- last_sequence, last_id, versions}, …], each of all messages that are to leave from its first to its last, as archivable_lines
-- gave them out. A segment is passed over, whole, where one of its rows has changed, is gone, new, locked, or held by a turn,
-- and where last_active_at is given and its session was used since. Returns the segments whose rows have left.
-- Sessions are locked first, in their order, as saving does it; nothing is waited for after that.
create or replace function turnkeep.remove_archived(p_company_id text, p_platform text, p_key text, p_segments jsonb)
returns table (segment_id uuid, messages integer)
language plpgsql
-- All that it touches was read a moment ago: going to it by its keys costs no more than reading on.
set random_page_cost = 1
as $$
#variable_conflict use_column
declare
  v_sessions uuid[] := array(select r.session_id from jsonb_to_recordset(p_segments) as r (session_id uuid));
  v_used timestamptz[];
  v_busy uuid[];
  v_held uuid[];
  v_tids tid[];
  v_segments uuid[];
  v_segment_tids tid[];
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  -- Who writes in one of these sessions need not wait for the disk, too. A commit that a crash undoes is as if this had not been
  -- called: all of it is in this transaction, and nothing outside of Postgres is done because of it before another commit is on disk.
  perform set_config('synchronous_commit', 'off', true);
  perform 1 from public.archive_objects o
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'complete' for share;
  if not found then
    return;
  end if;
  with locked as (
    select s.id, s.last_active_at from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform and s.id = any (v_sessions) and s.deleted_at is null
    order by s.id for update
  )
  select array_agg(l.id), array_agg(l.last_active_at) into v_sessions, v_used from locked l;
  v_busy := array(
    select t.session_id from public.chat_turns t
    where t.company_id = p_company_id and t.platform = p_platform and t.session_id = any (v_sessions) and t.state <> 'finished');
  v_held := turnkeep.held_by_turns(p_company_id, p_platform, v_sessions);

  with given as materialized (
    select r.*, c.tid
    from jsonb_to_recordset(p_segments) as r (id uuid, session_id uuid, byte_offset bigint, last_active_at timestamptz, due jsonb, messages integer,
      first_sequence integer, first_id uuid, last_sequence integer, last_id uuid, versions bigint)
    join unnest(v_sessions, v_used) as s (id, used_at) on s.id = r.session_id
    -- Limits and locks keep Postgres from reading all segments, or messages, of the tenant and joining them.
    cross join lateral (
      select a.ctid as tid from public.archive_segments a
      where a.company_id = p_company_id and a.platform = p_platform and a.session_id = r.session_id and a.id = r.id
        and a.object_key = p_key and a.byte_offset = r.byte_offset and a.state = 'copied'
      for update skip locked
    ) c
    where r.last_active_at is null or (r.last_active_at = s.used_at and r.session_id <> all (v_busy))
  ), found as (
    select g.id as segment_id, g.tid as segment_tid, array_agg(m.tid) as tids
    from given g cross join lateral (
      select m.ctid as tid, turnkeep.version_of(m.id, m.updated_at) as version from public.chat_messages m
      where m.company_id = p_company_id and m.platform = p_platform and m.session_id = g.session_id
        and (m.sequence_number, m.id) between (g.first_sequence, g.first_id) and (g.last_sequence, g.last_id)
        and m.id <> all (v_held) and turnkeep.is_due(m.created_at, m.sequence_number, g.due)
        and not turnkeep.waits_for_purge(m)
      for update skip locked
    ) m
    group by g.id, g.tid, g.messages, g.versions having count(*) = g.messages and bit_xor(m.version) = g.versions
  )
  select array_agg(t.tid), array_agg(f.segment_id), array_agg(f.segment_tid) into v_tids, v_segments, v_segment_tids
  from found f cross join unnest(f.tids) t (tid);

  return query
    with gone as (
      -- They are locked: where they lie is where they stay.
      delete from public.chat_messages m using unnest(v_tids, v_segments, v_segment_tids) n (tid, segment_id, segment_tid)
      where m.ctid = n.tid and m.company_id = p_company_id and m.platform = p_platform
      returning n.segment_id, n.segment_tid, m.id, m.session_id, m.thread_id, m.role, m.is_deleted, m.created_at
    ), placed as (
      insert into public.archived_messages as a (company_id, platform, id, segment_id, session_id)
      select p_company_id, p_platform, g.id, g.segment_id, g.session_id from gone g
      on conflict (company_id, platform, id) do update set segment_id = excluded.segment_id
    ), threads as (
      insert into public.archived_threads as a (company_id, platform, session_id, thread_id, newest_answer_id, newest_answer_at)
      select distinct on (g.session_id, g.thread_id) p_company_id, p_platform, g.session_id, g.thread_id, g.id, g.created_at
      from gone g where g.role = 'assistant' and not g.is_deleted
      order by g.session_id, g.thread_id, g.created_at desc, g.id desc
      on conflict (company_id, platform, session_id, thread_id) do update
      set newest_answer_id = excluded.newest_answer_id, newest_answer_at = excluded.newest_answer_at
      where (excluded.newest_answer_at, excluded.newest_answer_id) > (a.newest_answer_at, a.newest_answer_id)
    ), turns as (
      -- Their time to be resumed is over, and what they hold must not be taken for a message that is not saved yet.
      delete from public.chat_turns t
      where t.company_id = p_company_id and t.platform = p_platform and t.session_id = any (v_sessions)
        and (t.message_id in (select g.id from gone g) or t.question_id in (select g.id from gone g))
      returning t.message_id
    ), events as (
      delete from public.chat_reply_events e using turns t
      where e.company_id = p_company_id and e.platform = p_platform and e.message_id = t.message_id
    ), live as (
      update public.archive_segments c set state = 'live', message_ids = l.ids
      from (select g.segment_tid, array_agg(g.id) as ids from gone g group by 1) l
      where c.ctid = l.segment_tid and c.company_id = p_company_id and c.platform = p_platform
    )
    select g.segment_id, count(*)::integer from gone g group by 1;
end $$;

-- After a tenant's run: marks sessions whose time is over, p_limit at most, and tells how old the oldest message is that is
-- left and may leave (null: there is none), and after how many seconds the next one can become due: the oldest, or one that is
-- written right now. Below 0: for so long the oldest has been due.
create or replace function turnkeep.settle_archive(p_company_id text, p_platform text, p_after_days integer, p_limit integer)
returns table (expired integer, oldest_seconds double precision, due_seconds double precision)
language plpgsql as $$
#variable_conflict use_column
declare
  v_days integer;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.chat_sessions s set is_active = false
  where s.company_id = p_company_id and s.platform = p_platform and s.id = any (array(
    select e.id from public.chat_sessions e
    where e.company_id = p_company_id and e.platform = p_platform and e.is_active and e.expires_at < now()
    order by e.expires_at limit p_limit for update skip locked
  ));
  get diagnostics expired = row_count;
  v_days := coalesce((turnkeep.settings_of(p_company_id, p_platform) ->> 'archiveAfterDays')::integer, p_after_days);
  select extract(epoch from now() - min(m.created_at)) into oldest_seconds from public.chat_messages m
  where m.company_id = p_company_id and m.platform = p_platform and not turnkeep.waits_for_purge(m)
    and not exists ( -- It goes with retention.
      select 1 from public.chat_sessions s
      where s.company_id = p_company_id and s.platform = p_platform and s.id = m.session_id and s.deleted_at is not null
    );
  due_seconds := v_days * 86400 - greatest(coalesce(oldest_seconds, 0), 0);
  return next;
end $$;
