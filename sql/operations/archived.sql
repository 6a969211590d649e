-- What has left chat_messages for the archive, for those who need it: where it lies, and its way back (lambdas/ageing,
-- docs/archive-format.md). In all of these but the operations the caller has set the tenant.

-- A segment as a reader has to know it. recorded_at, in microseconds, tells which of two copies of a message is newer.
create or replace function turnkeep.segment_place(p_segment public.archive_segments) returns jsonb
language sql stable as $$
  select jsonb_build_object('id', p_segment.id, 'object_key', p_segment.object_key, 'byte_offset', p_segment.byte_offset,
    'byte_length', p_segment.byte_length, 'text_bytes', p_segment.text_bytes, 'messages', p_segment.messages,
    'sha256', p_segment.sha256, 'first_sequence', p_segment.first_sequence, 'last_sequence', p_segment.last_sequence,
    'recorded_at', floor(extract(epoch from p_segment.created_at) * 1000000))
$$;

-- Segments of a session that reach to p_sequence or beyond, in the order in which a reader comes to them, by the position
-- that they begin at (descending: minus the one they end at), after the one that is given (null: from the first). 200 at
-- most: a response of the Data API holds 1 MiB.
create or replace function turnkeep.segments_from(p_company_id text, p_platform text, p_session_id uuid, p_descending boolean,
  p_sequence integer, p_after_place integer, p_after_id uuid)
returns setof jsonb
language sql stable as $$
  with reached as (
    select c.id, case when p_descending then -c.last_sequence else c.first_sequence end as place, turnkeep.segment_place(c) as body
    from public.archive_segments c
    where c.company_id = p_company_id and c.platform = p_platform and c.session_id = p_session_id and c.state = 'live'
      and case when p_descending then c.first_sequence <= p_sequence else c.last_sequence >= p_sequence end
  )
  select r.body from reached r
  where p_after_id is null or (r.place, r.id) > (p_after_place, p_after_id)
  order by r.place, r.id limit 200
$$;

-- More than read_messages gave: kind 'segment'. p_session_id is one that the caller may read.
create or replace function turnkeep.list_segments(p_company_id text, p_platform text, p_session_id uuid, p_descending boolean,
  p_sequence integer, p_after_place integer, p_after_id uuid)
returns table (kind text, body jsonb)
language plpgsql stable as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select 'segment', s from turnkeep.segments_from(
      p_company_id, p_platform, p_session_id, p_descending, p_sequence, p_after_place, p_after_id) s;
end $$;

-- Where a message lies that has left: {session_id, message_id, segments}, the message's own segment first, then those of
-- its session that may hold what leads to it, nearest first. Null: it has not left, or is back. p_session_id, where it is
-- given, is the only session that will do.
create or replace function turnkeep.archived_message(p_company_id text, p_platform text, p_id uuid, p_session_id uuid default null)
returns jsonb
language sql stable as $$
  select jsonb_build_object('session_id', a.session_id, 'message_id', a.id, 'segments', coalesce((
    select jsonb_agg(n.body order by n.nearness desc, n.id) from (
      select c.id, turnkeep.segment_place(c) as body, case when c.id = own.id then 2147483647 else c.last_sequence end as nearness
      from public.archive_segments c
      where c.company_id = p_company_id and c.platform = p_platform and c.session_id = a.session_id and c.state = 'live'
        and c.first_sequence <= own.last_sequence
      order by 3 desc, c.id limit 10
    ) n
  ), '[]'))
  from public.archived_messages a
  left join public.archive_segments own on own.company_id = p_company_id and own.platform = p_platform
    and own.session_id = a.session_id and own.id = a.segment_id
  where a.company_id = p_company_id and a.platform = p_platform and a.id = p_id
    and a.session_id = coalesce(p_session_id, a.session_id)
    and not exists (
      select 1 from public.chat_messages m where m.company_id = p_company_id and m.platform = p_platform and m.id = p_id
    )
$$;

-- Raises TK001 archived, with what archived_message says, where a message has left; else does nothing.
create or replace function turnkeep.refuse_archived(p_company_id text, p_platform text, p_id uuid, p_session_id uuid default null)
returns void
language plpgsql stable as $$
declare
  v_archived jsonb := turnkeep.archived_message(p_company_id, p_platform, p_id, p_session_id);
begin
  if v_archived is not null then
    raise exception using errcode = 'TK001', message = 'archived', detail = v_archived::text;
  end if;
end $$;

-- A message that has left, for a caller who may touch it: kind 'archived', as archived_message says it.
create or replace function turnkeep.find_archived(p_company_id text, p_platform text, p_caller jsonb, p_message_id uuid)
returns table (kind text, body jsonb)
language plpgsql stable as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select 'archived', a || '{"wanted": 1}' from turnkeep.archived_message(p_company_id, p_platform, p_message_id) a
    join public.chat_sessions s on s.company_id = p_company_id and s.platform = p_platform and s.id = (a ->> 'session_id')::uuid
    where s.deleted_at is null and turnkeep.may_act_for(p_caller, s.user_id);
