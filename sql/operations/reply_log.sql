-- The reply log and the life of a turn after it was opened. Whoever writes holds the turn's lease at an epoch; every
-- write carries it and is refused when somebody else has taken the turn over since.

-- Appends batches [{"first": id of its first event, "events": […]}, …] and renews the lease; without batches it only
-- renews. Repeating it changes nothing. held is false when the turn has been taken over: nothing was written.
create or replace function turnkeep.append_events(p_company_id text, p_platform text, p_message_id uuid, p_epoch integer,
  p_lease_seconds double precision, p_batches jsonb)
returns table (held boolean, stop_requested boolean)
language plpgsql as $$
#variable_conflict use_column
declare
  v_stop boolean;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.chat_turns t set lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
  where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id
    and t.epoch = p_epoch and t.state <> 'finished'
  returning t.stop_requested into v_stop;
  if not found then
    return query select false, false;
    return;
  end if;
  insert into public.chat_reply_events (company_id, platform, message_id, first_event_id, events)
  select p_company_id, p_platform, p_message_id, (b ->> 'first')::integer, b -> 'events' from jsonb_array_elements(p_batches) b
  on conflict do nothing;
  return query select true, v_stop;
end $$;

-- Puts the whole answer beside the turn, with the log's last batches: from here on it will end with this answer,
-- whoever ends it. Returns the session's message count; null when the turn has been taken over.
create or replace function turnkeep.close_turn(p_company_id text, p_platform text, p_message_id uuid, p_epoch integer,
  p_lease_seconds double precision, p_batches jsonb, p_answer jsonb)
returns integer
language plpgsql as $$
declare
  v_turn public.chat_turns;
  v_count integer;
begin
  if not (select a.held from turnkeep.append_events(p_company_id, p_platform, p_message_id, p_epoch, p_lease_seconds, p_batches) a) then
    return null;
  end if;
  select * into v_turn from public.chat_turns t
  where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id;
  if v_turn.state = 'running' then -- A repeated close must not count its answer twice.
    update public.chat_turns t
    set state = 'closing', answer = p_answer,
      tokens = case when t.tokens is not null then turnkeep.tokens_of_answer(p_answer) end -- known by now
    where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id;
    update public.chat_sessions s
    set last_active_at = clock_timestamp(), expires_at = clock_timestamp() + interval '24 hours',
      message_count = s.message_count + 1
    where s.company_id = p_company_id and s.platform = p_platform and s.id = v_turn.session_id;
  end if;
  select s.message_count into v_count from public.chat_sessions s
  where s.company_id = p_company_id and s.platform = p_platform and s.id = v_turn.session_id;
  return coalesce(v_count, 0);
end $$;

-- The answer is durable in the queue: logs the terminal event, frees the thread, shows the answer to every reader.
-- False when the turn has been taken over.
create or replace function turnkeep.finish_turn(p_company_id text, p_platform text, p_message_id uuid, p_epoch integer,
  p_event_id integer, p_event jsonb)
returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.chat_turns t set state = 'finished', finished_at = clock_timestamp()
  where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id
    and t.epoch = p_epoch and t.state = 'closing';
  if not found then
    return false;
  end if;
  insert into public.chat_reply_events (company_id, platform, message_id, first_event_id, events)
  values (p_company_id, p_platform, p_message_id, p_event_id, jsonb_build_array(p_event))
  on conflict do nothing;
  return true;
end $$;

