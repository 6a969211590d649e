-- A message that is still on its way to chat_messages, in that table's shape.
create or replace function turnkeep.unsaved_message(p_record jsonb) returns public.chat_messages
language sql stable as $$
  select jsonb_populate_record(
    null::public.chat_messages,
    p_record || jsonb_build_object('is_deleted', false, 'updated_at', p_record -> 'created_at')
  )
$$;

-- A saved message as one line of JSON, in lists and in the archive: as to_json writes it, without what is null, without a text
-- that lies in an object, and if so told, since it was deleted, without whatever anybody has written.
create or replace function turnkeep.message_line(m public.chat_messages, p_without_text boolean) returns text
language sql stable as $$
  select concat('{"id":"', m.id, '","company_id":', to_json(m.company_id), ',"platform":', to_json(m.platform),
    ',"session_id":"', m.session_id, '","thread_id":', to_json(m.thread_id), ',"role":"', m.role, '"',
    case when p_without_text then ',"content":""' when m.content_key is null then ',"content":' || to_json(m.content)::text else ',"content_key":' || to_json(m.content_key)::text end,
    ',"token_count":' || m.token_count, ',"response_time_ms":' || m.response_time_ms, ',"model":' || to_json(m.model)::text,
    ',"status":"', m.status, '","sources":', case when p_without_text then '[]' else m.sources end, ',"metadata":', case when p_without_text then '{}' else m.metadata end,
    ',"langsmith_trace_id":' || to_json(m.langsmith_trace_id)::text, ',"parent_message_id":"' || m.parent_message_id || '"',
    ',"sequence_number":', m.sequence_number, ',"is_deleted":', case when m.is_deleted then 'true' else 'false' end, ',"deleted_at":' || to_json(m.deleted_at)::text,
    ',"created_at":', to_json(m.created_at), ',"updated_at":', to_json(m.updated_at), ',"saved_at":', to_json(m.saved_at),
    ',"inquiry_category":' || to_json(m.inquiry_category)::text, ',"satisfaction_score":' || m.satisfaction_score,
    case when not p_without_text then ',"feedback_comment":' || to_json(m.feedback_comment)::text end, ',"resolution_status":' || to_json(m.resolution_status)::text,
    ',"priority":' || to_json(m.priority)::text, ',"follow_up_needed":' || to_json(m.follow_up_needed)::text,
    ',"business_impact":' || to_json(m.business_impact)::text, '}')
$$;

-- One message wherever it stands by now: in its table or, until the queue has delivered it, with its turn.
-- The caller has set the tenant. No row: unknown, or an answer that is still running.
create or replace function turnkeep.find_message(p_company_id text, p_platform text, p_id uuid)
returns setof public.chat_messages
language plpgsql stable as $$
declare
  v_record jsonb;
begin
  return query
    select m.* from public.chat_messages m
    where m.company_id = p_company_id and m.platform = p_platform and m.id = p_id;
  if found then
    return;
  end if;
  select case when t.message_id <> p_id then t.question when t.state = 'finished' then t.answer end into v_record
  from public.chat_turns t
  where t.company_id = p_company_id and t.platform = p_platform
    and (t.message_id = p_id or (t.question_id = p_id and t.question is not null));
  if v_record is not null then
    return next turnkeep.unsaved_message(v_record);
  end if;
end $$;

-- The same for changes: the row is created from the turn when the save has not come yet, so that a change may
-- overtake it. The save finds the row, leaves what was changed alone, and does not count it as used again. False: no such
-- message, or it is being erased: as of a save, an erasure waits for this or is seen by it. Locks are taken in the order of
-- save_records: whatever follows may touch the message and its session.
create or replace function turnkeep.ensure_saved(p_company_id text, p_platform text, p_id uuid) returns boolean
language plpgsql as $$
declare
  v_message public.chat_messages;
  v_record turnkeep.message_record;
  v_user_id text;
begin
  perform 1 from public.chat_messages m
  where m.company_id = p_company_id and m.platform = p_platform and m.id = p_id;
  if found then
    return true;
  end if;
  perform turnkeep.lock_erasures(p_company_id, p_platform, true);
  select * into v_message from turnkeep.find_message(p_company_id, p_platform, p_id);
  if not found then
    return false;
  end if;
  perform 1 from public.chat_sessions s
  where s.company_id = p_company_id and s.platform = p_platform and s.id = v_message.session_id
    and turnkeep.is_erased(p_company_id, p_platform, s.user_id, s.id, v_message.created_at);
  if found then
    return false;
  end if;
  v_message.saved_at := now();
  perform turnkeep.release_tokens(p_company_id, p_platform, array[p_id]);
  insert into public.chat_messages select v_message.* on conflict (company_id, platform, id) do nothing;
  if found and v_message.role = 'assistant' then
    select s.user_id into v_user_id from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform and s.id = v_message.session_id for update;
    v_record := jsonb_populate_record(
      null::turnkeep.message_record, to_jsonb(v_message) || jsonb_build_object('user_id', v_user_id));
    perform turnkeep.add_usage(
      p_company_id, p_platform, array(select u from turnkeep.usage_of(array[v_record], array[p_id]) u));
  end if;
  return true;
end $$;

-- Whether a turn has lost its writer: its lease has run out, or its answer was saved and nobody could tell the log.
create or replace function turnkeep.has_lapsed(p_turn public.chat_turns) returns boolean
language sql stable as $$
  select p_turn.state <> 'finished' and (
    p_turn.lease_until <= clock_timestamp()
    or exists (
      select 1 from public.chat_messages m
      where m.company_id = p_turn.company_id and m.platform = p_turn.platform and m.id = p_turn.message_id
        and m.status <> 'interrupted'
    )
  )
$$;
