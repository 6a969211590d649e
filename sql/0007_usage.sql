-- What was used, day by day, and what running turns hold of the token budgets (docs/limits.md).

-- Added to when an answer is saved, once, and kept when its messages are gone. A tenant's month is read by every turn that
-- a budget of all its users holds, so they have a row of their own, with user_id '': no token names such a user.
create table if not exists public.usage_daily (
  company_id text not null,
  platform text not null,
  -- The session's owner; '': all users of the tenant together.
  user_id text not null,
  -- In UTC, on which the turn was opened.
  day date not null,
  -- As the model's endpoint calls it; '': unknown, because the answer's writer died.
  model text not null,
  turns integer not null,
  prompt_tokens bigint not null,
  completion_tokens bigint not null,
  answer_characters bigint not null,
  -- Together, of so many answers: a rescued one has no time.
  response_ms bigint not null,
  responses integer not null,
  primary key (company_id, platform, user_id, day, model)
) with (fillfactor = 70); -- The rows of today are changed by every save: leave room to do so within the page.

alter table public.usage_daily enable row level security;

alter table public.usage_daily force row level security;

drop policy if exists tenant on public.usage_daily;

create policy tenant on public.usage_daily
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

-- What a turn holds against the budgets until it is saved: what it may use, from its closing on what it did use. Null: no
-- budget was in force when it was opened, or usage_daily has it.
alter table public.chat_turns add column if not exists tokens bigint;

create index if not exists chat_turns_holding_tokens on public.chat_turns (company_id, platform) where tokens is not null;
