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
-- nothing itself), sessions (looked at in this call), bytes (after which the answer ends; it may have 90,000 more).
-- Rows by kind, the first three with their session, as JSON {session_id, user_id, last_active_at (null: only a part leaves)}:
--   lines    messages, each as JSON and a line feed, with how many they are, their positions, and their ids and the
--            versions of their rows (updated_at) between commas, or
--   large    one without its content, which is the object that content_key names, or
--   unfit    {message_id, why}: it stays, since it is not what the archive can hold;
--   place    where to go on; absent: that was all.
-- Bodies are bytes, which the Data API returns as base64: a text of JSON within its JSON would have three escapes before each
-- quotation mark, and take most of the time of whoever writes and reads it.
create or replace function turnkeep.archivable_lines(p_company_id text, p_platform text, p_request jsonb)
returns table (kind text, session text, messages integer, first_sequence integer, last_sequence integer, ids text, versions text, body bytea)
language plpgsql as $$
#variable_conflict use_column
declare
  c_first constant uuid := '00000000-0000-0000-0000-000000000000';
  c_last constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  -- A row that the Data API returns holds 64 KB: two of these, and the ids and versions of 80 lines, which have 700 bytes at least.
  c_line constant integer := 28000;
  c_row constant integer := 65000;
  -- More are made than an answer holds only where a session has more than this.
  c_messages constant integer := 250;
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
  v_count integer;
  v_row record;
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
    exit when v_left = 0 or v_bytes < 0;
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
    v_count := 0;
    if v_is_due and v_session.deleted_at is null then
      session := jsonb_build_object('session_id', v_session_id, 'user_id', v_session.user_id,
        'last_active_at', case when v_part = 'sessions' then v_session.last_active_at end);
      v_held := turnkeep.held_by_turns(p_company_id, p_platform, array[v_session_id]);
      for v_row in
        with due as materialized (
          select m.id, m.sequence_number, m.updated_at::text as version, m.content_key is not null as is_large,
            case when m.content_key is null then to_json(m)::text else (to_jsonb(m) - 'content')::text end as line,
            case when jsonb_typeof(m.sources) <> 'array' then 'sources' when jsonb_typeof(m.metadata) <> 'object' then 'metadata' end as why
          from public.chat_messages m
          where m.company_id = p_company_id and m.platform = p_platform and m.session_id = v_session_id
            and (m.session_id, m.sequence_number, m.id) > (v_session_id, v_sequence, v_id)
            and (v_part = 'sessions' or m.created_at < v_before
              or (m.sequence_number <= v_beyond and m.created_at < now() - interval '1 day'))
            and m.id <> all (v_held)
          order by m.session_id, m.sequence_number, m.id limit c_messages
        ), sized as (
          select d.*, octet_length(d.line) as bytes,
            case when d.why is not null or octet_length(d.line) > c_row then 'unfit' when d.is_large then 'large' else 'lines' end as kind
          from due d
        ), cut as (
          select z.*, row_number() over place as position, z.kind <> 'lines' or z.bytes > c_line as is_alone,
            count(*) filter (where z.kind <> 'lines' or z.bytes > c_line) over place as alone_before,
            sum(z.bytes) over place / c_line as part
          from sized z window place as (order by z.sequence_number, z.id rows between unbounded preceding and current row)
        )
        select c.kind, count(*)::integer as messages, min(c.sequence_number) as first_sequence, max(c.sequence_number) as last_sequence,
          string_agg(c.id::text, ',' order by c.position) as ids, string_agg(c.version, ',' order by c.position) as versions,
          string_agg(c.line, E'\n' order by c.position) as lines, (array_agg(c.id order by c.position desc))[1] as last_id,
          coalesce(min(c.why), 'size') as why
        from cut c group by c.kind, c.is_alone, c.alone_before, c.part order by min(c.position)
      loop
        exit when v_bytes < 0;
        kind := v_row.kind;
        messages := v_row.messages;
        first_sequence := v_row.first_sequence;
        last_sequence := v_row.last_sequence;
        ids := v_row.ids;
        versions := v_row.versions;
        body := convert_to(case v_row.kind when 'unfit' then json_build_object('message_id', v_row.last_id, 'why', v_row.why)::text
          when 'large' then v_row.lines else v_row.lines || E'\n' end, 'UTF8');
        v_bytes := v_bytes - 400 - octet_length(ids) - octet_length(versions) - octet_length(body) * 4 / 3;
        return next;
        v_count := v_count + v_row.messages;
        v_sequence := v_row.last_sequence;
        v_id := v_row.last_id;
      end loop;
      exit when v_bytes < 0;
    end if;
    continue when v_count = c_messages; -- There may be more of this session.
    v_sequence := 2147483647;
    v_id := c_last;
  end loop;
  if v_next is not null then
    kind := 'place';
    session := null;
    body := convert_to(jsonb_build_object('part', v_part, 'session_id', v_session_id, 'sequence', v_sequence, 'id', v_id)::text, 'UTF8');
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

