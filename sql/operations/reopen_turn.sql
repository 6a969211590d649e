-- Opens a turn for a question that is there already: a new answer beside the others. Rows as from open_turn ('turn',
-- 'settings', 'history', 'lapsed', 'archived', 'refused'). p_request: target (the question, or one of its answers), message_id (of
-- the new answer), owned_by, asker, lease_seconds, history_count, history_bytes, spending, without_archived.
create or replace function turnkeep.reopen_turn(p_company_id text, p_platform text, p_request jsonb)
returns table (kind text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
  v_message_id uuid := (p_request ->> 'message_id')::uuid;
  v_target uuid := (p_request ->> 'target')::uuid;
  v_archived jsonb;
  v_question public.chat_messages;
  v_session public.chat_sessions;
  v_busy public.chat_turns;
  v_now timestamptz;
  v_settings jsonb;
  v_history public.chat_messages[];
  v_code text;
  v_detail text;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select * into v_question from turnkeep.find_message(p_company_id, p_platform, v_target);
  if v_question.role = 'assistant' then
    v_target := v_question.parent_message_id;
    select * into v_question from turnkeep.find_message(p_company_id, p_platform, v_target);
  elsif v_question.id is null then -- An answer that is still running has no message yet, but it has a question.
    select m.* into v_question from public.chat_turns t, turnkeep.find_message(p_company_id, p_platform, t.question_id) m
    where t.company_id = p_company_id and t.platform = p_platform and t.message_id = v_target;
  end if;
  if v_question.id is null then
    select a into v_archived from turnkeep.archived_message(p_company_id, p_platform, v_target) a
    join public.chat_sessions s on s.company_id = p_company_id and s.platform = p_platform and s.id = (a ->> 'session_id')::uuid
    where s.deleted_at is null and s.user_id = coalesce(p_request ->> 'owned_by', s.user_id);
    if found then
      return query select 'archived', v_archived || jsonb_build_object('wanted', (p_request ->> 'history_count')::integer);
      return;
    end if;
  end if;
  select * into v_session from public.chat_sessions s
  where s.company_id = p_company_id and s.platform = p_platform and s.id = v_question.session_id for update;
  if v_session.id is null or v_session.deleted_at is not null or v_question.is_deleted or v_question.role <> 'user'
    or v_session.user_id <> coalesce(p_request ->> 'owned_by', v_session.user_id) then
    return query select 'refused', '{"code": "not_found", "what": "message"}'::jsonb;
    return;
  end if;
  if v_session.ended_at is not null then
    return query select 'refused', '{"code": "ended"}'::jsonb;
    return;
  end if;
  select t.* into v_busy from public.chat_turns t
  where t.company_id = p_company_id and t.platform = p_platform and t.question_id = v_question.id
    and t.session_id = v_session.id and t.thread_id = v_question.thread_id and t.state <> 'finished'
  order by t.lease_until desc limit 1;
  if found then
    return query select
      case when turnkeep.has_lapsed(v_busy) then 'lapsed' else 'refused' end,
      jsonb_build_object('code', 'reply_in_progress', 'message_id', v_busy.message_id);
    return;
  end if;

  begin -- A refusal raised in here takes back whatever was written before it.
    v_now := date_trunc('milliseconds', clock_timestamp());
    insert into public.chat_turns (company_id, platform, message_id, question_id, session_id, thread_id, user_id, state,
      lease_until, sequence_number, opened_at)
    values (p_company_id, p_platform, v_message_id, v_question.id, v_session.id, v_question.thread_id, v_session.user_id,
      'running', v_now + make_interval(secs => (p_request ->> 'lease_seconds')::double precision),
      v_question.sequence_number + 1, v_now);
    update public.chat_sessions s
    set last_active_at = v_now, expires_at = v_now + interval '24 hours', is_active = true
    where s.company_id = p_company_id and s.platform = p_platform and s.id = v_session.id;

    v_settings := turnkeep.settings_of(p_company_id, p_platform);
    v_history := array(select m from turnkeep.history(p_company_id, p_platform, v_question.parent_message_id,
      coalesce((v_settings ->> 'historyMessages')::integer, (p_request ->> 'history_count')::integer),
      (p_request ->> 'history_bytes')::integer, coalesce((p_request ->> 'without_archived')::boolean, false)) m);
    perform turnkeep.reserve_tokens(p_company_id, p_platform, v_message_id, v_question.token_count, v_history, v_settings,
      p_request -> 'spending');
  exception when sqlstate 'TK001' then
    get stacked diagnostics v_code = message_text, v_detail = pg_exception_detail;
    if v_code = 'archived' then
      return query select v_code, v_detail::jsonb || jsonb_build_object('wanted',
        coalesce((turnkeep.settings_of(p_company_id, p_platform) ->> 'historyMessages')::integer, (p_request ->> 'history_count')::integer));
      return;
    end if;
    return query select 'refused', v_detail::jsonb || jsonb_build_object('code', v_code);
    return;
  end;

  if p_request ? 'asker' then
    perform turnkeep.audit_other(p_company_id, p_platform, p_request -> 'asker', 'answer.regenerated', v_session.user_id,
      v_session.id, v_message_id);
  end if;
  return query select 'turn', jsonb_build_object(
    'session_id', v_session.id, 'created', false, 'known', v_session.expires_at > v_now, 'epoch', 1,
    'question', to_jsonb(v_question) || jsonb_build_object('user_id', v_session.user_id),
    'answer_sequence_number', v_question.sequence_number + 1, 'opened_at', v_now);
  return query select 'settings', v_settings where v_settings <> '{}';
  return query select 'history', to_jsonb(m) from unnest(v_history) m;
end $$;