-- Takes over a turn whose lease has run out, for whoever comes first. Kind 'turn' with its row, its 'question' and
-- 'answer' as rows of their own (a row of the Data API holds 64 KB), and 'saved' with the answer where its writer got
-- it to the queue before it was lost; no row: finished, unknown, or still held.
create or replace function turnkeep.take_over_turn(p_company_id text, p_platform text, p_message_id uuid, p_lease_seconds double precision)
returns table (kind text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
  v_turn public.chat_turns;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.chat_turns t
  set epoch = t.epoch + 1, lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
  where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id
    and turnkeep.has_lapsed(t)
  returning t.* into v_turn;
  if found then
    return query select 'turn', to_jsonb(v_turn) - 'question' - 'answer';
    return query
      select r.kind, r.body from (values ('question', v_turn.question), ('answer', v_turn.answer)) as r (kind, body)
      where r.body is not null;
    return query
      select 'saved', to_jsonb(m) || jsonb_build_object('user_id', v_turn.user_id) from public.chat_messages m
      where m.company_id = p_company_id and m.platform = p_platform and m.id = p_message_id and m.status <> 'interrupted';
  end if;
end $$;

-- What a reader of the log needs: kind 'turn' first (absent: unknown here, or not this caller's), then 'events' with
-- the batches that hold events after p_after, as many as p_bytes allow but at least one.
create or replace function turnkeep.read_reply(p_company_id text, p_platform text, p_owner text, p_message_id uuid, p_after integer, p_bytes integer)
returns table (kind text, body jsonb)
language plpgsql stable as $$
#variable_conflict use_column
declare
  v_batch record;
  v_size integer;
  v_bytes integer := 0;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select 'turn', jsonb_build_object(
      'state', t.state, 'lapsed', turnkeep.has_lapsed(t), 'user_id', t.user_id,
      'erased', s.deleted_at is not null or coalesce(m.is_deleted, false))
    from public.chat_turns t
    left join public.chat_sessions s on s.company_id = p_company_id and s.platform = p_platform and s.id = t.session_id
    left join public.chat_messages m on m.company_id = p_company_id and m.platform = p_platform and m.id = t.message_id
    where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id
      and t.user_id = coalesce(p_owner, t.user_id);
  if not found then
    return;
  end if;
  for v_batch in
    select e.first_event_id, e.events, pg_column_size(e.events) as bytes from public.chat_reply_events e
    where e.company_id = p_company_id and e.platform = p_platform and e.message_id = p_message_id
      and e.first_event_id + jsonb_array_length(e.events) > p_after + 1
    order by e.first_event_id
  loop
    v_size := 100 + turnkeep.response_bytes(v_batch.events::text);
    v_bytes := v_bytes + v_size;
    exit when v_bytes > p_bytes and v_bytes > v_size;
    return query select 'events', jsonb_build_object('first', v_batch.first_event_id, 'events', v_batch.events);
  end loop;
end $$;

-- Asks the writer to stop. Returns the turn's state as it was ('saved' when only its message is left); null: unknown,
-- or not this caller's.
create or replace function turnkeep.request_stop(p_company_id text, p_platform text, p_owner text, p_message_id uuid)
returns table (state text, lapsed boolean)
language plpgsql as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    update public.chat_turns t set stop_requested = t.stop_requested or t.state = 'running'
    where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id
      and t.user_id = coalesce(p_owner, t.user_id)
    returning t.state, turnkeep.has_lapsed(t);
  if not found and turnkeep.may_touch(p_company_id, p_platform, p_owner, p_message_id) then
    return query select 'saved', false;
  end if;
end $$;

-- Which of the watched turns [{company_id, platform, message_id}, …], of any tenants, have not ended, and when their
-- leases run out; not above zero: they have.
create or replace function turnkeep.unfinished_turns(p_watched jsonb)
returns table (company_id text, platform text, message_id uuid, lapses_in_seconds double precision)
language plpgsql stable as $$
#variable_conflict use_column
declare
  v_tenant record;
begin
  for v_tenant in
    select w ->> 'company_id' as company_id, w ->> 'platform' as platform, array_agg((w ->> 'message_id')::uuid) as ids
    from jsonb_array_elements(p_watched) w group by 1, 2
  loop
    perform turnkeep.set_tenant(v_tenant.company_id, v_tenant.platform);
    return query
      select t.company_id, t.platform, t.message_id, extract(epoch from t.lease_until - clock_timestamp())::double precision
      from public.chat_turns t
      where t.company_id = v_tenant.company_id and t.platform = v_tenant.platform and t.message_id = any (v_tenant.ids)
        and t.state <> 'finished';
  end loop;
end $$;

-- A turn by its messages, for a request that is repeated after its log is gone: kind 'question' and 'answer' with
-- their messages, 'session' with {message_count}; 'archived' for each that has left (archived.sql).
create or replace function turnkeep.read_turn(p_company_id text, p_platform text, p_question_id uuid, p_answer_id uuid)
returns table (kind text, body jsonb)
language plpgsql stable as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query select 'question', to_jsonb(m) from turnkeep.find_message(p_company_id, p_platform, p_question_id) m;
  return query select 'answer', to_jsonb(m) from turnkeep.find_message(p_company_id, p_platform, p_answer_id) m;
  return query
    select 'archived', a || '{"wanted": 1}' from (select distinct i.id from unnest(array[p_question_id, p_answer_id]) i (id)) w,
      turnkeep.archived_message(p_company_id, p_platform, w.id) a
    where a is not null;
  return query
    select 'session', jsonb_build_object('message_count', s.message_count)
    from turnkeep.find_message(p_company_id, p_platform, p_question_id) m
    join public.chat_sessions s on s.company_id = p_company_id and s.platform = p_platform and s.id = m.session_id;
end $$;

-- Turns of any tenant that have lost their writers, oldest first.
create or replace function turnkeep.lapsed_turns(p_limit integer)
returns table (company_id text, platform text, message_id uuid)
language plpgsql stable as $$
#variable_conflict use_column
declare
  v_tenants public.tenants[];
  v_tenant public.tenants;
begin
  perform set_config('turnkeep.sweep', 'on', true);
  v_tenants := array(select t from public.tenants t);
  perform set_config('turnkeep.sweep', 'off', true);
  foreach v_tenant in array v_tenants loop
    perform turnkeep.set_tenant(v_tenant.company_id, v_tenant.platform);
    return query
      select t.company_id, t.platform, t.message_id from public.chat_turns t
      where t.company_id = v_tenant.company_id and t.platform = v_tenant.platform and t.state <> 'finished'
        and t.lease_until <= clock_timestamp()
      order by t.lease_until limit p_limit;
  end loop;
end $$;
