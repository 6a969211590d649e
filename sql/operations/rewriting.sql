-- An object of the archive written again, without sessions that are to go and without the texts of what was deleted
-- (lambdas/rights/erase-archived.ts, lambdas/ageing/rewrite-object.ts).

-- Objects that are being written and may hold messages of sessions that are to go are given up, and whoever writes one throws it
-- away: where an old one is written again, if that has such sessions, or has gone; where messages leave, always, since
-- nobody knows yet which.
create or replace function turnkeep.give_up_written_objects(p_company_id text, p_platform text, p_job_id uuid) returns integer
language plpgsql as $$
declare
  v_count integer;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.archive_objects o set state = 'dropped'
  where o.company_id = p_company_id and o.platform = p_platform and o.state = 'writing' and case
    when o.source_key is null then exists (
      select 1 from public.erased_sessions e
      where e.company_id = p_company_id and e.platform = p_platform and e.job_id = p_job_id
    )
    else not exists (
      select 1 from public.archive_objects s
      where s.company_id = p_company_id and s.platform = p_platform and s.key = o.source_key and s.state = 'complete'
    ) or exists (
      select 1 from public.archive_segments c
      join public.erased_sessions e on e.company_id = c.company_id and e.platform = c.platform and e.session_id = c.session_id
      where c.company_id = p_company_id and c.platform = p_platform and c.object_key = o.source_key and e.job_id = p_job_id
    )
  end;
  get diagnostics v_count = row_count;
  return v_count;
end $$;

-- The next object after a key that is to be written again: it holds messages of sessions that are to go. For retention, whose
-- job is all zeros, also one that has the text of a message that was deleted 30 days ago, or a copy as old as that of what did not
-- leave because it was changed, perhaps deleted. Null: there is none.
create or replace function turnkeep.next_object_to_rewrite(p_company_id text, p_platform text, p_job_id uuid, p_after text) returns text
language plpgsql as $$
declare
  v_before timestamptz;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if p_job_id = '00000000-0000-0000-0000-000000000000' then
    v_before := (select t.deleted_before from turnkeep.retention_times(p_company_id, p_platform) t);
    update public.archive_objects o set all_left = true
    where o.company_id = p_company_id and o.platform = p_platform and o.key = any (array(
      select d.key from public.archive_objects d
      where d.company_id = p_company_id and d.platform = p_platform and d.state = 'complete' and not d.all_left
        and d.created_at < v_before and not exists (
          select 1 from public.archive_segments c
          where c.company_id = p_company_id and c.platform = p_platform and c.object_key = d.key and c.state = 'copied'
        )
      order by d.key limit 100
    ));
  end if;
  return (
    select min(h.object_key) from (
      select c.object_key from public.erased_sessions e
      join public.archive_segments c on c.company_id = e.company_id and c.platform = e.platform and c.session_id = e.session_id
      where e.company_id = p_company_id and e.platform = p_platform and e.job_id = p_job_id
      union all
      select c.object_key from public.chat_messages d
      join public.archive_segments c on c.company_id = d.company_id and c.platform = d.platform and c.session_id = d.session_id
        and d.id = any (c.message_ids)
      where d.company_id = p_company_id and d.platform = p_platform and d.is_deleted and d.deleted_at < v_before
      union all
      select d.key from public.archive_objects d
      where d.company_id = p_company_id and d.platform = p_platform and not d.all_left and d.created_at < v_before and exists (
        select 1 from public.archive_segments c
        where c.company_id = p_company_id and c.platform = p_platform and c.object_key = d.key and c.state = 'copied'
      )
    ) h
    join public.archive_objects o on o.company_id = p_company_id and o.platform = p_platform and o.key = h.object_key
    where o.state = 'complete' and h.object_key > p_after
  );
end $$;

-- Segments of an object as they follow each other, from an offset on. has_gone: it stays behind when the object is written
-- again, because its session was erased, or because its rows never left. is_erased: the former. has_purged: it stays, and
-- purged_lines are to take the place of some of its lines.
create or replace function turnkeep.read_object_segments(p_company_id text, p_platform text, p_key text, p_offset integer, p_limit integer)
returns table (id uuid, session_id uuid, byte_offset bigint, byte_length integer, text_bytes integer, messages integer,
  first_sequence integer, last_sequence integer, sha256 text, has_gone boolean, is_erased boolean, has_purged boolean)
