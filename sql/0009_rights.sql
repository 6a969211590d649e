-- The rights of users (docs/rights.md): exports and erasures, and what keeps an erased conversation from coming back.

-- An export or an erasure: who is told how it stands, and where it goes on after its function died.
create table if not exists public.user_jobs (
  company_id text not null,
  platform text not null,
  -- A version 7 UUID.
  id uuid not null,
  kind text not null check (kind in ('export', 'erasure')),
  user_id text not null,
  state text not null check (state in ('queued', 'running', 'done', 'failed')),
  -- Raised by whoever takes the job up; what an earlier one writes after that is refused.
  attempt integer not null default 0,
  -- Counts, never content, and where to go on.
  progress jsonb not null default '{}',
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  completed_at timestamptz,
  primary key (company_id, platform, id)
);

create index if not exists user_jobs_of_user on public.user_jobs (company_id, platform, user_id, kind, created_at desc, id desc);

-- Tombstones of users. What was made up to then is dropped wherever it turns up: queue, spool, dead letters, restores.
-- What comes later lives.
create table if not exists public.erasures (
  company_id text not null,
  platform text not null,
  user_id text not null,
  cutoff timestamptz not null,
  job_id uuid not null,
  primary key (company_id, platform, user_id)
);

-- Tombstones of sessions, which hold whatever clock a record was made by. Also the list of what is to go: its rows, its
-- texts in the bucket, what the hot store and the archive have of it.
create table if not exists public.erased_sessions (
  company_id text not null,
  platform text not null,
  session_id uuid not null,
  -- The erasure; all zeros: retention.
  job_id uuid not null,
  erased_at timestamptz not null default clock_timestamp(),
  -- Its rows and its texts are gone. The archive is another step.
  cleared_at timestamptz,
  primary key (company_id, platform, session_id)
);

create index if not exists erased_sessions_to_clear
  on public.erased_sessions (company_id, platform, job_id, session_id) where cleared_at is null;

alter table public.user_jobs enable row level security;

alter table public.user_jobs force row level security;

drop policy if exists tenant on public.user_jobs;

create policy tenant on public.user_jobs
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

alter table public.erasures enable row level security;

alter table public.erasures force row level security;

drop policy if exists tenant on public.erasures;

create policy tenant on public.erasures
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

alter table public.erased_sessions enable row level security;

alter table public.erased_sessions force row level security;

drop policy if exists tenant on public.erased_sessions;

create policy tenant on public.erased_sessions
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

-- What was deleted, for when its time is over.
create index if not exists chat_messages_deleted on public.chat_messages (company_id, platform, deleted_at) where is_deleted;

create index if not exists chat_sessions_deleted
  on public.chat_sessions (company_id, platform, deleted_at) where deleted_at is not null;

-- Of the audit log the functions' role may remove what is older than a year, and nothing else.
drop policy if exists expire on public.audit_log;

create policy expire on public.audit_log for delete
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true)
    and at < now() - interval '1 year');
