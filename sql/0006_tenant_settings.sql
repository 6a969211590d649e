-- What a tenant has set for itself, and who did what with its settings and conversations.

-- No row, or nothing set: the environment's values act. Not in public.tenants, whose rows a sweep may see.
create table if not exists public.tenant_settings (
  company_id text not null,
  platform text not null,
  -- By the names of the API, only what is set. One schema in the code says what is valid (lambdas/protocol.ts).
  settings jsonb not null default '{}',
  -- Raised by every change, so that of two admins who change the same state only one does.
  version integer not null default 0,
  changed_at timestamptz,
  primary key (company_id, platform)
);

alter table public.tenant_settings enable row level security;

alter table public.tenant_settings force row level security;

drop policy if exists tenant on public.tenant_settings;

create policy tenant on public.tenant_settings
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

-- The audit log: names and ids, never content. Written in the transaction of what it tells of; nobody but the owner of
-- the schema can change or delete a line of it: the functions' role has neither the privilege nor a policy for it.
create table if not exists public.audit_log (
  company_id text not null,
  platform text not null,
  id uuid not null default gen_random_uuid(),
  at timestamptz not null default clock_timestamp(),
  -- Who did it, as their token said.
  actor_id text not null,
  actor_role text not null check (actor_role in ('user', 'agent', 'admin')),
  action text not null,
  -- Whose data it was; null: the tenant's, or all users'.
  user_id text,
  session_id uuid,
  message_id uuid,
  -- Names of what was changed.
  fields text[] not null default '{}',
  primary key (company_id, platform, at, id)
);

create index if not exists audit_log_of_user
  on public.audit_log (company_id, platform, user_id, at, id) where user_id is not null;

alter table public.audit_log enable row level security;

alter table public.audit_log force row level security;

drop policy if exists tenant on public.audit_log;

create policy tenant on public.audit_log for select
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

drop policy if exists append on public.audit_log;

create policy append on public.audit_log for insert
  with check (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));
