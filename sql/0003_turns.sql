-- The hot store of phase 1: turns that run or have just finished, and the keys that name turns.

-- One row for each turn from the moment it is accepted. It is the thread's lease while the answer runs, and
-- what readers see until the queue has delivered the records to chat_messages.
create table if not exists chat_turns (
  company_id text not null,
  platform text not null,
  -- The answer's id names the turn.
  message_id uuid not null,
  -- The message this turn answers; its record stands below unless the question was there already.
  question_id uuid not null,
  session_id uuid not null,
  thread_id text not null,
  user_id text not null,
  state text not null check (state in ('running', 'finished')),
  -- Raised by whoever takes the turn over; a writer with a lower one has lost it.
  epoch integer not null default 1,
  lease_until timestamptz not null,
  -- Message records as they stand in the queue.
  question jsonb,
  answer jsonb,
  -- The answer's position.
  sequence_number integer not null,
  opened_at timestamptz not null default now(),
  finished_at timestamptz,
  primary key (company_id, platform, message_id)
);

create index if not exists chat_turns_of_thread on chat_turns (company_id, platform, session_id, thread_id, opened_at);

create index if not exists chat_turns_by_question
  on chat_turns (company_id, platform, question_id) where question is not null;

create index if not exists chat_turns_running
  on chat_turns (company_id, platform, session_id, thread_id) where state = 'running';

-- An idempotency key belongs to the caller and names one turn for ever: it outlives the turn's row above.
create table if not exists idempotency_keys (
  company_id text not null,
  platform text not null,
  user_id text not null,
  key text not null,
  body_hash text not null,
  session_id uuid not null,
  user_message_id uuid not null,
  message_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (company_id, platform, user_id, key)
);

alter table chat_turns enable row level security;

alter table chat_turns force row level security;

drop policy if exists tenant on chat_turns;

create policy tenant on chat_turns
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

alter table idempotency_keys enable row level security;

alter table idempotency_keys force row level security;

drop policy if exists tenant on idempotency_keys;

create policy tenant on idempotency_keys
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));
