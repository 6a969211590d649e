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
-- for in on_save is done when its message is new: see MessageRecord in lambdas/protocol.ts. What an answer used is counted
-- when it is new, and its turn holds nothing against the budgets any more. What was erased, and what has left for the archive,
-- is passed over. Returns how many records there were.
--
-- Locks are taken in the order turns, messages, sessions, usage; whatever takes several of these keeps to it.
create or replace function turnkeep.save_messages(p_records jsonb) returns integer
language plpgsql as $$
declare
  v_tenant record;
  v_new uuid[];
  v_old uuid[];
  v_left uuid[];
  v_counted jsonb;
  v_answers jsonb;
  v_usage jsonb := '[]';
begin
  -- Row-level security holds here too: one tenant at a time is set and can be written.
  for v_tenant in
    select r ->> 'company_id' as company_id, r ->> 'platform' as platform, jsonb_agg(r) as records,
      jsonb_agg(r - '{content,metadata,sources}'::text[]) filter (where r ? 'on_save') as asking,
      array_agg((r ->> 'id')::uuid) filter (where r ->> 'role' = 'assistant') as answers,
      array_agg((r ->> 'id')::uuid) filter (where (r ->> 'created_at')::timestamptz <= now() - interval '12 hours') as old,
      jsonb_object_agg(r ->> 'session_id', r -> 'user_id') as owners
    from jsonb_array_elements(turnkeep.without_erased(p_records)) r group by 1, 2 order by 1, 2
  loop
    perform turnkeep.set_tenant(v_tenant.company_id, v_tenant.platform);
    perform turnkeep.release_tokens(v_tenant.company_id, v_tenant.platform, v_tenant.answers);

    -- What has left for the archive stays there: a record that comes once more would bring back an old version. Nothing
    -- that is younger than a day leaves.
    v_left := array(
      select a.id from public.archived_messages a
      where a.company_id = v_tenant.company_id and a.platform = v_tenant.platform and a.id = any (v_tenant.old) and not exists (
        select 1 from public.chat_messages m
        where m.company_id = v_tenant.company_id and m.platform = v_tenant.platform and m.id = a.id
      )
    );

    with written as (insert into public.chat_messages as saved (id, company_id, platform, session_id, thread_id, role, content, content_key,
      token_count, response_time_ms, model, status, sources, metadata, parent_message_id, sequence_number, created_at)
    -- One statement cannot touch a row twice, so a message that is in the batch twice is reduced here.
    select distinct on (r.id) r.id, v_tenant.company_id, v_tenant.platform, r.session_id, r.thread_id, r.role, r.content,
      r.content_key, r.token_count, r.response_time_ms, r.model, r.status, r.sources, r.metadata, r.parent_message_id,
      r.sequence_number, r.created_at
    from jsonb_populate_recordset(null::public.chat_messages, v_tenant.records) r
    where r.id <> all (v_left)
    order by r.id, turnkeep.version_rank(r.status, r.content, r.content_key) desc
    on conflict (company_id, platform, id) do update
    set content = excluded.content, content_key = excluded.content_key, token_count = excluded.token_count,
      response_time_ms = excluded.response_time_ms, model = excluded.model, status = excluded.status,
      sources = excluded.sources, metadata = excluded.metadata, updated_at = now()
    where turnkeep.version_rank(excluded.status, excluded.content, excluded.content_key)
      > turnkeep.version_rank(saved.status, saved.content, saved.content_key)
    returning saved as message, saved.xmax = 0 as is_new) -- Zero: nothing was there to be locked.
    select array_agg((w.message).id), jsonb_agg(turnkeep.usage_of(w.message, v_tenant.owners ->> (w.message).session_id::text))
      filter (where (w.message).role = 'assistant'),
      array_agg((w.message).id) filter (where (w.message).created_at <= now() - interval '12 hours')
    into v_new, v_answers, v_old from written w where w.is_new;
    -- One may have left while this waited for its row. The batch comes again, as after any conflict.
    if v_old is not null and exists (
      select 1 from public.archived_messages a
      where a.company_id = v_tenant.company_id and a.platform = v_tenant.platform and a.id = any (v_old)
    ) then
      raise exception using errcode = '40001', message = 'messages have left meanwhile';
    end if;

    -- How many of the new ones nobody has counted yet, by session.
    select coalesce(jsonb_object_agg(c.session_id, c.messages), '{}') into v_counted from (
      select r.session_id, count(distinct r.id) as messages
      from jsonb_to_recordset(v_tenant.asking) as r (id uuid, session_id uuid) join unnest(v_new) as n (id) on n.id = r.id
      group by 1
    ) c;

    insert into public.tenants (company_id, platform) values (v_tenant.company_id, v_tenant.platform) on conflict do nothing;

    -- A message is activity: it carries the session's clock forward, never back. A message that arrives before its
    -- session's own row makes one.
    insert into public.chat_sessions as session (id, company_id, platform, user_id, channel, title, created_at, last_active_at,
      expires_at, message_count)
    select r.session_id, v_tenant.company_id, v_tenant.platform, min(r.user_id), min(r.on_save ->> 'channel'),
      -- Records come in any order: the first question's title, and not the first one's to come.
      (array_agg(r.on_save ->> 'title' order by r.created_at)
        filter (where r.sequence_number = 1 and r.on_save ->> 'title' is not null))[1],
      min(r.created_at), max(r.created_at), max(r.created_at) + interval '24 hours', count(distinct r.id)
    from jsonb_to_recordset(v_tenant.records) as r (id uuid, session_id uuid, user_id text, created_at timestamptz, sequence_number integer, on_save jsonb)
    group by r.session_id order by r.session_id
    on conflict (company_id, platform, id) do update
    set last_active_at = greatest(session.last_active_at, excluded.last_active_at),
      expires_at = case when excluded.last_active_at > session.last_active_at then excluded.expires_at else session.expires_at end,
      title = coalesce(session.title, excluded.title),
      message_count = session.message_count + coalesce((v_counted ->> session.id::text)::integer, 0)
    where excluded.last_active_at > session.last_active_at or v_counted ? session.id::text;

    insert into public.idempotency_keys (company_id, platform, user_id, key, body_hash, session_id, user_message_id, message_id)
    select v_tenant.company_id, v_tenant.platform, c.caller, c.key, c.body_hash, r.session_id, r.id, c.message_id
    from jsonb_to_recordset(v_tenant.asking) as r (id uuid, session_id uuid, on_save jsonb),
      jsonb_to_record(r.on_save -> 'claim') as c (caller text, key text, body_hash text, message_id uuid)
    where r.on_save ? 'claim'
    on conflict do nothing;

    perform turnkeep.audit_other(v_tenant.company_id, v_tenant.platform, r.on_save -> 'audit', r.on_save -> 'audit' ->> 'action',
      r.user_id, r.session_id, r.id)
    from (
      select distinct on (r.id) r.* from jsonb_to_recordset(v_tenant.asking)
        as r (id uuid, session_id uuid, user_id text, on_save jsonb) join unnest(v_new) as n (id) on n.id = r.id
      where r.on_save ? 'audit'
    ) r;

    perform turnkeep.sweep_turns(v_tenant.company_id, v_tenant.platform);

    if v_answers is not null then
      v_usage := v_usage || jsonb_build_object(
        'company_id', v_tenant.company_id, 'platform', v_tenant.platform, 'answers', v_answers);
    end if;
  end loop;

  perform turnkeep.add_usage(u ->> 'company_id', u ->> 'platform', u -> 'answers') from jsonb_array_elements(v_usage) u;
  return jsonb_array_length(p_records); -- The Data API cannot return nothing.
end $$;
