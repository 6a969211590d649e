-- Bytes of a JSON text in the Data API's response, which holds 1 MiB, and holds it as JSON within JSON within JSON: a quotation
-- mark has three escapes before it.
create or replace function turnkeep.response_bytes(p_json text) returns integer
language sql stable as $$ select 3 * octet_length(to_json(p_json)::text) - 2 * octet_length(p_json) $$;

-- The same of a message: what is beside its text takes less than 2,000.
create or replace function turnkeep.response_bytes(p_message public.chat_messages) returns integer
language sql stable as $$
  select 2000 + turnkeep.response_bytes(to_json(p_message.content)::text) + turnkeep.response_bytes(p_message.metadata::text)
    + turnkeep.response_bytes(p_message.sources::text)
$$;

-- Messages from one towards the first question, newest first, as they are: deleted and empty ones, too, since whoever
-- walks over them has to know them. Stops at p_bytes of the response. Raises TK001 archived where one has left; with
-- p_without_archived it ends there.
create or replace function turnkeep.chain(p_company_id text, p_platform text, p_from uuid, p_count integer, p_bytes integer,
  p_without_archived boolean)
returns setof public.chat_messages
language plpgsql stable as $$
declare
  v_message public.chat_messages;
  v_next uuid := p_from;
  v_bytes integer := 0;
begin
  for step in 1 .. p_count loop
    exit when v_next is null;
    select * into v_message from turnkeep.find_message(p_company_id, p_platform, v_next);
    if not found then
      if not p_without_archived then
        perform turnkeep.refuse_archived(p_company_id, p_platform, v_next);
      end if;
      exit;
    end if;
    v_bytes := v_bytes + turnkeep.response_bytes(v_message);
    exit when v_bytes > p_bytes;
    return next v_message;
    v_next := v_message.parent_message_id;
  end loop;
end $$;

