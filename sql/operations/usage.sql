-- What was used, by user, day and model: written by what makes an answer a row, once, and read for GET /api/usage.

-- What new answers among these records used, for their users and for all users of the tenant together.
create or replace function turnkeep.usage_of(p_records turnkeep.message_record[], p_new uuid[]) returns setof public.usage_daily
language sql stable as $$
  select a.company_id, a.platform, o.user_id, a.day, a.model, count(*)::integer, sum(a.prompt_tokens)::bigint,
    sum(a.completion_tokens)::bigint, sum(a.answer_characters)::bigint, coalesce(sum(a.response_ms), 0)::bigint,
    count(a.response_ms)::integer
  from (
    select r.company_id, r.platform, r.user_id, (r.created_at at time zone 'UTC')::date as day, coalesce(r.model, '') as model,
      coalesce(turnkeep.count_in(r.metadata, 'promptTokens'), 0) as prompt_tokens, coalesce(r.token_count, 0) as completion_tokens,
      -- A text that stands elsewhere has its length beside it.
      coalesce(turnkeep.count_in(r.metadata, 'characters'), length(r.content)) as answer_characters, r.response_time_ms as response_ms
    from unnest(p_records) r where r.role = 'assistant' and r.id in (select n from unnest(p_new) n)
  ) a
  cross join lateral (values (nullif(a.user_id, '')), ('')) o (user_id)
  where o.user_id is not null
  group by 1, 2, 3, 4, 5
$$;

-- Counts what was used. Call it last: every save of a tenant waits for the tenant's row, which is therefore locked after all
-- others.
create or replace function turnkeep.add_usage(p_company_id text, p_platform text, p_used public.usage_daily[]) returns void
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  insert into public.usage_daily as daily
  select u.* from unnest(p_used) u where u.company_id = p_company_id and u.platform = p_platform
  order by u.user_id = '', u.user_id, u.day, u.model
  on conflict (company_id, platform, user_id, day, model) do update
  set turns = daily.turns + excluded.turns, prompt_tokens = daily.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = daily.completion_tokens + excluded.completion_tokens,
    answer_characters = daily.answer_characters + excluded.answer_characters,
    response_ms = daily.response_ms + excluded.response_ms, responses = daily.responses + excluded.responses;
end $$;

-- Usage of p_owner (null: of everybody in the tenant, which is for agents and admins). p_query: from and to, days that are
-- both included; by ('day', 'user' or 'model'); limit; after_tokens and after_name, where the page before ended. Rows: kind
-- 'item', days in order, all else with most tokens first; then 'total', of all. Nothing: not for this caller.
--
-- p_prices: [{model, from, promptPerMillion, completionPerMillion}, …]; the newest price acts that is not of a later day. A
-- model with a date behind its name costs what its name does. What has no price is in unpriced_tokens and costs nothing.
create or replace function turnkeep.read_usage(p_company_id text, p_platform text, p_caller jsonb, p_owner text, p_query jsonb, p_prices jsonb)
returns table (kind text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
  v_by text := p_query ->> 'by';
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if not turnkeep.may_act_for(p_caller, p_owner) then
    return;
  end if;
  perform turnkeep.audit_other(p_company_id, p_platform, p_caller, 'usage.read', p_owner);
  return query
    with priced as (
      select u.*, coalesce((u.prompt_tokens * p.prompt + u.completion_tokens * p.completion) / 1000000, 0) as cost,
        case when p.prompt is null then u.prompt_tokens + u.completion_tokens else 0 end as unpriced_tokens
      from public.usage_daily u
      left join lateral (
        select p.prompt, p.completion
        from jsonb_to_recordset(p_prices) as w (model text, "from" date, "promptPerMillion" numeric, "completionPerMillion" numeric)
        cross join lateral (select w."promptPerMillion", w."completionPerMillion") p (prompt, completion)
        where w.model in (u.model, regexp_replace(u.model, '-\d{4}-\d{2}-\d{2}$', '')) and w."from" <= u.day
        order by w.model = u.model desc, w."from" desc limit 1
      ) p on true
      where u.company_id = p_company_id and u.platform = p_platform and u.day between (p_query ->> 'from')::date and (p_query ->> 'to')::date
        and case when v_by = 'user' and p_owner is null then u.user_id <> '' else u.user_id = coalesce(p_owner, '') end
    ), items as (
      select case v_by when 'day' then p.day::text when 'user' then p.user_id else p.model end as name, sum(p.turns) as turns,
        sum(p.prompt_tokens) as prompt_tokens, sum(p.completion_tokens) as completion_tokens,
        sum(p.prompt_tokens + p.completion_tokens) as tokens, sum(p.cost) as cost, sum(p.unpriced_tokens) as unpriced_tokens
      from priced p group by 1
    ), page as (
      select i.* from items i
      where not p_query ? 'after_name' or i.tokens < (p_query ->> 'after_tokens')::bigint
        or (i.tokens = (p_query ->> 'after_tokens')::bigint and i.name > p_query ->> 'after_name')
      order by case when v_by = 'day' then i.name end, i.tokens desc, i.name limit (p_query ->> 'limit')::integer
    )
    select w.kind, w.body from (
      select 'item', to_jsonb(p), row_number() over (order by case when v_by = 'day' then p.name end, p.tokens desc, p.name)
      from page p
      union all
      select 'total', jsonb_build_object('turns', coalesce(sum(i.turns), 0), 'prompt_tokens', coalesce(sum(i.prompt_tokens), 0),
        'completion_tokens', coalesce(sum(i.completion_tokens), 0), 'tokens', coalesce(sum(i.tokens), 0),
        'cost', coalesce(sum(i.cost), 0), 'unpriced_tokens', coalesce(sum(i.unpriced_tokens), 0)), null
      from items i
    ) w (kind, body, place)
    order by w.place nulls last;
end $$;
