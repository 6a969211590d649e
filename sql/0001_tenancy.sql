-- Tenancy. Every table holds the tenant (company_id, platform) in each row, and Postgres itself keeps tenants
-- apart: row-level security is forced, and the functions use a role that owns nothing.
--
-- Migrations are forward only. Each statement is sent by itself and may be repeated, because over the Data API
-- a DDL statement commits alone: a run that dies in the middle is simply run again.

-- Tables are named with their schema everywhere: for an owner called turnkeep an unqualified name would mean this one.
create schema if not exists turnkeep;

-- Roles belong to the whole server, so another database's migration may be making this one right now.
do $$
begin
  if not exists (select from pg_roles where rolname = 'turnkeep_app') then
    create role turnkeep_app nologin;
  end if;
exception when duplicate_object or unique_violation then
  null;
end $$;

-- The owner may act as the app role: that is how one machine with one login runs the functions' statements.
do $$
begin
  if not pg_has_role(current_user, 'turnkeep_app', 'member') then
    grant turnkeep_app to current_user;
  end if;
end $$;

create or replace function turnkeep.set_tenant(p_company_id text, p_platform text) returns void
language plpgsql as $$
begin
  -- Local to the transaction: a pooled connection cannot carry one caller's tenant to the next.
  perform set_config('turnkeep.company_id', p_company_id, true), set_config('turnkeep.platform', p_platform, true);
end $$;

-- Sweeps (lapsed turns, expiry, archive, retention) walk this table, since no role may look across tenants: they say
-- that they are one, for their own transaction, and see names here and nothing anywhere else.
create table if not exists public.tenants (
  company_id text not null check (company_id <> ''),
  platform text not null check (platform <> ''),
  created_at timestamptz not null default now(),
  primary key (company_id, platform)
);

alter table public.tenants enable row level security;

alter table public.tenants force row level security;

drop policy if exists tenant on public.tenants;

create policy tenant on public.tenants
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

drop policy if exists sweep on public.tenants;

create policy sweep on public.tenants for select using (current_setting('turnkeep.sweep', true) = 'on');
