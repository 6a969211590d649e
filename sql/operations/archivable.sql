-- What is to leave Postgres for the archive, and what may not yet (lambdas/ageing/archivable.ts, docs/archive-format.md).
-- Times are those of this clock alone: a function's clock that is wrong makes nothing due.

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

-- Of many rows these are put together by bit_xor: each row, and each of its versions, changes it.
create or replace function turnkeep.version_of(p_id uuid, p_updated_at timestamptz) returns bigint
language sql immutable as $$ select hash_record_extended(row (p_id, p_updated_at), 0) $$;

-- Whether a message is to leave a session that is used: {before, beyond (null: none is), beyond_before}. Null: of one that is
-- not, all are.
create or replace function turnkeep.is_due(p_created_at timestamptz, p_sequence integer, p_due jsonb) returns boolean
language sql stable as $$
  select case when jsonb_typeof(p_due) = 'object' then p_created_at < (p_due ->> 'before')::timestamptz or coalesce(
    p_sequence <= (p_due ->> 'beyond')::integer and p_created_at < (p_due ->> 'beyond_before')::timestamptz, false) else true end
$$;

-- Whether any segment that is read has a copy of a message, be it an old one. The caller has set the tenant. The cost: it is asked of
-- deleted messages alone, and plans are made as if it were asked of all.
create or replace function turnkeep.has_copy(p_company_id text, p_platform text, p_session_id uuid, p_id uuid) returns boolean
language sql stable cost 1 as $$
  select exists (
    select 1 from public.archive_segments c
    where c.company_id = p_company_id and c.platform = p_platform and c.session_id = p_session_id and p_id = any (c.message_ids)
  )
$$;

-- A message that was deleted while its text stands elsewhere, too, in an object of its own or in the archive: its row stays
-- until retention has purged all of it, since nothing else says that it is to be purged. What was purged has no deleted_at.
create or replace function turnkeep.waits_for_purge(m public.chat_messages) returns boolean
language sql stable as $$
  select m.is_deleted and m.deleted_at is not null and (m.content_key is not null or turnkeep.has_copy(m.company_id, m.platform, m.session_id, m.id))
$$;

