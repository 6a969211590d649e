-- Sessions and messages. Column names are a promise: other teams query them.

create table if not exists public.chat_sessions (
  id uuid not null,
  company_id text not null,
  platform text not null,
  user_id text not null,
  channel text,
  title text,
  created_at timestamptz not null default now(),
  last_active_at timestamptz not null default now(),
  expires_at timestamptz not null default now() + interval '24 hours',
  metadata jsonb not null default '{}',
  is_active boolean not null default true,
  -- Ending is for good, expiry is not: a question revives an expired session but never an ended one.
  ended_at timestamptz,
  deleted_at timestamptz,
  updated_at timestamptz not null default now(),
  -- Counted as messages are made, so that nobody counts a long conversation.
  message_count integer not null default 0,
  inquiry_category text,
  satisfaction_score smallint check (satisfaction_score between 1 and 5),
  resolution_status text,
  priority text,
  follow_up_needed boolean,
  business_impact text,
  primary key (company_id, platform, id)
);

-- The one index that does not begin with the tenant: an id that a client made up must not be another tenant's.
create unique index if not exists chat_sessions_id on public.chat_sessions (id);

create index if not exists chat_sessions_of_user
  on public.chat_sessions (company_id, platform, user_id, last_active_at desc, id desc) where deleted_at is null;

create index if not exists chat_sessions_of_tenant
  on public.chat_sessions (company_id, platform, last_active_at desc, id desc) where deleted_at is null;

create index if not exists chat_sessions_expiry
  on public.chat_sessions (company_id, platform, expires_at) where is_active;

-- No foreign keys: records are saved in whatever order the queue hands them out.
create table if not exists public.chat_messages (
  id uuid not null,
  company_id text not null,
  platform text not null,
  session_id uuid not null,
  thread_id text not null default 'main',
  role text not null check (role in ('user', 'assistant', 'system')),
  content text not null,
  -- The object that holds the text when it is too large for a row of the Data API (64 KB); content is '' then.
  content_key text,
  token_count integer,
  response_time_ms integer,
  model text,
  status text not null check (status in ('complete', 'stopped', 'interrupted')),
  sources jsonb not null default '[]',
  metadata jsonb not null default '{}',
  langsmith_trace_id text,
  parent_message_id uuid,
  -- The parent's plus one, known when the message is made: no counter, no lock, gapless in every branch.
  sequence_number integer not null check (sequence_number > 0),
  is_deleted boolean not null default false,
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- saved_at - created_at is how far saving lags behind answering.
  saved_at timestamptz not null default now(),
  inquiry_category text,
  satisfaction_score smallint check (satisfaction_score between 1 and 5),
  feedback_comment text,
  resolution_status text,
  priority text,
  follow_up_needed boolean,
  business_impact text,
  primary key (company_id, platform, id)
);

-- Serves a session in order and, without a look at the rows, each of its threads.
create index if not exists chat_messages_by_sequence
  on public.chat_messages (company_id, platform, session_id, sequence_number, id, thread_id);

-- Active messages of a thread by time: the newest answer is looked up here.
create index if not exists chat_messages_by_time
  on public.chat_messages (company_id, platform, session_id, thread_id, created_at) where not is_deleted;

create index if not exists chat_messages_by_trace
  on public.chat_messages (company_id, platform, langsmith_trace_id) where langsmith_trace_id is not null;

create index if not exists chat_messages_tokens
  on public.chat_messages (company_id, platform, created_at) include (token_count);

alter table public.chat_sessions enable row level security;

alter table public.chat_sessions force row level security;

drop policy if exists tenant on public.chat_sessions;

create policy tenant on public.chat_sessions
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

alter table public.chat_messages enable row level security;

alter table public.chat_messages force row level security;

drop policy if exists tenant on public.chat_messages;

create policy tenant on public.chat_messages
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));
