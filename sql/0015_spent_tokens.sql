-- What an erased user had used of the budgets of the running month, by day in UTC: {"2026-11-20": 1200, …}, tokens and nothing
-- else. It stands with the tombstone, which names the user anyhow. Null: nothing, or the month is over.
alter table public.erasures add column if not exists spent jsonb;
