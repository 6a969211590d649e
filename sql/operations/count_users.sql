-- Users over all tenants, of sessions that were active in the last 5 minutes and in the last 30 days. For the latter it
-- walks from user to user along the index and looks at the newest session of each, so that a month of conversations
-- costs no more than an hour of them. It looks at p_limit users at most: above that, monthly is the least it can be.
create or replace function turnkeep.count_users(p_limit integer)
returns table (active integer, monthly integer)
language plpgsql stable as $$
declare
  v_tenants public.tenants[];
  v_tenant public.tenants;
  v_seen integer;
  v_left integer := p_limit;
  v_count integer;
begin
  active := 0;
  monthly := 0;
  perform set_config('turnkeep.sweep', 'on', true);
  v_tenants := array(select t from public.tenants t);
  perform set_config('turnkeep.sweep', 'off', true);
  foreach v_tenant in array v_tenants loop
    perform turnkeep.set_tenant(v_tenant.company_id, v_tenant.platform);
    select count(distinct s.user_id) into v_count from public.chat_sessions s
    where s.company_id = v_tenant.company_id and s.platform = v_tenant.platform and s.deleted_at is null
      and s.last_active_at > now() - interval '5 minutes';
    active := active + v_count;
    continue when v_left <= 0;
    with recursive newest as (
      (select s.user_id, s.last_active_at from public.chat_sessions s
        where s.company_id = v_tenant.company_id and s.platform = v_tenant.platform and s.deleted_at is null
        order by s.user_id, s.last_active_at desc limit 1)
      union all
      select following.* from newest, lateral (
        select s.user_id, s.last_active_at from public.chat_sessions s
        where s.company_id = v_tenant.company_id and s.platform = v_tenant.platform and s.deleted_at is null
          and s.user_id > newest.user_id
        order by s.user_id, s.last_active_at desc limit 1
      ) following
    )
    select count(*), count(*) filter (where n.last_active_at > now() - interval '30 days') into v_seen, v_count
    from (select * from newest limit v_left) n;
    monthly := monthly + v_count;
    v_left := v_left - v_seen;
  end loop;
  return next;
end $$;
