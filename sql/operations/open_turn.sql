-- In the place of a thread's newest answer that the archive cannot give: its link and its position, and nothing of what it
-- says. The position is known where a row of it is there, because it was deleted; else it is the last one of its segment, and of
-- one that was purged since, which is in none, of its session's.
create or replace function turnkeep.unread_answer(p_left public.archived_threads) returns public.chat_messages
language sql stable as $$
  select jsonb_populate_record(null::public.chat_messages, jsonb_build_object(
    'company_id', p_left.company_id, 'platform', p_left.platform, 'id', p_left.newest_answer_id, 'session_id', p_left.session_id,
    'thread_id', p_left.thread_id, 'role', 'assistant', 'content', '', 'status', 'complete', 'sources', '[]'::jsonb,
    'metadata', '{}'::jsonb, 'is_deleted', false, 'parent_message_id', m.parent_message_id,
    'sequence_number', coalesce(m.sequence_number, (
      select max(c.last_sequence) from public.archive_segments c
      where c.company_id = p_left.company_id and c.platform = p_left.platform and c.session_id = p_left.session_id
        and c.state = 'live' and c.id = coalesce(a.segment_id, c.id)
    )), 'created_at', p_left.newest_answer_at))
  from (select) one
  left join public.archived_messages a on a.company_id = p_left.company_id and a.platform = p_left.platform
    and a.id = p_left.newest_answer_id
  left join public.chat_messages m on m.company_id = p_left.company_id and m.platform = p_left.platform
    and m.id = p_left.newest_answer_id
$$;

-- The newest answer of a thread: what a question follows when it names nothing else. Raises TK001 archived where it has
-- left, as refuse_archived does, or where one that had left was put back and deleted, and only the archive knows which is
-- the next: {session_id, thread_id, newest_answer_id}. With p_without_archived what stands in its place is returned instead.
create or replace function turnkeep.newest_answer(p_company_id text, p_platform text, p_session_id uuid, p_thread_id text,
  p_without_archived boolean)
returns setof public.chat_messages
language plpgsql stable as $$
declare
  v_saved public.chat_messages;
  v_since timestamptz;
  v_recent public.chat_turns;
  v_left public.archived_threads;
begin
  select * into v_saved from public.chat_messages m
  where m.company_id = p_company_id and m.platform = p_platform and m.session_id = p_session_id
    and m.thread_id = p_thread_id and m.role = 'assistant' and not m.is_deleted
  order by m.created_at desc, m.id desc limit 1;
  -- As a variable: row-level security keeps what it does not know to tell nothing, as coalesce, from an index.
  v_since := coalesce(v_saved.created_at, '-infinity');
  select * into v_recent from public.chat_turns t
  where t.company_id = p_company_id and t.platform = p_platform and t.session_id = p_session_id
    and t.thread_id = p_thread_id and t.state = 'finished'
    -- Of a long thread all other turns of a day would be looked at.
    and t.opened_at >= v_since
    and not exists (
      select 1 from public.chat_messages m
      where m.company_id = t.company_id and m.platform = t.platform and m.id = t.message_id
    )
  order by t.opened_at desc, t.message_id desc limit 1;
  select * into v_left from public.archived_threads t
  where t.company_id = p_company_id and t.platform = p_platform and t.session_id = p_session_id and t.thread_id = p_thread_id
    and (v_saved.id is null or (t.newest_answer_at, t.newest_answer_id) > (v_saved.created_at, v_saved.id))
    and (v_recent.message_id is null or t.newest_answer_at > v_recent.opened_at);
  if found and p_without_archived then
    return next turnkeep.unread_answer(v_left);
    return;
  elsif found then
    perform turnkeep.refuse_archived(p_company_id, p_platform, v_left.newest_answer_id);
    raise exception using errcode = 'TK001', message = 'archived', detail = jsonb_build_object(
      'session_id', p_session_id, 'thread_id', p_thread_id, 'newest_answer_id', v_left.newest_answer_id)::text;
  end if;
  if v_recent.message_id is not null then
    return next turnkeep.unsaved_message(v_recent.answer);
  elsif v_saved.id is not null then
    return next v_saved;
  end if;
end $$;

-- Up to p_count messages, newest first, from p_from towards the first question. Deleted and empty ones are passed
-- over but followed. Stops at p_bytes of the response. Raises TK001 archived where one
-- has left; with p_without_archived it ends there.
create or replace function turnkeep.history(p_company_id text, p_platform text, p_from uuid, p_count integer, p_bytes integer,
  p_without_archived boolean)
returns setof public.chat_messages
language plpgsql stable as $$
declare
  v_message public.chat_messages;
  v_next uuid := p_from;
  v_left integer := p_count;
  v_bytes integer := 0;
  v_steps integer := 0;
