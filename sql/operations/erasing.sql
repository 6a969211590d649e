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