language plpgsql stable as $$
#variable_conflict use_column
declare
  v_before timestamptz;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  v_before := (select t.deleted_before from turnkeep.retention_times(p_company_id, p_platform) t);
  return query
    select c.id, c.session_id, c.byte_offset, c.byte_length, c.text_bytes, c.messages, c.first_sequence, c.last_sequence, c.sha256,
      c.state = 'copied' or e.session_id is not null, e.session_id is not null, e.session_id is null and exists (
        select 1 from public.chat_messages d
        where d.company_id = p_company_id and d.platform = p_platform and d.session_id = c.session_id and d.is_deleted
          and d.deleted_at < v_before and d.id = any (c.message_ids)
      )
    from public.archive_segments c
    left join public.erased_sessions e on e.company_id = c.company_id and e.platform = c.platform and e.session_id = c.session_id
    where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key and c.byte_offset >= p_offset
    order by c.byte_offset limit p_limit;
end $$;

-- Messages that left with a segment; of one whose rows have not left, none.
create or replace function turnkeep.segment_messages(p_company_id text, p_platform text, p_session_id uuid, p_segment_id uuid)
returns table (id uuid)
language plpgsql stable as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select n.id from public.archive_segments c cross join unnest(c.message_ids) n (id)
    where c.company_id = p_company_id and c.platform = p_platform and c.session_id = p_session_id and c.id = p_segment_id;
end $$;

-- Of these, the ones that are no rows and of which no other segment has a newer copy: with this one the last goes.
create or replace function turnkeep.last_copies(p_company_id text, p_platform text, p_session_id uuid, p_segment_id uuid)
returns table (id uuid)
language plpgsql stable as $$
#variable_conflict use_column
begin
  return query
    select n.id from turnkeep.segment_messages(p_company_id, p_platform, p_session_id, p_segment_id) n
    where not exists (
      select 1 from public.archived_messages a
      where a.company_id = p_company_id and a.platform = p_platform and a.id = n.id and a.segment_id <> p_segment_id
    ) and not exists (
      select 1 from public.chat_messages m where m.company_id = p_company_id and m.platform = p_platform and m.id = n.id
    );
end $$;

-- Before an object is written in the place of another.
create or replace function turnkeep.begin_rewritten_object(p_company_id text, p_platform text, p_key text, p_source_key text, p_schema_version integer)
returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  insert into public.archive_objects (company_id, platform, key, state, schema_version, source_key)
  values (p_company_id, p_platform, p_key, 'writing', p_schema_version, p_source_key) on conflict do nothing;
  return true;
end $$;

-- Of a segment, the messages that were deleted 30 days ago, in the order of their ids after the one that is given: each as the
-- line that takes the place of its own, without whatever anybody has written. As bytes: see archivable_lines.
create or replace function turnkeep.purged_lines(p_company_id text, p_platform text, p_session_id uuid, p_segment_id uuid, p_after uuid, p_limit integer)
returns table (id uuid, line bytea)
language plpgsql stable as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select d.id, convert_to(turnkeep.message_line(d, true), 'UTF8')
    from public.archive_segments c
    join public.chat_messages d on d.company_id = p_company_id and d.platform = p_platform and d.session_id = c.session_id
      and d.id = any (c.message_ids)
    cross join turnkeep.retention_times(p_company_id, p_platform) t
    where c.company_id = p_company_id and c.platform = p_platform and c.session_id = p_session_id and c.id = p_segment_id
      and d.is_deleted and d.deleted_at < t.deleted_before and d.id > p_after
    order by d.id limit p_limit;
end $$;

-- The segments of switch_object that have lines without text, as rows.
create or replace function turnkeep.purged_in(p_new jsonb)
returns table (id uuid, session_id uuid, byte_length integer, text_bytes integer, sha256 text, message_ids uuid[])
language sql immutable as $$
  select p.* from jsonb_to_recordset(p_new -> 'purged') as p (id uuid, session_id uuid, byte_length integer, text_bytes integer,
    sha256 text, message_ids uuid[])
$$;

