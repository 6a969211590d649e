-- The hot store of phase 1: turns that run or have just finished, their reply logs, and the keys that name turns.

-- One row for each turn from the moment it is accepted. It is the thread's lease while the answer runs, and
-- what readers see until the queue has delivered the records to chat_messages. Kept for 24 hours after its end.
create table if not exists public.chat_turns (
  company_id text not null,
  platform text not null,
  -- The answer's id names the turn.
  message_id uuid not null,
  -- The message this turn answers; its record stands below unless the question was there already.
  question_id uuid not null,
  session_id uuid not null,
  thread_id text not null,
  user_id text not null,
  -- running: being written. closing: the whole answer stands here and is on its way to the queue. finished: it is
  -- durable there, and the log has its terminal event.
  state text not null check (state in ('running', 'closing', 'finished')),
  -- Raised by whoever takes the turn over; a writer with a lower one has lost it.
  epoch integer not null default 1,
  lease_until timestamptz not null,
  stop_requested boolean not null default false,
  -- Message records as they stand in the queue.
  question jsonb,
  answer jsonb,
  -- The answer's position.
  sequence_number integer not null,
  opened_at timestamptz not null default now(),
  finished_at timestamptz,
  primary key (company_id, platform, message_id)
) with (fillfactor = 70); -- Every append renews the lease: leave room to do so within the page.

create index if not exists chat_turns_of_thread on public.chat_turns (company_id, platform, session_id, thread_id, opened_at);

create index if not exists chat_turns_by_question
  on public.chat_turns (company_id, platform, question_id) where question is not null;

create index if not exists chat_turns_unfinished
  on public.chat_turns (company_id, platform, session_id, thread_id) where state <> 'finished';

create index if not exists chat_turns_finished on public.chat_turns (company_id, platform, finished_at) where state = 'finished';

-- The reply log: what clients have been sent, in batches, written before it was sent. Ids run from 0 without gaps.
create table if not exists public.chat_reply_events (
  company_id text not null,
  platform text not null,
  message_id uuid not null,
  first_event_id integer not null,
  events jsonb not null,
  primary key (company_id, platform, message_id, first_event_id)
);

-- An idempotency key belongs to the caller and names one turn for ever: it outlives the turn's row above.
create table if not exists public.idempotency_keys (
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

alter table public.chat_turns enable row level security;

alter table public.chat_turns force row level security;

drop policy if exists tenant on public.chat_turns;

create policy tenant on public.chat_turns
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

alter table public.chat_reply_events enable row level security;

alter table public.chat_reply_events force row level security;

drop policy if exists tenant on public.chat_reply_events;

create policy tenant on public.chat_reply_events
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

alter table public.idempotency_keys enable row level security;

alter table public.idempotency_keys force row level security;

drop policy if exists tenant on public.idempotency_keys;

create policy tenant on public.idempotency_keys
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));