-- What a cache has to know of a session and a thread to open turns in it. p_request: session_id, thread_id, from (a
-- message that must be there, or null), named (the client named it as the parent), owner, channel, title and opened_at (for a
-- session that is not there; without an owner none is made, nor for a turn that was opened before its owner was erased), owned_by,
-- count (0: nor the newest answer) and bytes of messages, without_archived (as open_turn takes it; the newest answer may then be one
-- of which only its place is known).
-- Rows by kind:
--   refused  {code, field?, message_id?}: as open_turn would;
--   lapsed   {message_id}: a turn that was opened here has lost its writer;
--   archived {wanted, …}: as open_turn says it;
--   session  {user_id, created, known, message_count, newest_id, newest_at (ms)}, followed by
--   message  the newest answer and what leads to it, and the same of the message that must be there, if it is.
create or replace function turnkeep.load_session(p_company_id text, p_platform text, p_request jsonb)
returns table (kind text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
  v_session_id uuid := (p_request ->> 'session_id')::uuid;
  v_thread_id text := p_request ->> 'thread_id';
  v_from uuid := (p_request ->> 'from')::uuid;
  v_named boolean := (p_request ->> 'named')::boolean;
  v_count integer := (p_request ->> 'count')::integer;
  v_bytes integer := (p_request ->> 'bytes')::integer;
  v_without_archived boolean := coalesce((p_request ->> 'without_archived')::boolean, false);
  v_session public.chat_sessions;
  v_newest public.chat_messages;
  v_messages public.chat_messages[];
  v_busy public.chat_turns;
  v_created boolean := false;
  v_now timestamptz;
  v_detail text;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if p_request ->> 'owner' is not null then
    perform turnkeep.lock_erasures(p_company_id, p_platform, true);
    v_now := clock_timestamp();
  end if;
  select * into v_session from public.chat_sessions s
  where s.company_id = p_company_id and s.platform = p_platform and s.id = v_session_id;
  if not found and p_request ->> 'owner' is not null and not turnkeep.is_erased(
    p_company_id, p_platform, p_request ->> 'owner', v_session_id, (p_request ->> 'opened_at')::timestamptz)
  then
    begin
      insert into public.chat_sessions (id, company_id, platform, user_id, channel, title, created_at, last_active_at, expires_at)
      values (v_session_id, p_company_id, p_platform, p_request ->> 'owner', p_request ->> 'channel', p_request ->> 'title',
        v_now, v_now, v_now + interval '24 hours')
      on conflict do nothing;
      v_created := found;
      -- Only the insert tells whether the id is another tenant's. A message cannot be in a session that was not there.
      if v_created and v_from is not null then
        raise exception using errcode = 'TK001', message = 'invalid_request';
      end if;
    exception when sqlstate 'TK001' then
      return query select 'refused', '{"code": "invalid_request", "field": "parentMessageId"}'::jsonb;
      return;
    end;
    if v_created then
      insert into public.tenants (company_id, platform) values (p_company_id, p_platform) on conflict do nothing;
    end if;
    select * into v_session from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform and s.id = v_session_id;
  end if;
  if v_session.id is null or v_session.deleted_at is not null
    or v_session.user_id <> coalesce(p_request ->> 'owned_by', v_session.user_id) then
    return query select 'refused', '{"code": "not_found"}'::jsonb;
    return;
  end if;
  if v_session.ended_at is not null then
    return query select 'refused', '{"code": "ended"}'::jsonb;
    return;
  end if;

  -- Turns that were opened here and have not ended.
  select t.* into v_busy from public.chat_turns t
  where t.company_id = p_company_id and t.platform = p_platform and t.session_id = v_session_id
    and t.thread_id = v_thread_id and t.state <> 'finished'
    and (not v_named or t.message_id = v_from or t.question_id = v_from)
  order by t.lease_until desc limit 1;
  if found and turnkeep.has_lapsed(v_busy) then
    return query select 'lapsed', jsonb_build_object('message_id', v_busy.message_id);
    return;
  elsif found and (not v_named or v_busy.question_id = v_from) then
    return query select 'refused', jsonb_build_object('code', 'reply_in_progress', 'message_id', v_busy.message_id);
    return;
  end if;

  begin
    if v_count > 0 then
      select * into v_newest from turnkeep.newest_answer(
        p_company_id, p_platform, v_session_id, v_thread_id, v_without_archived);
    end if;
    if v_newest.id is not null then
      v_messages := array[v_newest] || array(
        select m from turnkeep.chain(
          p_company_id, p_platform, v_newest.parent_message_id, v_count - 1, v_bytes, v_without_archived) m);
    end if;
    if v_without_archived and v_named then
      perform turnkeep.refuse_archived(p_company_id, p_platform, v_from, v_session_id);
    end if;
    if v_from is distinct from v_newest.id and not exists (
      select 1 from public.archived_messages a
      where a.company_id = p_company_id and a.platform = p_platform and a.id = v_from and a.session_id <> v_session_id
    ) then
      v_messages := v_messages || array(
        select m from turnkeep.chain(p_company_id, p_platform, v_from, v_count, v_bytes, v_without_archived) m
        where m.session_id = v_session_id and m.thread_id = v_thread_id);
    end if;
  exception when sqlstate 'TK001' then
    get stacked diagnostics v_detail = pg_exception_detail;
    return query select 'archived', v_detail::jsonb || jsonb_build_object('wanted', v_count);
    return;
  end;
  return query select 'session', jsonb_build_object(
    'user_id', v_session.user_id, 'created', v_created, 'known', not v_created and v_session.expires_at > now(),
    'message_count', v_session.message_count, 'newest_id', v_newest.id,
    'newest_at', floor(extract(epoch from v_newest.created_at) * 1000));
  return query select 'message', to_jsonb(m) from unnest(v_messages) m;
end $$;

-- The turn that an idempotency key names, if it is older than a cache remembers.
create or replace function turnkeep.find_key(p_company_id text, p_platform text, p_caller text, p_key text)
returns table (body_hash text, session_id uuid, user_message_id uuid, message_id uuid)
language plpgsql stable as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select k.body_hash, k.session_id, k.user_message_id, k.message_id from public.idempotency_keys k
    where k.company_id = p_company_id and k.platform = p_platform and k.user_id = p_caller and k.key = p_key;
end $$;
