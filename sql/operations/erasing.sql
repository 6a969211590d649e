-- Erasing, in bounded steps that may be repeated (lambdas/rights/erase.ts). Sessions are marked first; from then on nothing
-- of them is read or written. What is removed is counted in its job, in the transaction that removes it.

-- A session that was erased: its id makes none again.
create or replace function turnkeep.is_erased_session(p_company_id text, p_platform text, p_session_id uuid) returns boolean
language sql stable as $$
  select exists (
    select 1 from public.erased_sessions e
    where e.company_id = p_company_id and e.platform = p_platform and e.session_id = p_session_id
  )
$$;

-- Records that are not saved any more, because their user or their session was erased. The caller has locked erasures.
create or replace function turnkeep.is_erased(p_company_id text, p_platform text, p_user_id text, p_session_id uuid, p_created_at timestamptz)
returns boolean
language sql stable as $$
  select exists (
    select 1 from public.erased_sessions e
    where e.company_id = p_company_id and e.platform = p_platform and e.session_id = p_session_id
  ) or exists (
    select 1 from public.erasures e
    where e.company_id = p_company_id and e.platform = p_platform and e.user_id = p_user_id and p_created_at <= e.cutoff
  )
$$;

-- Adds to what a job has removed from a place; a count of 0 names the place. The caller has set the tenant.
create or replace function turnkeep.count_erased(p_company_id text, p_platform text, p_job_id uuid, p_place text, p_count bigint) returns void
language sql as $$
  update public.user_jobs j
  set updated_at = clock_timestamp(), progress = jsonb_set(
    jsonb_set(j.progress, '{places}', coalesce(j.progress -> 'places', '{}')), array['places', p_place],
    to_jsonb(coalesce((j.progress #>> array['places', p_place])::bigint, 0) + p_count))
  where j.company_id = p_company_id and j.platform = p_platform and j.id = p_job_id
$$;

-- The same for what is counted outside.
create or replace function turnkeep.note_erased(p_company_id text, p_platform text, p_job_id uuid, p_counts jsonb) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  perform turnkeep.count_erased(p_company_id, p_platform, p_job_id, c.key, c.value::bigint) from jsonb_each_text(p_counts) c;
  return true;
end $$;

-- Tokens that erased users have used, [{user_id, day, tokens}, …] (null: none), count on with their tombstones until the month is
-- over: else whoever has used up a budget got another one by an erasure. The caller has set the tenant.
create or replace function turnkeep.keep_spent(p_company_id text, p_platform text, p_spent jsonb) returns void
language sql as $$
  update public.erasures e
  set spent = (
    select jsonb_object_agg(d.day, d.tokens) from (
      select s.day, sum(s.tokens) as tokens from (
        select b.key::date as day, b.value::bigint as tokens from jsonb_each_text(e.spent) b
        union all
        select g.day, g.tokens from jsonb_to_recordset(p_spent) as g (user_id text, day date, tokens bigint) where g.user_id = e.user_id
      ) s
      where s.day >= date_trunc('month', now() at time zone 'UTC') group by s.day
    ) d
  )
  where e.company_id = p_company_id and e.platform = p_platform
    and e.user_id = any (array(select g.user_id from jsonb_to_recordset(p_spent) as g (user_id text)))
$$;

-- Forgets what was spent in a month that is over. Returns of how many users.
create or replace function turnkeep.forget_spent(p_company_id text, p_platform text) returns integer
language plpgsql as $$
declare
  v_count integer;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.erasures e set spent = null
  where e.company_id = p_company_id and e.platform = p_platform and e.spent is not null and not exists (
    select 1 from jsonb_object_keys(e.spent) d (day) where d.day::date >= date_trunc('month', now() at time zone 'UTC')
  );
  get diagnostics v_count = row_count;
  return v_count;
end $$;

-- Marks sessions of a user that were there at the cutoff, p_limit at most: no turn is opened in one any more, and nobody
-- reads it. Returns them.
-- Here and wherever some of many rows are chosen, they are chosen once, into an array: as a subquery of "in" they were chosen
-- anew for each row of the table, where Postgres took it for a small one.
create or replace function turnkeep.mark_erased_sessions(p_company_id text, p_platform text, p_job_id uuid, p_user_ids jsonb, p_cutoff timestamptz, p_limit integer)
returns table (session_id uuid)
language plpgsql as $$
#variable_conflict use_column
declare
  v_user_ids text[] := turnkeep.texts_of(p_user_ids);
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    with marked as (
      update public.chat_sessions s
      set deleted_at = coalesce(s.deleted_at, now()), ended_at = coalesce(s.ended_at, now()), is_active = false
      where s.company_id = p_company_id and s.platform = p_platform and s.id = any (array(
        select c.id from public.chat_sessions c
        where c.company_id = p_company_id and c.platform = p_platform and c.user_id = any (v_user_ids)
          and c.created_at <= p_cutoff
          and not exists (
            select 1 from public.erased_sessions e
            where e.company_id = p_company_id and e.platform = p_platform and e.session_id = c.id and e.job_id = p_job_id
          )
        order by c.id limit p_limit for update
      ))
      returning s.id
    )
    insert into public.erased_sessions as e (company_id, platform, session_id, job_id)
    select p_company_id, p_platform, m.id, p_job_id from marked m
    on conflict (company_id, platform, session_id) do update set job_id = excluded.job_id -- retention was at it
    returning e.session_id;
end $$;

-- Answers that are still written in sessions that are to go.
create or replace function turnkeep.running_in_erased(p_company_id text, p_platform text, p_job_id uuid, p_limit integer)
returns table (message_id uuid)
language plpgsql stable as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select t.message_id from public.chat_turns t
    join public.erased_sessions e on e.company_id = t.company_id and e.platform = t.platform and e.session_id = t.session_id
    where t.company_id = p_company_id and t.platform = p_platform and t.state <> 'finished' and e.job_id = p_job_id
      and e.cleared_at is null
    order by t.message_id limit p_limit;
end $$;

-- Removes the rows of what is gone elsewhere, {messages: [id, …], archived: [id, …], sessions: [id, …]} as the call before
-- returned them, and returns what is next, p_limit at most: kind 'message' {id, session_id, thread_id, content_key}; where
-- there are none, 'archived' {id, session_id, thread_id (one of its session's)}; and then 'session' {id, threads}. Nothing:
-- all is gone. A call without p_gone returns the same once more.
create or replace function turnkeep.erase_next(p_company_id text, p_platform text, p_job_id uuid, p_gone jsonb, p_limit integer)
returns table (kind text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
  v_messages uuid[] := turnkeep.texts_of(coalesce(p_gone -> 'messages', '[]'))::uuid[];
  v_sessions uuid[] := turnkeep.texts_of(coalesce(p_gone -> 'sessions', '[]'))::uuid[];
  v_turns uuid[];
  v_removed uuid[];
  v_texts bigint;
  v_spent jsonb;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if v_messages <> '{}' then
    with gone as (
      delete from public.chat_turns t
      where t.company_id = p_company_id and t.platform = p_platform and (t.message_id = any (v_messages) or t.question_id = any (v_messages))
        and exists (
          select 1 from public.erased_sessions e
          where e.company_id = p_company_id and e.platform = p_platform and e.session_id = t.session_id and e.job_id = p_job_id
        )
      returning t.message_id, t.user_id, (t.opened_at at time zone 'UTC')::date as day, t.tokens
    )
    select array_agg(g.message_id), jsonb_agg(g) filter (where g.tokens is not null) into v_turns, v_spent from gone g;
    perform turnkeep.keep_spent(p_company_id, p_platform, v_spent);
    delete from public.chat_reply_events e
    where e.company_id = p_company_id and e.platform = p_platform and e.message_id = any (v_turns);
    with gone as (
      delete from public.chat_messages m using public.erased_sessions e
      where m.company_id = p_company_id and m.platform = p_platform and m.id = any (v_messages)
        and e.company_id = p_company_id and e.platform = p_platform and e.session_id = m.session_id and e.job_id = p_job_id
      returning m.id, m.content_key
    )
    select array_agg(g.id), count(g.content_key) into v_removed, v_texts from gone g;
    perform turnkeep.count_erased(p_company_id, p_platform, p_job_id, 'messages', coalesce(cardinality(v_removed), 0));
    perform turnkeep.count_erased(p_company_id, p_platform, p_job_id, 'turns', coalesce(cardinality(v_turns), 0));
    perform turnkeep.count_erased(p_company_id, p_platform, p_job_id, 'largeTexts', v_texts);
  end if;
  if p_gone ? 'archived' then -- Of the archive itself another step takes care.
    delete from public.archived_messages a using public.erased_sessions e
    where a.company_id = p_company_id and a.platform = p_platform and a.id = any (turnkeep.texts_of(p_gone -> 'archived')::uuid[])
      and e.company_id = p_company_id and e.platform = p_platform and e.session_id = a.session_id and e.job_id = p_job_id;
  end if;
  if v_sessions <> '{}' then
    delete from public.archived_threads a
    where a.company_id = p_company_id and a.platform = p_platform and a.session_id = any (v_sessions);
    with gone as (
      update public.erased_sessions e set cleared_at = clock_timestamp()
      where e.company_id = p_company_id and e.platform = p_platform and e.session_id = any (v_sessions) and e.job_id = p_job_id
        and e.cleared_at is null
      returning e.session_id
    ), rows as (
      delete from public.chat_sessions s using gone g
      where s.company_id = p_company_id and s.platform = p_platform and s.id = g.session_id
    )
    select array_agg(g.session_id) into v_removed from gone g;
    perform turnkeep.count_erased(p_company_id, p_platform, p_job_id, 'sessions', coalesce(cardinality(v_removed), 0));
  end if;

  return query
    select 'message', jsonb_build_object('id', w.id, 'session_id', w.session_id, 'thread_id', w.thread_id, 'content_key', w.content_key)
    from public.erased_sessions e
    cross join lateral (
      select m.id, m.session_id, m.thread_id, m.content_key from public.chat_messages m
      where m.company_id = p_company_id and m.platform = p_platform and m.session_id = e.session_id
      union all
      -- Not saved yet, or never: each stands beside what its turn will save.
      select t.message_id, t.session_id, t.thread_id, t.answer ->> 'content_key' from public.chat_turns t
      where t.company_id = p_company_id and t.platform = p_platform and t.session_id = e.session_id
      union all
      select t.question_id, t.session_id, t.thread_id, t.question ->> 'content_key' from public.chat_turns t
      where t.company_id = p_company_id and t.platform = p_platform and t.session_id = e.session_id and t.question is not null
    ) w
    where e.company_id = p_company_id and e.platform = p_platform and e.job_id = p_job_id and e.cleared_at is null
    order by w.session_id, w.id limit p_limit;
  if not found then
    return query
      select 'archived', jsonb_build_object('id', a.id, 'session_id', a.session_id, 'thread_id', coalesce((
        select t.thread_id from public.archived_threads t
        where t.company_id = p_company_id and t.platform = p_platform and t.session_id = a.session_id limit 1), 'main'))
      from public.erased_sessions e
      join public.archive_segments c on c.company_id = e.company_id and c.platform = e.platform and c.session_id = e.session_id
      join public.archived_messages a on a.company_id = e.company_id and a.platform = e.platform and a.id = any (c.message_ids)
        and a.segment_id = c.id
      where e.company_id = p_company_id and e.platform = p_platform and e.job_id = p_job_id and e.cleared_at is null
      order by a.session_id, a.id limit p_limit;
  end if;
  if not found then
    -- With their threads hundreds may be more than a response holds, which is 1 MiB.
    return query
      select 'session', s.body from (
        select n.body, sum(60 + turnkeep.response_bytes(n.body::text)) over (order by n.session_id) as bytes
        from (
          select e.session_id, jsonb_build_object('id', e.session_id, 'threads', array(
            select t.thread_id from public.archived_threads t
            where t.company_id = p_company_id and t.platform = p_platform and t.session_id = e.session_id limit 50)) as body
          from public.erased_sessions e
          where e.company_id = p_company_id and e.platform = p_platform and e.job_id = p_job_id and e.cleared_at is null
          order by e.session_id limit p_limit
        ) n
      ) s
      where s.bytes <= 900000;
  end if;
end $$;

-- What stands of a user beside sessions, p_limit rows at most of each: keys, usage (the tenant's totals stay, and of the running
-- month how many tokens it was). Returns how many are gone; 0: all.
create or replace function turnkeep.erase_user_rows(p_company_id text, p_platform text, p_job_id uuid, p_user_ids jsonb, p_cutoff timestamptz, p_limit integer)
returns integer
language plpgsql as $$
declare
  v_keys integer;
  v_days integer;
  v_spent jsonb;
  v_user_ids text[] := turnkeep.texts_of(p_user_ids);
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  delete from public.idempotency_keys k
  where k.company_id = p_company_id and k.platform = p_platform and k.ctid = any (array(
    select d.ctid from public.idempotency_keys d
    where d.company_id = p_company_id and d.platform = p_platform and d.user_id = any (v_user_ids)
      and d.created_at <= p_cutoff
    limit p_limit
  ));
  get diagnostics v_keys = row_count;
  with gone as (
    delete from public.usage_daily u
    where u.company_id = p_company_id and u.platform = p_platform and u.ctid = any (array(
      select d.ctid from public.usage_daily d
      where d.company_id = p_company_id and d.platform = p_platform and d.user_id = any (v_user_ids)
        and d.user_id <> '' and d.day <= (p_cutoff at time zone 'UTC')::date
      limit p_limit
    ))
    returning u.user_id, u.day, u.prompt_tokens + u.completion_tokens as tokens
  )
  select count(*), jsonb_agg(g) into v_days, v_spent from gone g;
  perform turnkeep.keep_spent(p_company_id, p_platform, v_spent);
  perform turnkeep.count_erased(p_company_id, p_platform, p_job_id, 'keys', v_keys);
  perform turnkeep.count_erased(p_company_id, p_platform, p_job_id, 'usageDays', v_days);
  return v_keys + v_days;
end $$;

-- Exports of a user that were asked for up to the cutoff: kind, id and the upload that one may be at. With p_gone, a JSON
-- array of their ids, they are forgotten.
create or replace function turnkeep.erase_exports(p_company_id text, p_platform text, p_job_id uuid, p_user_ids jsonb, p_cutoff timestamptz, p_gone jsonb)
returns table (id uuid, upload_id text)
language plpgsql as $$
#variable_conflict use_column
declare
  v_count integer;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if p_gone <> '[]' then
    delete from public.user_jobs j
    where j.company_id = p_company_id and j.platform = p_platform and j.kind = 'export'
      and j.user_id = any (turnkeep.texts_of(p_user_ids)) and j.id = any (turnkeep.texts_of(p_gone)::uuid[]);
    get diagnostics v_count = row_count;
    perform turnkeep.count_erased(p_company_id, p_platform, p_job_id, 'exports', v_count);
  end if;
  return query
    select j.id, j.progress ->> 'uploadId' from public.user_jobs j
    where j.company_id = p_company_id and j.platform = p_platform and j.kind = 'export'
      and j.user_id = any (turnkeep.texts_of(p_user_ids)) and j.created_at <= p_cutoff
    order by j.id limit 500;
end $$;

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

-- What is to be removed from the bucket.
create or replace function turnkeep.list_dropped_objects(p_company_id text, p_platform text, p_limit integer)
returns table (key text, upload_id text, was_complete boolean)
language plpgsql as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select o.key, o.upload_id, o.completed_at is not null from public.archive_objects o
    where o.company_id = p_company_id and o.platform = p_platform and o.state = 'dropped'
    order by o.completed_at is null, o.key limit p_limit;
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
    update public.archive_objects o
    -- It is as old as what it takes the place of: its time ends with that of the first one.
    set state = 'complete', upload_id = null, created_at = v_written_at, completed_at = now(), segments = v_segments, bytes = (p_new ->> 'bytes')::bigint,
      sha256 = p_new ->> 'sha256', messages = (
        select sum(c.messages) from public.archive_segments c
        where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_new ->> 'key'
      )
    where o.company_id = p_company_id and o.platform = p_platform and o.key = p_new ->> 'key';
  end if;
  update public.archive_objects o set state = 'dropped'
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key;
  return true;
end $$;