-- All of it was read back. False: it is given up, by somebody else, or here because a session of it was erased after its
-- messages had been read and before the object was begun, so that no erasure could know of it. Nothing may leave because of it.
create or replace function turnkeep.complete_archive_object(p_company_id text, p_platform text, p_key text, p_object jsonb) returns boolean
language plpgsql as $$
declare
  v_has_erased boolean;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  v_has_erased := exists (
    select 1 from public.archive_segments c
    join public.erased_sessions e on e.company_id = p_company_id and e.platform = p_platform and e.session_id = c.session_id
    where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key
  );
  update public.archive_objects o
  set state = case when v_has_erased then 'dropped' else 'complete' end, upload_id = null, completed_at = now(),
    messages = r.messages, segments = r.segments, bytes = r.bytes, sha256 = r.sha256
  from jsonb_populate_record(null::public.archive_objects, p_object) r
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'writing';
  return found and not v_has_erased;
end $$;

-- The rows of these segments leave: [{id, session_id, byte_offset, last_active_at, ids, versions}, …] as they were read back,
-- with ids and versions (updated_at) between commas. A segment is passed over, whole, where one of its rows has changed, is
-- gone, locked, or held by a turn, and where last_active_at is given and its session was used since. Returns the segments
-- whose rows have left.
-- Sessions are locked first, in their order, as saving does it; nothing is waited for after that.
create or replace function turnkeep.switch_segments(p_company_id text, p_platform text, p_key text, p_segments jsonb)
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
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
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
    select r.id, r.session_id, r.ids, r.versions, c.first_sequence, c.last_sequence
    from jsonb_to_recordset(p_segments)
      as r (id uuid, session_id uuid, byte_offset bigint, last_active_at timestamptz, ids text, versions text)
    join unnest(v_sessions, v_used) as s (id, used_at) on s.id = r.session_id
    -- Limits and locks keep Postgres from reading all segments, or messages, of the tenant and joining them.
    cross join lateral (
      select a.first_sequence, a.last_sequence from public.archive_segments a
      where a.company_id = p_company_id and a.platform = p_platform and a.session_id = r.session_id and a.id = r.id
        and a.object_key = p_key and a.byte_offset = r.byte_offset and a.state = 'copied'
      limit 1
    ) c
    where r.last_active_at is null or (r.last_active_at = s.used_at and r.session_id <> all (v_busy))
  ), found as materialized (
    select m.* from given g cross join lateral (
      select m.ctid as tid, m.id, m.updated_at from public.chat_messages m
      where m.company_id = p_company_id and m.platform = p_platform and m.session_id = g.session_id
        and m.sequence_number between g.first_sequence and g.last_sequence and m.id <> all (v_held)
      for update skip locked
    ) m
  ), wanted as materialized (
    select g.id as segment_id, f.tid
    from given g
    cross join lateral unnest(string_to_array(g.ids, ',')::uuid[], string_to_array(g.versions, ',')::timestamptz[]) n (id, version)
    left join found f on f.id = n.id and f.updated_at = n.version
  )
  select array_agg(w.tid), array_agg(w.segment_id) into v_tids, v_segments
  from wanted w where w.segment_id not in (select i.segment_id from wanted i where i.tid is null);

  return query
    with gone as (
      -- They are locked: where they lie is where they stay.
      delete from public.chat_messages m using unnest(v_tids, v_segments) n (tid, segment_id)
      where m.ctid = n.tid and m.company_id = p_company_id and m.platform = p_platform
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
      where c.company_id = p_company_id and c.platform = p_platform and c.session_id = any (v_sessions)
        and c.id in (select g.segment_id from gone g)
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
