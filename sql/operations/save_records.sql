-- Of two versions of one message the better one stays, whichever comes first: complete over stopped over interrupted,
-- then the longer one. Arrays compare element by element.
create or replace function turnkeep.version_rank(p_status text, p_content text, p_content_key text) returns integer[]
language sql immutable as $$
  select array[
    case p_status when 'complete' then 3 when 'stopped' then 2 when 'interrupted' then 1 else 0 end,
    case when p_content_key is null then length(p_content) else 2147483647 end
  ]
$$;

-- Forgets turns that ended a day ago and are saved: their logs can no longer be resumed. It rides on saving, so that
-- nothing has to wake a database that nobody uses; bounded, so that it never delays a batch for long.
create or replace function turnkeep.sweep_turns(p_company_id text, p_platform text) returns void
language plpgsql as $$
declare
  v_old uuid[];
  v_left uuid[];
begin
  v_old := array(
    select t.message_id from public.chat_turns t
    where t.company_id = p_company_id and t.platform = p_platform and t.state = 'finished'
      and t.finished_at < now() - interval '24 hours'
      and exists (
        select 1 from public.chat_messages m
        where m.company_id = t.company_id and m.platform = t.platform and m.id = t.message_id
      )
    order by t.finished_at limit 200
  );
  if v_old <> '{}' then
    delete from public.chat_reply_events e
    where e.company_id = p_company_id and e.platform = p_platform and e.message_id = any (v_old);
    delete from public.chat_turns t
    where t.company_id = p_company_id and t.platform = p_platform and t.message_id = any (v_old);
  end if;
end $$;

-- Saves a batch of message records of any tenants in one statement. Repeating it, in any order and any split,
-- leaves the same rows: a message that is there is touched only by a better version of itself, and what people
-- have changed since (feedback, deletion, business fields) is never among the columns written here. What a record asks
-- for in on_save is done when its message is new: see MessageRecord in lambdas/protocol/queue.ts. What an answer used is counted
-- when it is new, and its turn holds nothing against the budgets any more. What has left for the archive is passed over, and
-- what was erased: that is returned, since texts of it may stand in the bucket, and the hot store may know its session.
--
-- Locks are taken in the order turns, messages, sessions, usage; whatever takes several of these keeps to it.
create or replace function turnkeep.save_records(p_records jsonb)
returns table (company_id text, platform text, id uuid, session_id uuid, thread_id text)
language plpgsql
-- Else a batch of a few records is planned anew each time, which takes longer than to save it.
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  -- As JSON, each look at the records would read all of them again. In the order in which rows are locked, which all that
  -- is made of it has as well.
  v_given turnkeep.message_record[] := array(
    select r from jsonb_populate_recordset(null::turnkeep.message_record, p_records) r order by r.company_id, r.platform, r.id);
  v_tenant record;
  v_records turnkeep.message_record[];
  v_best turnkeep.message_record[];
  v_asking turnkeep.message_record[];
  v_has record;
  v_new uuid[];
  v_counted jsonb;
  v_touched uuid[];
  v_used public.usage_daily[] := '{}';
