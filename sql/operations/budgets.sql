-- Token budgets (docs/limits.md). There is no counter: what was used stands in usage_daily, what turns that are not
-- saved yet use, or may use, with the turns, and what a user had used who was erased since with the tombstone.

-- As estimateTokens in lambdas/protocol/text.ts.
create or replace function turnkeep.estimate_tokens(p_text text) returns bigint
language sql immutable as $$
  select (ceil(a.length / 4.0) + length(p_text) - a.length)::bigint
  from (select length(regexp_replace(p_text, '[^\u0001-\u007f]', '', 'g')) as length) a
$$;

-- What a message weighs in a context. A text that stands elsewhere was counted when it was written.
create or replace function turnkeep.context_tokens(p_message public.chat_messages) returns bigint
language sql immutable as $$
  select case when p_message.content_key is null then turnkeep.estimate_tokens(p_message.content)
    else coalesce(p_message.token_count, 0) end
$$;

-- A number that an answer's metadata holds; null: it does not.
create or replace function turnkeep.count_in(p_metadata jsonb, p_name text) returns bigint
language sql immutable as $$
  select case when jsonb_typeof(p_metadata -> p_name) = 'number' then (p_metadata -> p_name)::numeric::bigint end
$$;

-- What answering took, of an answer's record: the prompt and the answer.
create or replace function turnkeep.tokens_of_answer(p_answer jsonb) returns bigint
language sql immutable as $$
  select coalesce((p_answer ->> 'token_count')::bigint, 0) + coalesce(turnkeep.count_in(p_answer -> 'metadata', 'promptTokens'), 0)
$$;

-- The budgets in force: what a tenant has set (p_settings) in the place of what the environment says (p_spending). All
-- users of a tenant together never get more than the environment allows them: others' share depends on it.
create or replace function turnkeep.budgets_of(p_settings jsonb, p_spending jsonb)
returns table (budget text, period text, allowance bigint)
language sql immutable as $$
  select b.budget, b.period, case b.budget when 'user' then coalesce(b.own, b.given) else least(b.own, b.given) end
  from (
    select w.budget, w.period, (p_settings ->> w.name)::bigint, (p_spending -> 'budgets' ->> w.name)::bigint
    from (values
      ('user', 'day', 'userTokensPerDay'), ('user', 'month', 'userTokensPerMonth'),
      ('tenant', 'day', 'tenantTokensPerDay'), ('tenant', 'month', 'tenantTokensPerMonth')
    ) w (budget, period, name)
  ) b (budget, period, own, given)
  where coalesce(b.own, b.given) is not null
$$;

-- What a user, and all users of the tenant together, have used in the day and the month (UTC) of p_at, with what turns
-- that are not saved hold. A running turn that has lost its writer holds nothing, so no budget leaks, whoever dies.
create or replace function turnkeep.tokens_used(p_company_id text, p_platform text, p_user_id text, p_at timestamptz)
returns table (user_day bigint, user_month bigint, tenant_day bigint, tenant_month bigint)
language plpgsql stable as $$
declare
  v_day date := (p_at at time zone 'UTC')::date;
  v_month date := date_trunc('month', v_day)::date;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  -- One statement, so that what is being saved, or erased, is found in one of the three places.
  return query
    with used as (
      select u.user_id, u.day, u.prompt_tokens + u.completion_tokens as tokens from public.usage_daily u
      where u.company_id = p_company_id and u.platform = p_platform and u.user_id in ('', p_user_id)
        and u.day >= v_month and u.day < v_month + interval '1 month'
      union all
      select o.user_id, (t.opened_at at time zone 'UTC')::date, t.tokens from public.chat_turns t
      cross join lateral (values (''), (t.user_id)) o (user_id)
      where t.company_id = p_company_id and t.platform = p_platform and t.tokens is not null
        and t.opened_at >= v_month::timestamp at time zone 'UTC'
        and t.opened_at < (v_month + interval '1 month') at time zone 'UTC'
        and not (t.state = 'running' and t.lease_until <= clock_timestamp())
      union all
      select e.user_id, s.key::date, s.value::bigint from public.erasures e cross join lateral jsonb_each_text(e.spent) s
      where e.company_id = p_company_id and e.platform = p_platform and e.user_id = p_user_id
        and s.key::date >= v_month and s.key::date < v_month + interval '1 month'
    )
    select coalesce(sum(u.tokens) filter (where u.user_id = p_user_id and u.day = v_day), 0)::bigint,
      coalesce(sum(u.tokens) filter (where u.user_id = p_user_id), 0)::bigint,
      coalesce(sum(u.tokens) filter (where u.user_id = '' and u.day = v_day), 0)::bigint,
      coalesce(sum(u.tokens) filter (where u.user_id = ''), 0)::bigint
    from used u;