-- Spans of messages that are to leave, session after session, in the order of their positions: first all of sessions that
-- were not used for so many days ('sessions'), then of other sessions what is as old, and what is beyond the newest so many of
-- a session and older than a day ('messages'). Sessions that were deleted are left to retention.
-- p_request: place (as an answer gave it; absent: from the start), after_days and above_messages (where the tenant has set
-- nothing itself), sessions (looked at in this call), bytes (of the response, after which it ends).
-- Rows by kind: 'span' {session_id, user_id, last_active_at, due, from_sequence, from_id (after which it begins), to_sequence,
-- to_id, messages}, of 250 messages at most. Of last_active_at and due either is null: where all leaves that the
-- session has, and where only messages do that are `due` (is_due). Then 'place', where to go on; absent: that was all.
create or replace function turnkeep.list_archivable(p_company_id text, p_platform text, p_request jsonb)
returns table (kind text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
  c_first constant uuid := '00000000-0000-0000-0000-000000000000';
  c_last constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  c_messages constant integer := 250;
  -- The same from page to page, or the same session would be another one on the next.
  v_now timestamptz := coalesce(p_request #>> '{place,now}', now()::text);
  v_settings jsonb;
  v_before timestamptz;
  v_above integer;
  v_part text := coalesce(p_request #>> '{place,part}', 'sessions');
  v_session_id uuid := coalesce(p_request #>> '{place,session_id}', c_first::text);
  v_sequence integer := coalesce(p_request #>> '{place,sequence}', '0');
  v_id uuid := coalesce(p_request #>> '{place,id}', c_first::text);
  -- The first session that is in use: only from there on other sessions can have something to leave.
  v_first_used uuid := p_request #>> '{place,first_used}';
  v_next uuid;
  v_left integer := (p_request ->> 'sessions')::integer;
  v_bytes integer := (p_request ->> 'bytes')::integer;
  v_session public.chat_sessions;
  v_is_due boolean;
  v_due jsonb;
  v_beyond integer;
  v_span record;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  v_settings := turnkeep.settings_of(p_company_id, p_platform);
  v_before := v_now - make_interval(days => coalesce((v_settings ->> 'archiveAfterDays')::integer, (p_request ->> 'after_days')::integer));
  v_above := coalesce((v_settings ->> 'archiveAboveMessages')::integer, (p_request ->> 'above_messages')::integer);
  loop
    -- From session to session along the index, whatever lies between.
    select m.session_id into v_next from public.chat_messages m
    where m.company_id = p_company_id and m.platform = p_platform
      and (m.session_id, m.sequence_number, m.id) > (v_session_id, v_sequence, v_id)
    order by m.session_id, m.sequence_number, m.id limit 1;
    exit when v_next is null and (v_part = 'messages' or v_first_used is null);
    if v_next is null then
      v_part := 'messages';
      v_session_id := v_first_used;
      v_sequence := 0;
      v_id := c_first;
      continue;
    end if;
    exit when v_left = 0 or v_bytes <= 0;
    v_left := v_left - 1;
    if v_next <> v_session_id then
      v_session_id := v_next;
      v_sequence := 0;
      v_id := c_first;
    end if;
    select * into v_session from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform and s.id = v_session_id;
    v_beyond := null;
    if v_part = 'messages' and v_session.message_count > v_above then
      select m.sequence_number into v_beyond from public.chat_messages m
      where m.company_id = p_company_id and m.platform = p_platform and m.session_id = v_session_id
      order by m.sequence_number desc, m.id desc offset v_above limit 1;
    end if;
    if v_part = 'sessions' then
      if v_session.last_active_at >= v_before then
        v_first_used := coalesce(v_first_used, v_session_id);
      end if;
      v_due := null;
      v_is_due := v_session.last_active_at < v_before and not exists (
        select 1 from public.chat_turns t
        where t.company_id = p_company_id and t.platform = p_platform and t.session_id = v_session_id and t.state <> 'finished'
      );
    else
      v_due := jsonb_build_object('before', v_before, 'beyond', v_beyond, 'beyond_before', v_now - interval '1 day');
      v_is_due := v_session.last_active_at >= v_before and (v_session.created_at < v_before or v_beyond is not null);
    end if;
    if v_is_due and v_session.deleted_at is null then
      if v_due is null then -- All of it: the index alone says where it ends.
        select count(*) as messages, max(m.sequence_number) as to_sequence, (array_agg(m.id))[count(*)] as to_id into v_span
        from (
          select m.sequence_number, m.id from public.chat_messages m
          where m.company_id = p_company_id and m.platform = p_platform and m.session_id = v_session_id
            and (m.sequence_number, m.id) > (v_sequence, v_id)
          order by m.sequence_number, m.id limit c_messages
        ) m;
      else
        select count(*) as messages, max(m.sequence_number) as to_sequence, (array_agg(m.id))[count(*)] as to_id into v_span
        from (
          select m.sequence_number, m.id from public.chat_messages m
          where m.company_id = p_company_id and m.platform = p_platform and m.session_id = v_session_id
            and (m.sequence_number, m.id) > (v_sequence, v_id) and turnkeep.is_due(m.created_at, m.sequence_number, v_due)
          order by m.sequence_number, m.id limit c_messages
        ) m;
      end if;
      if v_span.messages > 0 then
        kind := 'span';
        body := jsonb_build_object('session_id', v_session_id, 'user_id', v_session.user_id, 'due', v_due,
          'last_active_at', case when v_due is null then v_session.last_active_at end, 'from_sequence', v_sequence, 'from_id', v_id,
          'to_sequence', v_span.to_sequence, 'to_id', v_span.to_id, 'messages', v_span.messages);
        return next;
        v_bytes := v_bytes - 60 - turnkeep.response_bytes(body::text);
      end if;
      if v_span.messages = c_messages then -- There may be more of this session.
        v_sequence := v_span.to_sequence;
        v_id := v_span.to_id;
        continue;
      end if;
    end if;
    v_sequence := 2147483647;
    v_id := c_last;
  end loop;
  if v_next is not null then
    kind := 'place';
    body := jsonb_build_object('now', v_now, 'part', v_part, 'session_id', v_session_id, 'sequence', v_sequence, 'id', v_id,
      'first_used', v_first_used);
    return next;
  end if;
end $$;

-- What spans hold, [{session_id, due, from_sequence, from_id, to_sequence, to_id}, …]. Ends after p_bytes; it may have 90,000 more.
-- Rows by kind, with the number of their span, from 1:
--   lines    messages, each as JSON and a line feed, what was deleted without its text, with how many they are, the positions
--            of the first and the last, between which nothing else is to leave, and a hash of their ids and of the versions of
--            their rows (updated_at), or
--   large    one without its content, which is the object that content_key names, or
--   unfit    {message_id, why}: it stays, since it is not what the archive can hold;
--   place    here it has ended: what is after it, in this span and in those that follow, is still to be read.
-- Bodies are bytes, which the Data API returns as base64: a text of JSON within its JSON would have three escapes before each
-- quotation mark, and take most of the time of whoever writes and reads it.
create or replace function turnkeep.archivable_lines(p_company_id text, p_platform text, p_spans jsonb, p_bytes integer)
returns table (kind text, span integer, messages integer, first_sequence integer, first_id uuid, last_sequence integer, last_id uuid,
  versions text, body bytea)
language plpgsql as $$
#variable_conflict use_column
declare
  -- A row that the Data API returns holds 64 KB: two of these, and what is beside them.
  c_line constant integer := 30000;
  c_row constant integer := 65000;
  v_held uuid[];
  v_bytes integer := p_bytes;
  v_row record;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  v_held := turnkeep.held_by_turns(
    p_company_id, p_platform, array(select s.session_id from jsonb_to_recordset(p_spans) as s (session_id uuid)));
  for v_row in
    with made as materialized (
      select s.span, m.id, m.sequence_number, m.content_key is not null as is_large,
        case when jsonb_typeof(m.sources) <> 'array' then 'sources' when jsonb_typeof(m.metadata) <> 'object' then 'metadata' end as why,
        turnkeep.message_line(m, m.is_deleted) as line, turnkeep.version_of(m.id, m.updated_at) as version
      from rows from (
        jsonb_to_recordset(p_spans) as (session_id uuid, due jsonb, from_sequence integer, from_id uuid, to_sequence integer, to_id uuid)
      ) with ordinality s (session_id, due, from_sequence, from_id, to_sequence, to_id, span)
      cross join lateral (
        select * from public.chat_messages m
        where m.company_id = p_company_id and m.platform = p_platform and m.session_id = s.session_id
          and (m.sequence_number, m.id) > (s.from_sequence, s.from_id) and (m.sequence_number, m.id) <= (s.to_sequence, s.to_id)
          and m.id <> all (v_held) and turnkeep.is_due(m.created_at, m.sequence_number, s.due)
          and not turnkeep.waits_for_purge(m)
        order by m.sequence_number, m.id
      ) m
    ), sized as (
      select d.*, octet_length(d.line) as bytes,
        case when d.why is not null or octet_length(d.line) > c_row then 'unfit'
          when d.is_large then 'large' else 'lines' end as kind
      from made d
    ), cut as (
      select z.*, z.kind <> 'lines' or z.bytes > c_line as is_alone,
        count(*) filter (where z.kind <> 'lines' or z.bytes > c_line) over w as alone_before, sum(z.bytes) over w / c_line as part
      from sized z window w as (partition by z.span order by z.sequence_number, z.id rows unbounded preceding)
    )
    select min(c.kind) as kind, c.span, count(*)::integer as messages, min(c.sequence_number) as first_sequence,
      max(c.sequence_number) as last_sequence, array_agg(c.id order by c.sequence_number, c.id) as ids, bit_xor(c.version) as versions,
      string_agg(c.line, E'\n' order by c.sequence_number, c.id) as lines, coalesce(min(c.why), 'size') as why
    from cut c
    group by c.span, c.alone_before, c.is_alone, c.part
    order by c.span, c.alone_before, c.is_alone desc, c.part
  loop
    if v_bytes < 0 then
      kind := 'place';
      versions := null;
      body := null;
      return next; -- The rest of it is that of the row before.
      return;
    end if;
    kind := v_row.kind;
    span := v_row.span;
    messages := v_row.messages;
    first_sequence := v_row.first_sequence;
    first_id := v_row.ids[1];
    last_sequence := v_row.last_sequence;
    last_id := v_row.ids[v_row.messages];
    versions := v_row.versions;
    body := convert_to(case v_row.kind when 'lines' then v_row.lines || E'\n' when 'large' then v_row.lines
      else json_build_object('message_id', last_id, 'why', v_row.why)::text end, 'UTF8');
    v_bytes := v_bytes - 500 - octet_length(body) * 4 / 3;
    return next;
  end loop;
end $$;