-- What is left of an object stands in another one, {key, bytes, sha256, purged} (null: nothing is left): the segments that
-- stayed follow each other there as they did. p_kept and p_gone: which they were when it was written. purged, absent where
-- there are none: those that have lines without text now, [{id, session_id, byte_length, text_bytes, sha256, message_ids (of
-- these lines)}, …].
-- False: the object was given up, or what is in it has changed meanwhile, and nothing was switched.
create or replace function turnkeep.switch_object(p_company_id text, p_platform text, p_job_id uuid, p_key text, p_new jsonb, p_kept jsonb, p_gone jsonb)
returns boolean
language plpgsql as $$
declare
  v_kept uuid[] := turnkeep.texts_of(p_kept)::uuid[];
  v_gone uuid[] := turnkeep.texts_of(p_gone)::uuid[];
  v_written_at timestamptz;
  v_segments integer;
  v_job record;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select o.created_at into v_written_at from public.archive_objects o
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'complete' for update;
  if not found then
    return false;
  end if;
  if p_new is not null then
    perform 1 from public.archive_objects o
    where o.company_id = p_company_id and o.platform = p_platform and o.key = p_new ->> 'key' and o.state = 'writing' for update;
    if not found then -- Another erasure has given it up.
      return false;
    end if;
  end if;
  -- A segment that was to stay behind as a copy, and whose rows have left since, must not be lost.
  perform 1 from public.archive_segments c
  left join public.erased_sessions e on e.company_id = c.company_id and e.platform = c.platform and e.session_id = c.session_id
  where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key
    and (c.id = any (v_gone)) is distinct from (c.state = 'copied' or e.session_id is not null);
  if found then
    return false;
  end if;
  perform 1 from turnkeep.purged_in(p_new) p cross join unnest(p.message_ids) i (id)
  where not exists (
    select 1 from public.chat_messages m
    where m.company_id = p_company_id and m.platform = p_platform and m.id = i.id and m.is_deleted
  );
  if found then -- A row is restored from elsewhere, and its copy is not to be purged any more.
    return false;
  end if;
  -- Of several erasures each is told what was its own.
  for v_job in
    select e.job_id, coalesce(sum(c.messages) filter (where c.state = 'live'), 0) as messages from public.archive_segments c
    join public.erased_sessions e on e.company_id = c.company_id and e.platform = c.platform and e.session_id = c.session_id
    where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key
    group by e.job_id order by e.job_id
  loop
    perform turnkeep.count_erased(p_company_id, p_platform, v_job.job_id, 'archiveMessages', v_job.messages);
    perform turnkeep.count_erased(p_company_id, p_platform, v_job.job_id, 'archiveObjects', 1);
  end loop;
  delete from public.archived_messages a using public.archive_segments c
  where a.company_id = p_company_id and a.platform = p_platform and a.id = any (c.message_ids) and a.segment_id = c.id
    and c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key and c.id = any (v_gone);
  delete from public.archive_segments c
  where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key and c.id = any (v_gone);
  if p_new is not null then
    -- There is no copy of these any more: their rows can go.
    delete from public.archived_messages a using turnkeep.purged_in(p_new) p
    where a.company_id = p_company_id and a.platform = p_platform and a.id = any (p.message_ids) and a.segment_id = p.id;
    update public.archive_segments c
    set byte_length = p.byte_length, text_bytes = p.text_bytes, sha256 = p.sha256,
      message_ids = array(select i from unnest(c.message_ids) i where i <> all (p.message_ids))
    from turnkeep.purged_in(p_new) p
    where c.company_id = p_company_id and c.platform = p_platform and c.session_id = p.session_id and c.id = p.id;
    update public.archive_segments c set object_key = p_new ->> 'key', byte_offset = w.starts
    from (
      select s.id, s.session_id, sum(s.byte_length::bigint) over (order by s.byte_offset) - s.byte_length as starts
      from public.archive_segments s
      where s.company_id = p_company_id and s.platform = p_platform and s.object_key = p_key
    ) w
    where c.company_id = p_company_id and c.platform = p_platform and c.session_id = w.session_id and c.id = w.id;
    get diagnostics v_segments = row_count;
    if v_segments <> cardinality(v_kept) then
      raise exception using errcode = '40001', message = 'the segments have changed';
    end if;
    -- It is as old as what it takes the place of: its time ends with that of the first one.
    update public.archive_objects o
    set state = 'complete', upload_id = null, created_at = v_written_at, completed_at = now(), segments = v_segments,
      bytes = (p_new ->> 'bytes')::bigint, sha256 = p_new ->> 'sha256', messages = (
        select sum(c.messages) from public.archive_segments c
        where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_new ->> 'key'
      )
    where o.company_id = p_company_id and o.platform = p_platform and o.key = p_new ->> 'key';
  end if;
  update public.archive_objects o set state = 'dropped'
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key;
  return true;
end $$;
