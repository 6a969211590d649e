-- What the daily run asks of Postgres (lambdas/ageing, docs/archive-format.md). Times are those of this clock alone: a
-- function's clock that is wrong makes nothing due.

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

-- Messages of these sessions that their turns still stand for: the turn runs, can be resumed, or holds an answer that is
-- not saved. The caller has set the tenant.
create or replace function turnkeep.held_by_turns(p_company_id text, p_platform text, p_sessions uuid[]) returns uuid[]
language sql stable as $$
  select coalesce(array_agg(h.id), '{}') from public.chat_turns t cross join lateral (values (t.message_id), (t.question_id)) h (id)
  where t.company_id = p_company_id and t.platform = p_platform and t.session_id = any (p_sessions)
    and (
      t.state <> 'finished' or t.finished_at >= now() - interval '24 hours'
      or not (
        exists (
          select 1 from public.chat_messages m
          where m.company_id = p_company_id and m.platform = p_platform and m.id = t.message_id
        )
        or exists (
          select 1 from public.archived_messages a
          where a.company_id = p_company_id and a.platform = p_platform and a.id = t.message_id
        )
      )
    )
$$;

-- Messages that are to leave, session after session, in the order of their positions: first all of sessions that were not
-- used for so many days ('sessions'), then of other sessions what is as old, and what is beyond the newest so many of a
-- session and older than a day ('messages'). Sessions that were deleted are left to retention.
-- p_request: place (as an answer gave it; absent: from the start), after_days and above_messages (where the tenant has set
-- nothing itself), sessions (looked at in this call), bytes (that the answer may have).
-- Rows by kind:
--   session {session_id, user_id, last_active_at (null: only a part of it leaves)}, followed by its
--   message  as JSON, with its position, or
--   large    the same without its content, which is the object that content_key names, or
--   unfit    {session_id, message_id, why}: it stays, since it is not what the archive can hold;
--   place    where to go on; absent: that was all.
create or replace function turnkeep.archivable_messages(p_company_id text, p_platform text, p_request jsonb)
returns table (kind text, sequence_number integer, body text)
language plpgsql as $$
#variable_conflict use_column
declare
  c_first constant uuid := '00000000-0000-0000-0000-000000000000';
  c_last constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  v_settings jsonb;
  v_before timestamptz;
  v_above integer;
  v_part text := coalesce(p_request #>> '{place,part}', 'sessions');
  v_session_id uuid := coalesce(p_request #>> '{place,session_id}', c_first::text);
  v_sequence integer := coalesce(p_request #>> '{place,sequence}', '0');
  v_id uuid := coalesce(p_request #>> '{place,id}', c_first::text);
  v_next uuid;
  v_left integer := (p_request ->> 'sessions')::integer;
  v_bytes integer := (p_request ->> 'bytes')::integer;
  v_session public.chat_sessions;
  v_beyond integer;
  v_is_due boolean;
  v_held uuid[];
  v_message public.chat_messages;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  v_settings := turnkeep.settings_of(p_company_id, p_platform);
  v_before := now() - make_interval(days => coalesce((v_settings ->> 'archiveAfterDays')::integer, (p_request ->> 'after_days')::integer));
  v_above := coalesce((v_settings ->> 'archiveAboveMessages')::integer, (p_request ->> 'above_messages')::integer);
  loop
    -- From session to session along the index, whatever lies between.
    select m.session_id into v_next from public.chat_messages m
    where m.company_id = p_company_id and m.platform = p_platform
      and (m.session_id, m.sequence_number, m.id) > (v_session_id, v_sequence, v_id)
    order by m.session_id, m.sequence_number, m.id limit 1;
    exit when v_next is null and v_part = 'messages';
    if v_next is null then
      v_part := 'messages';
      v_session_id := c_first;
      v_sequence := 0;
      v_id := c_first;
      continue;
    end if;
    if v_next <> v_session_id then
      v_session_id := v_next;
      v_sequence := 0;
      v_id := c_first;
    end if;
    exit when v_left = 0;
    v_left := v_left - 1;

    select * into v_session from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform and s.id = v_session_id;
    v_beyond := null;
    if v_part = 'messages' and v_session.message_count > v_above then
      select m.sequence_number into v_beyond from public.chat_messages m
      where m.company_id = p_company_id and m.platform = p_platform and m.session_id = v_session_id
      order by m.sequence_number desc, m.id desc offset v_above limit 1;
    end if;
    if v_part = 'sessions' then
      v_is_due := v_session.last_active_at < v_before and not exists (
        select 1 from public.chat_turns t
        where t.company_id = p_company_id and t.platform = p_platform and t.session_id = v_session_id and t.state <> 'finished'
      );
    else
      v_is_due := v_session.last_active_at >= v_before and (v_session.created_at < v_before or v_beyond is not null);
    end if;
    if v_is_due and v_session.deleted_at is null then
      kind := 'session';
      body := jsonb_build_object('session_id', v_session_id, 'user_id', v_session.user_id,
        'last_active_at', case when v_part = 'sessions' then v_session.last_active_at end);
      return next;
      v_held := turnkeep.held_by_turns(p_company_id, p_platform, array[v_session_id]);
      for v_message in
        select m.* from public.chat_messages m
        where m.company_id = p_company_id and m.platform = p_platform and m.session_id = v_session_id
          and (m.session_id, m.sequence_number, m.id) > (v_session_id, v_sequence, v_id)
          and (v_part = 'sessions' or m.created_at < v_before
            or (m.sequence_number <= v_beyond and m.created_at < now() - interval '1 day'))
          and m.id <> all (v_held)
        order by m.session_id, m.sequence_number, m.id
      loop
        if v_message.content_key is null then
          kind := 'message';
          body := to_json(v_message);
        else
          kind := 'large';
          body := to_jsonb(v_message) - 'content';
        end if;
        -- A row that the Data API returns holds 64 KB.
        if octet_length(body) > 65000 or jsonb_typeof(v_message.sources) <> 'array' or jsonb_typeof(v_message.metadata) <> 'object' then
          kind := 'unfit';
          body := jsonb_build_object('session_id', v_session_id, 'message_id', v_message.id, 'why', case
            when jsonb_typeof(v_message.sources) <> 'array' then 'sources'
            when jsonb_typeof(v_message.metadata) <> 'object' then 'metadata' else 'size' end);
        end if;
        -- As JSON within JSON within JSON, a quotation mark has three escapes before it; the rest is names of columns.
        v_bytes := v_bytes - 150 - 4 * octet_length(body) + 3 * octet_length(replace(replace(body, '"', ''), '\', ''));
        exit when v_bytes < 0;
        sequence_number := v_message.sequence_number;
        return next;
        sequence_number := null;
        v_sequence := v_message.sequence_number;
        v_id := v_message.id;
      end loop;
    end if;
    exit when v_bytes < 0;
    v_sequence := 2147483647;
    v_id := c_last;
  end loop;
  if v_next is not null then
    kind := 'place';
    body := jsonb_build_object('part', v_part, 'session_id', v_session_id, 'sequence', v_sequence, 'id', v_id);
    return next;
  end if;
end $$;

-- Before anything of it is uploaded.
create or replace function turnkeep.begin_archive_object(p_company_id text, p_platform text, p_key text, p_schema_version integer) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  insert into public.archive_objects (company_id, platform, key, state, schema_version)
  values (p_company_id, p_platform, p_key, 'writing', p_schema_version);
  return true;
end $$;

-- Before the first part leaves. False: somebody has given the object up.
create or replace function turnkeep.note_archive_upload(p_company_id text, p_platform text, p_key text, p_upload_id text) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.archive_objects o set upload_id = p_upload_id
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'writing';
  return found;
end $$;

-- Segments [{id, session_id, byte_offset, byte_length, text_bytes, messages, first_sequence, last_sequence, sha256}, …] of
-- an object that is written. Again with the same: nothing.
create or replace function turnkeep.record_segments(p_company_id text, p_platform text, p_key text, p_segments jsonb) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  insert into public.archive_segments (company_id, platform, session_id, id, object_key, byte_offset, byte_length, text_bytes,
    messages, first_sequence, last_sequence, sha256, state)
  select p_company_id, p_platform, r.session_id, r.id, p_key, r.byte_offset, r.byte_length, r.text_bytes, r.messages,
    r.first_sequence, r.last_sequence, r.sha256, 'copied'
  from jsonb_populate_recordset(null::public.archive_segments, p_segments) r
  on conflict do nothing;
  return true;
end $$;

-- All of it was read back. False: somebody has given the object up, and nothing may leave because of it.
create or replace function turnkeep.complete_archive_object(p_company_id text, p_platform text, p_key text, p_object jsonb) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.archive_objects o
  set state = 'complete', upload_id = null, completed_at = now(), messages = r.messages, segments = r.segments, bytes = r.bytes,
    sha256 = r.sha256
  from jsonb_populate_record(null::public.archive_objects, p_object) r
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'writing';
  return found;
end $$;

-- The rows of these segments leave: [{id, session_id, byte_offset, last_active_at, messages: [[id, updated_at], …]}, …] as
-- they were read back. A segment is passed over, whole, where one of its rows has changed, is gone, locked, or held by a turn, and
-- where last_active_at is given and its session was used since. Returns the segments whose rows have left.
-- Sessions are locked first, in their order, as saving does it; nothing is waited for after that.
create or replace function turnkeep.switch_segments(p_company_id text, p_platform text, p_key text, p_segments jsonb)
returns table (segment_id uuid, messages integer)
language plpgsql
-- All that it touches was read a moment ago: going to it by its keys costs no more than reading on.
set random_page_cost = 1
as $$
#variable_conflict use_column
declare
  v_sessions uuid[];
  v_held uuid[];
  v_segments uuid[];
  v_ids uuid[];
  v_versions timestamptz[];
  v_leaving uuid[];
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  perform 1 from public.archive_objects o
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'complete' for share;
  if not found then
    return;
  end if;
  v_sessions := array(select r.session_id from jsonb_to_recordset(p_segments) as r (session_id uuid));
  perform 1 from public.chat_sessions s
  where s.company_id = p_company_id and s.platform = p_platform and s.id = any (v_sessions) order by s.id for update;
  v_held := turnkeep.held_by_turns(p_company_id, p_platform, v_sessions);

  -- As arrays: Postgres knows how few they are, and goes to each message by its key.
  select array_agg(r.id), array_agg((n.value ->> 0)::uuid), array_agg((n.value ->> 1)::timestamptz)
  into v_segments, v_ids, v_versions
  from jsonb_to_recordset(p_segments)
    as r (id uuid, session_id uuid, byte_offset bigint, last_active_at timestamptz, messages jsonb)
  join public.chat_sessions s on s.company_id = p_company_id and s.platform = p_platform and s.id = r.session_id
    and s.deleted_at is null and s.last_active_at = coalesce(r.last_active_at, s.last_active_at)
  -- The columns of both of its indexes: without statistics Postgres may take either.
  join public.archive_segments c on c.company_id = p_company_id and c.platform = p_platform and c.session_id = r.session_id
    and c.id = r.id and c.object_key = p_key and c.byte_offset = r.byte_offset and c.state = 'copied'
  cross join lateral jsonb_array_elements(r.messages) n
  where r.last_active_at is null or not exists (
    select 1 from public.chat_turns t
    where t.company_id = p_company_id and t.platform = p_platform and t.session_id = r.session_id and t.state <> 'finished'
  );
  v_leaving := array(
    with same as materialized (
      select m.id from unnest(v_ids, v_versions) n (id, version)
      join public.chat_messages m on m.company_id = p_company_id and m.platform = p_platform and m.id = n.id
        and m.updated_at = n.version
      where n.id <> all (v_held)
      for update of m skip locked
    )
    select n.segment_id from unnest(v_segments, v_ids) n (segment_id, id) left join same on same.id = n.id
    group by n.segment_id having count(*) = count(same.id)
  );

  return query
    with gone as (
      delete from public.chat_messages m using unnest(v_segments, v_ids) n (segment_id, id)
      where n.segment_id = any (v_leaving) and m.company_id = p_company_id and m.platform = p_platform and m.id = n.id
      returning n.segment_id, m.id, m.session_id, m.thread_id, m.role, m.is_deleted, m.created_at
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
        and exists (select 1 from gone g where g.id in (t.message_id, t.question_id))
      returning t.message_id
    ), events as (
      delete from public.chat_reply_events e using turns t
      where e.company_id = p_company_id and e.platform = p_platform and e.message_id = t.message_id
    ), live as (
      update public.archive_segments c set state = 'live'
      from jsonb_to_recordset(p_segments) as r (id uuid, session_id uuid, byte_offset bigint)
      where r.id = any (v_leaving) and c.company_id = p_company_id and c.platform = p_platform
        and c.session_id = r.session_id and c.id = r.id and c.object_key = p_key and c.byte_offset = r.byte_offset
    )
    select g.segment_id, count(*)::integer from gone g group by 1;
end $$;

-- Gives up objects that are older than an hour and hold nothing that has left: their run is dead, what was read back was
-- not what had been written, or all of it had changed. From here on nothing can leave because of them.
create or replace function turnkeep.drop_dead_objects(p_company_id text, p_platform text, p_limit integer)
returns table (key text, upload_id text)
language plpgsql as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    update public.archive_objects o set state = 'dropped'
    where o.company_id = p_company_id and o.platform = p_platform and o.key in (
      select d.key from public.archive_objects d
      where d.company_id = p_company_id and d.platform = p_platform and d.created_at < now() - interval '1 hour'
        and not exists (
          select 1 from public.archive_segments c
          where c.company_id = p_company_id and c.platform = p_platform and c.object_key = d.key and c.state = 'live'
        )
      order by d.key limit p_limit for update skip locked
    )
    returning o.key, o.upload_id;
end $$;

-- After the bucket has forgotten it.
create or replace function turnkeep.forget_archive_object(p_company_id text, p_platform text, p_key text) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  delete from public.archive_objects o
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'dropped';
  if not found then
    return false;
  end if;
  delete from public.archive_segments c
  where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key;
  return true;
end $$;

-- After a tenant's run: marks sessions whose time is over, p_limit at most, and tells how old the oldest message is that is
-- left (null: there is none), and after how many seconds the next one can become due: the oldest, or one that is
-- written right now.
create or replace function turnkeep.settle_archive(p_company_id text, p_platform text, p_after_days integer, p_limit integer)
returns table (expired integer, oldest_seconds double precision, due_seconds double precision)
language plpgsql as $$
#variable_conflict use_column
declare
  v_days integer;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.chat_sessions s set is_active = false
  where s.company_id = p_company_id and s.platform = p_platform and s.id in (
    select e.id from public.chat_sessions e
    where e.company_id = p_company_id and e.platform = p_platform and e.is_active and e.expires_at < now()
    order by e.expires_at limit p_limit for update skip locked
  );
  get diagnostics expired = row_count;
  v_days := coalesce((turnkeep.settings_of(p_company_id, p_platform) ->> 'archiveAfterDays')::integer, p_after_days);
  select extract(epoch from now() - min(m.created_at)) into oldest_seconds from public.chat_messages m
  where m.company_id = p_company_id and m.platform = p_platform;
  due_seconds := greatest(v_days * 86400 - greatest(coalesce(oldest_seconds, 0), 0), 0);
  return next;
end $$;