begin
  while v_next is not null and v_left > 0 and v_steps < p_count * 4 loop
    v_steps := v_steps + 1;
    select * into v_message from turnkeep.find_message(p_company_id, p_platform, v_next);
    if not found then
      if not p_without_archived then
        perform turnkeep.refuse_archived(p_company_id, p_platform, v_next);
      end if;
      exit;
    end if;
    v_next := v_message.parent_message_id;
    continue when v_message.is_deleted or (v_message.content = '' and v_message.content_key is null);
    v_bytes := v_bytes + turnkeep.response_bytes(v_message);
    exit when v_bytes > p_bytes;
    v_left := v_left - 1;
    return next v_message;
  end loop;
end $$;

-- Opens a turn: the one conditional write before any other effect. In this order it
--   claims the idempotency key, finds or makes the session, takes the thread, places the question, and holds what the
--   turn may use against the token budgets.
-- Rows come back by kind:
--   turn     {session_id, created, known (it was there, and not expired), epoch, question, answer_sequence_number,
--            opened_at}, followed by
--   settings what the tenant has set, where it has set something, and
--   history  the messages before the question, newest first, as many as the tenant wants;
--   claimed  {body_matches, session_id, user_message_id, message_id}: the key names a turn already;
--   lapsed   {message_id}: a turn in the way has lost its writer; rescue it and come again. Nothing was changed;
--   archived {wanted, …}: a message that is needed has left (archived.sql); put it back, with as many as are wanted of those
--            before it, and come again. Nothing was changed;
--   refused  {code, field?, message_id?}: nothing was changed.
-- p_request: session_id (of the session or for a new one), session_exists (the client named it), owner (the user a
--   new session belongs to), owned_by (null, or the only user whose session will do), asker ({user_id, role}, who is
--   recorded where the session is another user's), caller (whose keys these are), key and body_hash (or null), thread_id,
--   channel, title, message_id, question (a message record without position), parent_message_id (absent: the newest answer),
--   lease_seconds, history_count, history_bytes, spending (as turnkeep.reserve_tokens takes it; absent: no budget is asked),
--   without_archived (of what is before the question only what is here; a parent that the client names has to be here all
--   the same).
create or replace function turnkeep.open_turn(p_company_id text, p_platform text, p_request jsonb)
returns table (kind text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
  v_session_id uuid := (p_request ->> 'session_id')::uuid;
  v_thread_id text := p_request ->> 'thread_id';
  v_message_id uuid := (p_request ->> 'message_id')::uuid;
  v_question jsonb := p_request -> 'question';
  v_parent_id uuid := (p_request ->> 'parent_message_id')::uuid;
  v_without_archived boolean := coalesce((p_request ->> 'without_archived')::boolean, false);
  v_claim public.idempotency_keys;
  v_session public.chat_sessions;
  v_parent public.chat_messages;
  v_busy public.chat_turns;
  v_created boolean := false;
  v_position integer;
  v_now timestamptz;
  v_code text;
  v_detail text;
  v_settings jsonb;
  v_history public.chat_messages[];
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  -- Before anything else is locked, and only where a session is to be made.
  perform 1 from public.chat_sessions s where s.company_id = p_company_id and s.platform = p_platform and s.id = v_session_id;
  if not found then
    perform turnkeep.lock_erasures(p_company_id, p_platform, true);
  end if;

  begin -- A refusal raised in here takes back whatever was written before it.
    if p_request ->> 'key' is not null then
      insert into public.idempotency_keys (company_id, platform, user_id, key, body_hash, session_id, user_message_id, message_id)
      values (p_company_id, p_platform, p_request ->> 'caller', p_request ->> 'key', p_request ->> 'body_hash',
        v_session_id, (v_question ->> 'id')::uuid, v_message_id)
      on conflict do nothing;
      if not found then
        select * into strict v_claim from public.idempotency_keys k
        where k.company_id = p_company_id and k.platform = p_platform and k.user_id = p_request ->> 'caller'
          and k.key = p_request ->> 'key';
        return query select 'claimed', jsonb_build_object(
          'body_matches', v_claim.body_hash = p_request ->> 'body_hash', 'session_id', v_claim.session_id,
          'user_message_id', v_claim.user_message_id, 'message_id', v_claim.message_id);
        return;
      end if;
    end if;

    -- The row lock makes the turns of a session open one after the other; it is held for this statement only.
    select * into v_session from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform and s.id = v_session_id for update;
    if not found then
      if turnkeep.is_erased_session(p_company_id, p_platform, v_session_id) then
        raise exception using errcode = 'TK001', message = 'not_found', detail = '{}';
      end if;
      insert into public.tenants (company_id, platform) values (p_company_id, p_platform) on conflict do nothing;
      v_now := clock_timestamp();
      insert into public.chat_sessions (id, company_id, platform, user_id, channel, title, created_at, last_active_at, expires_at)
      values (v_session_id, p_company_id, p_platform, p_request ->> 'owner', p_request ->> 'channel', p_request ->> 'title',
        v_now, v_now, v_now + interval '24 hours')
      on conflict do nothing;
      v_created := found;
      select * into v_session from public.chat_sessions s
      where s.company_id = p_company_id and s.platform = p_platform and s.id = v_session_id for update;
      if not found then -- The id is another tenant's.
        raise exception using errcode = 'TK001', message = 'not_found', detail = '{}';
      end if;
    end if;
    if v_session.deleted_at is not null or v_session.user_id <> coalesce(p_request ->> 'owned_by', v_session.user_id) then
      raise exception using errcode = 'TK001', message = 'not_found', detail = '{}';
    end if;
    if v_session.ended_at is not null then
      raise exception using errcode = 'TK001', message = 'ended', detail = '{}';
    end if;

    -- Without a parent the thread takes one answer at a time; a named parent only must not be running itself.
    select t.* into v_busy from public.chat_turns t
    where t.company_id = p_company_id and t.platform = p_platform and t.session_id = v_session_id
      and t.thread_id = v_thread_id and t.state <> 'finished'
      and (not p_request ? 'parent_message_id' or t.message_id = v_parent_id)
    order by t.lease_until desc limit 1;
    if found and turnkeep.has_lapsed(v_busy) then
      raise exception using errcode = 'TK001', message = 'lapsed',
        detail = jsonb_build_object('message_id', v_busy.message_id)::text;
    elsif found and not p_request ? 'parent_message_id' then
      raise exception using errcode = 'TK001', message = 'reply_in_progress',
        detail = jsonb_build_object('message_id', v_busy.message_id)::text;
    end if;

    if not p_request ? 'parent_message_id' then
      select * into v_parent from turnkeep.newest_answer(p_company_id, p_platform, v_session_id, v_thread_id, v_without_archived);
    elsif v_parent_id is not null then
      select * into v_parent from turnkeep.find_message(p_company_id, p_platform, v_parent_id);
      if not found then
        perform turnkeep.refuse_archived(p_company_id, p_platform, v_parent_id, v_session_id);
      end if;
      if v_parent.id is null or v_parent.session_id <> v_session_id or v_parent.thread_id <> v_thread_id
        or v_parent.role <> 'assistant' or v_parent.is_deleted then
        raise exception using errcode = 'TK001', message = 'invalid_request', detail = '{"field": "parentMessageId"}';
      end if;
    end if;

    v_now := date_trunc('milliseconds', clock_timestamp());
    v_position := coalesce(v_parent.sequence_number, 0) + 1;
    v_question := v_question || jsonb_build_object(
      'session_id', v_session_id, 'user_id', v_session.user_id, 'parent_message_id', v_parent.id,
      'sequence_number', v_position, 'created_at', v_now);
    insert into public.chat_turns (company_id, platform, message_id, question_id, session_id, thread_id, user_id, state,
      lease_until, question, sequence_number, opened_at)
    values (p_company_id, p_platform, v_message_id, (v_question ->> 'id')::uuid, v_session_id, v_thread_id,
      v_session.user_id, 'running', v_now + make_interval(secs => (p_request ->> 'lease_seconds')::double precision),
      v_question, v_position + 1, v_now);
    update public.chat_sessions s
    set last_active_at = v_now, expires_at = v_now + interval '24 hours', is_active = true,
      message_count = s.message_count + 1, title = coalesce(s.title, p_request ->> 'title')
    where s.company_id = p_company_id and s.platform = p_platform and s.id = v_session_id;

    v_settings := turnkeep.settings_of(p_company_id, p_platform);
    v_history := array(select m from turnkeep.history(p_company_id, p_platform, v_parent.id,
      coalesce((v_settings ->> 'historyMessages')::integer, (p_request ->> 'history_count')::integer),
      (p_request ->> 'history_bytes')::integer, v_without_archived) m);
    perform turnkeep.reserve_tokens(p_company_id, p_platform, v_message_id, (v_question ->> 'token_count')::bigint, v_history,
      v_settings, p_request -> 'spending');
  exception when sqlstate 'TK001' then
    get stacked diagnostics v_code = message_text, v_detail = pg_exception_detail;
    if v_code = 'archived' then
      return query select v_code, v_detail::jsonb || jsonb_build_object('wanted',
        coalesce((turnkeep.settings_of(p_company_id, p_platform) ->> 'historyMessages')::integer, (p_request ->> 'history_count')::integer));
      return;
    end if;
    return query select case v_code when 'lapsed' then 'lapsed' else 'refused' end,
      v_detail::jsonb || jsonb_build_object('code', v_code);
    return;
  end;

  if p_request ? 'asker' then
    perform turnkeep.audit_other(p_company_id, p_platform, p_request -> 'asker', 'question.asked', v_session.user_id,
      v_session_id, (v_question ->> 'id')::uuid);
  end if;
  return query select 'turn', jsonb_build_object(
    'session_id', v_session_id, 'created', v_created, 'known', not v_created and v_session.expires_at > v_now, 'epoch', 1, 'question', v_question,
    'answer_sequence_number', v_position + 1, 'opened_at', v_now);
  return query select 'settings', v_settings where v_settings <> '{}';
  return query select 'history', to_jsonb(m) from unnest(v_history) m;
end $$;