end $$;

-- Of some messages, a JSON array of ids, those that have left, kind 'archived' as archived_message says them: a version that comes
-- late may be better than the one that has left.
create or replace function turnkeep.find_left(p_company_id text, p_platform text, p_ids jsonb)
returns table (kind text, body jsonb)
language plpgsql stable as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select 'archived', l.place || '{"wanted": 1}'
    from unnest(turnkeep.texts_of(p_ids)::uuid[]) i (id)
    cross join lateral (select turnkeep.archived_message(p_company_id, p_platform, i.id)) l (place)
    where l.place is not null and not turnkeep.is_erased_session(p_company_id, p_platform, (l.place ->> 'session_id')::uuid);
end $$;

-- Puts messages back, as JSON: [{"segment_id": …, "row": a line of that segment}, …]. A row that is there stays as it is,
-- and a copy that is not the newest one is passed over. Returns how many were put back.
--
-- Messages are locked before anything else, as saving does it. While an insert waits for the archiver to take away a row,
-- a newer copy takes the place of this one: so what was put back is looked at once more, and taken back where it is old.
create or replace function turnkeep.thaw_messages(p_company_id text, p_platform text, p_messages text) returns integer
language plpgsql as $$
declare
  -- As an array it is looked up one by one, however many have left: a join might read them all.
  v_ids uuid[] := array(select (g.value -> 'row' ->> 'id')::uuid from jsonb_array_elements(p_messages::jsonb) g);
  v_new uuid[];
  v_newest uuid[];
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  -- An erasure that is asked for later finds them among the messages.
  perform turnkeep.lock_erasures(p_company_id, p_platform, true);
  with given as materialized (
    select (g.value ->> 'segment_id')::uuid as segment_id, g.value -> 'row' as line from jsonb_array_elements(p_messages::jsonb) g
  ), held as materialized (
    select a.id, a.segment_id from public.archived_messages a
    where a.company_id = p_company_id and a.platform = p_platform and a.id = any (v_ids)
      and not turnkeep.is_erased_session(p_company_id, p_platform, a.session_id)
  ), put_back as (
    insert into public.chat_messages
    select m.* from given g join held h on h.id = (g.line ->> 'id')::uuid and h.segment_id = g.segment_id
    cross join lateral jsonb_populate_record(null::public.chat_messages,
      g.line || jsonb_build_object('company_id', p_company_id, 'platform', p_platform)) m
    order by m.id -- Two that put back the same do not wait for each other in a circle.
    on conflict (company_id, platform, id) do nothing
    returning id
  )
  select array_agg(p.id) into v_new from put_back p;

  v_newest := array(
    select a.id from public.archived_messages a, jsonb_array_elements(p_messages::jsonb) g
    where a.company_id = p_company_id and a.platform = p_platform and a.id = any (v_new)
      and a.id = (g.value -> 'row' ->> 'id')::uuid and a.segment_id = (g.value ->> 'segment_id')::uuid
    for share of a -- until this is done
  );
  delete from public.chat_messages m
  where m.company_id = p_company_id and m.platform = p_platform and m.id = any (v_new) and m.id <> all (v_newest);
  return cardinality(v_newest);
end $$;

-- The newest answer of a thread that has left was put back and deleted: p_was. The next one takes its place, the first of
-- p_candidates [{id, at}, …], newest first, that was not deleted, too. Of none: nothing of the thread is left there.
create or replace function turnkeep.settle_archived_thread(p_company_id text, p_platform text, p_session_id uuid, p_thread_id text,
  p_was uuid, p_candidates jsonb)
returns boolean
language plpgsql as $$
declare
  v_next record;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select c.id, c.at into v_next
  from jsonb_array_elements(p_candidates) with ordinality e (value, place), jsonb_to_record(e.value) as c (id uuid, at timestamptz)
  where c.id <> p_was and not exists (
    select 1 from public.chat_messages m
    where m.company_id = p_company_id and m.platform = p_platform and m.id = c.id and m.is_deleted
  )
  order by e.place limit 1;
  if v_next.id is null then
    delete from public.archived_threads t
    where t.company_id = p_company_id and t.platform = p_platform and t.session_id = p_session_id
      and t.thread_id = p_thread_id and t.newest_answer_id = p_was;
  else
    update public.archived_threads t set newest_answer_id = v_next.id, newest_answer_at = v_next.at
    where t.company_id = p_company_id and t.platform = p_platform and t.session_id = p_session_id
      and t.thread_id = p_thread_id and t.newest_answer_id = p_was;
  end if;
  return found;
end $$;
