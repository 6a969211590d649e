-- After a year without use a keyed hash stands for a user's id, until the user is here again (lambdas/ageing/pseudonym.ts,
-- lambdas/sessions/returning.ts, docs/rights.md).

-- Users whose ids stand where nobody has used them for a year. The caller makes a hash of each.
create or replace function turnkeep.users_to_hide(p_company_id text, p_platform text, p_limit integer)
returns table (user_id text)
language plpgsql stable as $$
#variable_conflict use_column
declare
  v_before timestamptz;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select t.named_before into v_before from turnkeep.retention_times(p_company_id, p_platform) t;
  return query
    select u.user_id from (
      select s.user_id from public.chat_sessions s
      where s.company_id = p_company_id and s.platform = p_platform and s.last_active_at < v_before
      union
      select d.user_id from public.usage_daily d
      where d.company_id = p_company_id and d.platform = p_platform and d.day < (v_before at time zone 'UTC')::date
      union
      select k.user_id from public.idempotency_keys k
      where k.company_id = p_company_id and k.platform = p_platform and k.created_at < v_before
      union
      select j.user_id from public.user_jobs j
      where j.company_id = p_company_id and j.platform = p_platform and j.created_at < v_before
    ) u
    where u.user_id <> '' and u.user_id !~ '^anon_[0-9a-f]{32}$'
    limit p_limit;
end $$;

-- Puts hashes, [{user_id, pseudonym}, …], in their places, p_limit rows of each table at most; what was used within a year
-- keeps its name. Returns how many rows there were; 0: all is done.
create or replace function turnkeep.hide_users(p_company_id text, p_platform text, p_users jsonb, p_limit integer) returns integer
language plpgsql as $$
declare
  v_before timestamptz;
  v_rows integer;
  v_all integer := 0;
  v_used public.usage_daily[];
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select t.named_before into v_before from turnkeep.retention_times(p_company_id, p_platform) t;
  update public.chat_sessions s set user_id = u.pseudonym
  from jsonb_to_recordset(p_users) as u (user_id text, pseudonym text)
  where s.company_id = p_company_id and s.platform = p_platform and s.user_id = u.user_id and s.id = any (array(
    select c.id from public.chat_sessions c
    where c.company_id = p_company_id and c.platform = p_platform and c.last_active_at < v_before
      and c.user_id in (select n.user_id from jsonb_to_recordset(p_users) as n (user_id text))
    limit p_limit for update
  ));
  get diagnostics v_rows = row_count;
  v_all := v_all + v_rows;
  -- Two users never have one hash, but a day of a user may have been moved before.
  with moved as (
    delete from public.usage_daily d
    where d.company_id = p_company_id and d.platform = p_platform and d.ctid = any (array(
      select o.ctid from public.usage_daily o
      where o.company_id = p_company_id and o.platform = p_platform and o.day < (v_before at time zone 'UTC')::date
        and o.user_id in (select n.user_id from jsonb_to_recordset(p_users) as n (user_id text))
      limit p_limit
    ))
    returning d as used
  )
  select array_agg(jsonb_populate_record(m.used, jsonb_build_object('user_id', u.pseudonym))) into v_used
  from moved m join jsonb_to_recordset(p_users) as u (user_id text, pseudonym text) on u.user_id = (m.used).user_id;
  perform turnkeep.add_usage(p_company_id, p_platform, v_used);
  v_all := v_all + coalesce(cardinality(v_used), 0);
  -- Who came back may have used a key once more that stands under the hash. There nobody asks for it: either will do.
  with moved as (
    delete from public.idempotency_keys k
    where k.company_id = p_company_id and k.platform = p_platform and k.ctid = any (array(
      select o.ctid from public.idempotency_keys o
      where o.company_id = p_company_id and o.platform = p_platform and o.created_at < v_before
        and o.user_id in (select n.user_id from jsonb_to_recordset(p_users) as n (user_id text))
      limit p_limit
    ))
    returning k.*
  ), kept as (
    insert into public.idempotency_keys (company_id, platform, user_id, key, body_hash, session_id, user_message_id, message_id, created_at)
    select p_company_id, p_platform, u.pseudonym, m.key, m.body_hash, m.session_id, m.user_message_id, m.message_id, m.created_at
    from moved m join jsonb_to_recordset(p_users) as u (user_id text, pseudonym text) on u.user_id = m.user_id
    on conflict do nothing
  )
  select count(*) into v_rows from moved;
  v_all := v_all + v_rows;
  update public.user_jobs j set user_id = u.pseudonym
  from jsonb_to_recordset(p_users) as u (user_id text, pseudonym text)
  where j.company_id = p_company_id and j.platform = p_platform and j.user_id = u.user_id and j.created_at < v_before;
  get diagnostics v_rows = row_count;
  return v_all + v_rows;
end $$;

-- Sessions that stand under a user's hash are the user's again, the newest p_limit of them. Returns how many.
create or replace function turnkeep.reclaim_sessions(p_company_id text, p_platform text, p_user_id text, p_pseudonym text, p_limit integer)
returns integer
language plpgsql as $$
declare
  v_count integer;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.chat_sessions s set user_id = p_user_id
  where s.company_id = p_company_id and s.platform = p_platform and s.id = any (array(
    select c.id from public.chat_sessions c
    where c.company_id = p_company_id and c.platform = p_platform and c.user_id = p_pseudonym and c.deleted_at is null
    order by c.last_active_at desc, c.id desc limit p_limit for update
  ));
  get diagnostics v_count = row_count;
  return v_count;
end $$;