end $$;

-- Holds what a turn that was just opened may use against the budgets in force; where there are none it does nothing.
-- Raises TK001 quota_exceeded, with QuotaDetails, where one has not enough left for the question, the system prompt and
-- the answer. The history, which only grows with what was let through before, is held but does not refuse.
--
-- p_spending: {budgets: {userTokensPerDay, …}, system_prompt_tokens, answer_tokens, unlimited_answer_tokens (held where
-- answers have no limit), history_tokens}. Call it late: turns of a tenant that open at once see each other because from
-- here on they wait until the transaction ends. Of the locks only those of the rate limits come later.
create or replace function turnkeep.reserve_tokens(p_company_id text, p_platform text, p_message_id uuid, p_question_tokens bigint,
  p_history public.chat_messages[], p_settings jsonb, p_spending jsonb)
returns void
language plpgsql as $$
declare
  v_turn public.chat_turns;
  v_asked bigint;
  v_refusal jsonb;
begin
  if p_spending is null or not exists (select from turnkeep.budgets_of(p_settings, p_spending)) then
    return;
  end if;
  v_asked := coalesce(p_question_tokens, 0)
    + coalesce(turnkeep.estimate_tokens(p_settings ->> 'systemPrompt'), (p_spending ->> 'system_prompt_tokens')::bigint)
    + coalesce(nullif(coalesce(p_settings ->> 'answerTokens', p_spending ->> 'answer_tokens')::bigint, 0),
      (p_spending ->> 'unlimited_answer_tokens')::bigint);
  perform pg_advisory_xact_lock(hashtextextended(jsonb_build_array('tokens', p_company_id, p_platform)::text, 0));
  select * into strict v_turn from public.chat_turns t
  where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id;

  select jsonb_build_object('budget', b.budget, 'period', b.period, 'limit', b.allowance, 'used', p.used, 'resetsAt', p.ends_at)
  into v_refusal
  from turnkeep.tokens_used(p_company_id, p_platform, v_turn.user_id, v_turn.opened_at) u
  cross join turnkeep.budgets_of(p_settings, p_spending) b
  cross join lateral (
    select case b.budget || b.period when 'userday' then u.user_day when 'usermonth' then u.user_month
      when 'tenantday' then u.tenant_day else u.tenant_month end,
      (date_trunc(b.period, v_turn.opened_at at time zone 'UTC') + ('1 ' || b.period)::interval) at time zone 'UTC'
  ) p (used, ends_at)
  where p.used + v_asked > b.allowance
  order by p.ends_at desc, b.budget desc limit 1;
  if found then
    raise exception using errcode = 'TK001', message = 'quota_exceeded', detail = v_refusal::text;
  end if;

  update public.chat_turns t
  set tokens = v_asked + least(
    coalesce(p_settings ->> 'historyTokens', p_spending ->> 'history_tokens')::bigint,
    (select coalesce(sum(turnkeep.context_tokens(h)), 0) from unnest(p_history) h)::bigint)
  where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id;
end $$;

-- These answers' turns hold nothing any more: what they used is being counted in this transaction. In order, so that two
-- saves of the same turns do not wait for each other.
create or replace function turnkeep.release_tokens(p_company_id text, p_platform text, p_message_ids uuid[]) returns void
language plpgsql as $$
begin
  update public.chat_turns t set tokens = null
  from (
    select h.message_id from public.chat_turns h
    where h.company_id = p_company_id and h.platform = p_platform and h.message_id = any (p_message_ids)
      and h.tokens is not null
    order by h.message_id for update
  ) held
  where t.company_id = p_company_id and t.platform = p_platform and t.message_id = held.message_id;
end $$;
