-- Keeps a running turn's lease. False: somebody else has taken the turn over.
create or replace function turnkeep.renew_lease(p_company_id text, p_platform text, p_message_id uuid, p_epoch integer, p_lease_seconds double precision)
returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.chat_turns t set lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
  where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id
    and t.epoch = p_epoch and t.state = 'running';
  return found;
end $$;

-- Ends a running turn with its answer: it frees the thread, and from now on every reader sees the answer.
-- Returns how many messages the session has; null when somebody else has taken the turn over.
create or replace function turnkeep.finish_turn(p_company_id text, p_platform text, p_message_id uuid, p_epoch integer, p_answer jsonb)
returns integer
language plpgsql as $$
declare
  v_session_id uuid;
  v_count integer;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.chat_turns t set state = 'finished', answer = p_answer, finished_at = clock_timestamp()
  where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id
    and t.epoch = p_epoch and t.state = 'running'
  returning t.session_id into v_session_id;
  if not found then
    return null;
  end if;
  update public.chat_sessions s
  set last_active_at = clock_timestamp(), expires_at = clock_timestamp() + interval '24 hours',
    message_count = s.message_count + 1
  where s.company_id = p_company_id and s.platform = p_platform and s.id = v_session_id
  returning s.message_count into v_count;
  return v_count;
end $$;
