-- What was asked lately, for the rate limits of phase 1: one row for each user, tenant and address, for as long as it
-- counts. Unlogged: nothing is written twice for a count, and after a crash everybody begins anew.
--
-- Addresses have no tenant. They stand under company '' and platform 'addresses': no token names such a tenant, since a
-- claim is never empty, and neither does a statement that forgot to set one, whose platform is '' too.
create unlogged table if not exists public.rate_limits (
  company_id text not null,
  platform text not null,
  kind text not null check (kind in ('address', 'user', 'tenant')),
  -- The user's id, '' for the tenant, or an address's keyed hash: addresses themselves stand nowhere.
  key text not null,
  -- Requests in groups, newest first: when the last of each came, and how many they are. About twenty at most.
  last_at timestamptz[] not null default '{}',
  counts integer[] not null default '{}',
  -- Later than anything here counts. Moved once a window and not by every request, so that most updates touch no index.
  kept_until timestamptz not null,
  primary key (company_id, platform, kind, key)
) with (fillfactor = 70);

create index if not exists rate_limits_kept on public.rate_limits (company_id, platform, kept_until);

alter table public.rate_limits enable row level security;

alter table public.rate_limits force row level security;

drop policy if exists tenant on public.rate_limits;

create policy tenant on public.rate_limits
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));
