-- A record of the queue as saving reads it: MessageRecord in lambdas/protocol.ts.
do $$
begin
  create type turnkeep.message_record as (
    company_id text, platform text, id uuid, session_id uuid, thread_id text, role text, content text, content_key text,
    token_count integer, response_time_ms integer, model text, status text, sources jsonb, metadata jsonb,
    parent_message_id uuid, sequence_number integer, created_at timestamptz, user_id text, on_save jsonb
  );
exception when duplicate_object then null;
end $$;