begin
  -- Row-level security holds here too: one tenant at a time is set and can be written.
  for v_tenant in
    select r.company_id, r.platform, count(*) as records, count(distinct r.id) < count(*) as has_twins,
      array_agg(r.id) filter (where r.role = 'assistant') as answers, bool_or(r.on_save is not null) as asks,
      -- Nothing that is younger than a day leaves for the archive.
      array_agg(r.id) filter (where r.created_at <= now() - interval '12 hours') as old
    from unnest(v_given) r group by 1, 2 order by 1, 2
  loop
    perform turnkeep.set_tenant(v_tenant.company_id, v_tenant.platform);
    v_records := v_given;
    if v_tenant.records < cardinality(v_given) then
      v_records := array(
        select r from unnest(v_given) r where r.company_id = v_tenant.company_id and r.platform = v_tenant.platform);
    end if;
    -- It waits for an erasure that is just being asked for, and one that is asked for later waits for this transaction.
    perform turnkeep.lock_erasures(v_tenant.company_id, v_tenant.platform, true);
    -- One look at what most tenants have nothing of.
    select exists (
        select 1 from public.erased_sessions e where e.company_id = v_tenant.company_id and e.platform = v_tenant.platform
      ) or exists (
        select 1 from public.erasures e where e.company_id = v_tenant.company_id and e.platform = v_tenant.platform
      ) as erased, exists (
        select 1 from public.chat_turns t
        where t.company_id = v_tenant.company_id and t.platform = v_tenant.platform and t.tokens is not null
      ) as held_tokens, exists (
        select 1 from public.chat_turns t
        where t.company_id = v_tenant.company_id and t.platform = v_tenant.platform and t.state = 'finished'
          and t.finished_at < now() - interval '24 hours'
      ) as old_turns, not exists (
        select 1 from public.tenants t where t.company_id = v_tenant.company_id and t.platform = v_tenant.platform
      ) as no_name
    into v_has;
    if v_has.erased then
      return query
        select r.company_id, r.platform, r.id, r.session_id, r.thread_id from unnest(v_records) r
        where turnkeep.is_erased(r.company_id, r.platform, r.user_id, r.session_id, r.created_at);
      v_records := array(
        select r from unnest(v_records) r
        where not turnkeep.is_erased(r.company_id, r.platform, r.user_id, r.session_id, r.created_at));
      -- What the others used is counted where their turns are removed.
      v_tenant.answers := array(select r.id from unnest(v_records) r where r.role = 'assistant');
    end if;
    if v_has.held_tokens then
      perform turnkeep.release_tokens(v_tenant.company_id, v_tenant.platform, v_tenant.answers);
    end if;

    v_best := v_records;
    -- One statement cannot touch a row twice, so a message that is in the batch twice is reduced here.
    if v_tenant.has_twins then
      v_best := array(
        select distinct on (r.id) r from unnest(v_best) r
        order by r.id, turnkeep.version_rank(r.status, r.content, r.content_key) desc);
    end if;
    -- What has left for the archive stays there: a record that comes once more would bring back an old version. One that may be
    -- better finds its message here: whoever saves brings it back first (lambdas/replies/deliver.ts).
    if v_tenant.old is not null then
      v_best := array(
        select r from unnest(v_best) r
        where r.id <> all (array(
          select a.id from public.archived_messages a
          where a.company_id = v_tenant.company_id and a.platform = v_tenant.platform and a.id = any (v_tenant.old) and not exists (
            select 1 from public.chat_messages m
            where m.company_id = v_tenant.company_id and m.platform = v_tenant.platform and m.id = a.id
          ))));
    end if;

    with written as (
      insert into public.chat_messages as saved (id, company_id, platform, session_id, thread_id, role, content, content_key,
        token_count, response_time_ms, model, status, sources, metadata, parent_message_id, sequence_number, created_at)
      select r.id, r.company_id, r.platform, r.session_id, r.thread_id, r.role, r.content, r.content_key,
        r.token_count, r.response_time_ms, r.model, r.status, r.sources, r.metadata, r.parent_message_id, r.sequence_number, r.created_at
      from unnest(v_best) r
      on conflict (company_id, platform, id) do update
      set content = excluded.content, content_key = excluded.content_key, token_count = excluded.token_count,
        response_time_ms = excluded.response_time_ms, model = excluded.model, status = excluded.status,
        sources = excluded.sources, metadata = excluded.metadata, updated_at = now()
      where turnkeep.version_rank(excluded.status, excluded.content, excluded.content_key)
        > turnkeep.version_rank(saved.status, saved.content, saved.content_key)
      returning saved.id, saved.xmax = 0 as is_new -- Zero: nothing was there to be locked.
    )
    select array_agg(w.id) into v_new from written w where w.is_new;
    -- One may have left while this waited for its row. The batch comes again, as after any conflict.
    if v_tenant.old && v_new then
      perform 1 from public.archived_messages a
      where a.company_id = v_tenant.company_id and a.platform = v_tenant.platform and a.id = any (v_tenant.old) and a.id = any (v_new);
      if found then
        raise exception using errcode = '40001', message = 'messages have left meanwhile';
      end if;
    end if;

    -- How many of the new ones nobody has counted yet, by session.
    v_counted := '{}';
    if v_tenant.asks then
      v_asking := array(select r from unnest(v_records) r where r.on_save is not null);
      select coalesce(jsonb_object_agg(c.session_id, c.messages), '{}') into v_counted from (
        select r.session_id, count(distinct r.id) as messages from unnest(v_asking) r
        where r.id in (select n from unnest(v_new) n) group by 1
      ) c;
    end if;

    if v_has.no_name then
      insert into public.tenants (company_id, platform) values (v_tenant.company_id, v_tenant.platform) on conflict do nothing;
    end if;

    -- In phase 1 the turn has moved its session's clock already: a row that would stay as it is need not be locked.
    v_touched := array(
      select distinct r.session_id from unnest(v_records) r
      where v_counted ? r.session_id::text or not exists (
        select 1 from public.chat_sessions s
        where s.company_id = v_tenant.company_id and s.platform = v_tenant.platform and s.id = r.session_id
          and s.last_active_at >= r.created_at
      ));
    -- A message is activity: it carries the session's clock forward, never back. A message that arrives before its
    -- session's own row makes one.
    if v_touched <> '{}' then
      insert into public.chat_sessions as session (id, company_id, platform, user_id, channel, title, created_at, last_active_at,
        expires_at, message_count)
      select r.session_id, v_tenant.company_id, v_tenant.platform, min(r.user_id), min(r.on_save ->> 'channel'),
        -- Records come in any order: the first question's title, and not the first one's to come.
        (array_agg(r.on_save ->> 'title' order by r.created_at)
          filter (where r.sequence_number = 1 and r.on_save ->> 'title' is not null))[1],
        min(r.created_at), max(r.created_at), max(r.created_at) + interval '24 hours', count(distinct r.id)
      from unnest(v_records) r
      where r.session_id in (select t from unnest(v_touched) t)
      group by r.session_id order by r.session_id
      on conflict (company_id, platform, id) do update
      set last_active_at = greatest(session.last_active_at, excluded.last_active_at),
        expires_at = case when excluded.last_active_at > session.last_active_at then excluded.expires_at else session.expires_at end,
        title = coalesce(session.title, excluded.title),
        message_count = session.message_count + coalesce((v_counted ->> session.id::text)::integer, 0)
      where excluded.last_active_at > session.last_active_at or v_counted ? session.id::text;
    end if;

    if v_tenant.asks then
      insert into public.idempotency_keys (company_id, platform, user_id, key, body_hash, session_id, user_message_id, message_id)
      select v_tenant.company_id, v_tenant.platform, c.caller, c.key, c.body_hash, r.session_id, r.id, c.message_id
      from unnest(v_asking) r, jsonb_to_record(r.on_save -> 'claim') as c (caller text, key text, body_hash text, message_id uuid)
      where r.on_save ? 'claim'
      on conflict do nothing;

      perform turnkeep.audit_other(v_tenant.company_id, v_tenant.platform, r.on_save -> 'audit', r.on_save -> 'audit' ->> 'action',
        r.user_id, r.session_id, r.id)
      from (
        select distinct on (r.id) r.* from unnest(v_asking) r where r.on_save ? 'audit' and r.id in (select n from unnest(v_new) n)
      ) r;
    end if;

    if v_has.old_turns then
      perform turnkeep.sweep_turns(v_tenant.company_id, v_tenant.platform);
    end if;
    v_used := v_used || array(select u from turnkeep.usage_of(v_best, v_new) u);
  end loop;

  -- Every save of a tenant waits for the tenant's row of today: last, when nothing else is to do.
  for v_tenant in select distinct u.company_id, u.platform from unnest(v_used) u order by 1, 2 loop
    perform turnkeep.add_usage(v_tenant.company_id, v_tenant.platform, v_used);
  end loop;
end $$;
