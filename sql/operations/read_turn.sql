-- A turn by its answer, for a request that is repeated: kind 'question' and 'answer' with their messages, 'session'
-- with {message_count}; no 'answer' row while it is running.
create or replace function turnkeep.read_turn(p_company_id text, p_platform text, p_question_id uuid, p_answer_id uuid)
returns table (kind text, body jsonb)
language plpgsql stable as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query select 'question', to_jsonb(m) from turnkeep.find_message(p_company_id, p_platform, p_question_id) m;
  return query select 'answer', to_jsonb(m) from turnkeep.find_message(p_company_id, p_platform, p_answer_id) m;
  return query
    select 'session', jsonb_build_object('message_count', s.message_count)
    from turnkeep.find_message(p_company_id, p_platform, p_question_id) m
    join public.chat_sessions s on s.company_id = p_company_id and s.platform = p_platform and s.id = m.session_id;
end $$;
