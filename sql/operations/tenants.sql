-- What a tenant has set; '{}' where it has set nothing. The caller has set the tenant.
create or replace function turnkeep.settings_of(p_company_id text, p_platform text) returns jsonb
language sql stable as $$
  select coalesce(
    (select s.settings from public.tenant_settings s where s.company_id = p_company_id and s.platform = p_platform),
    '{}'
  )
$$;

-- The same with its version; no row: nothing was ever set, which is version 0.
create or replace function turnkeep.get_tenant(p_company_id text, p_platform text)
returns table (settings jsonb, version integer, changed_at timestamptz)
language plpgsql stable as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select s.settings, s.version, s.changed_at from public.tenant_settings s
    where s.company_id = p_company_id and s.platform = p_platform;
end $$;

-- p_changes holds only what is to change; null takes a setting back. What differs afterwards is recorded by its name.
-- p_version (or null) is the version that the changes are meant for: where it is another one by now, is_conflict is true
-- and nothing was changed.
create or replace function turnkeep.change_tenant(p_company_id text, p_platform text, p_caller jsonb, p_changes jsonb, p_version integer)
returns table (settings jsonb, version integer, changed_at timestamptz, is_conflict boolean)
language plpgsql as $$
#variable_conflict use_column
declare
  v_now public.tenant_settings;
  v_fields text[];
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  insert into public.tenants (company_id, platform) values (p_company_id, p_platform) on conflict do nothing;
  insert into public.tenant_settings (company_id, platform) values (p_company_id, p_platform) on conflict do nothing;
  select * into v_now from public.tenant_settings s
  where s.company_id = p_company_id and s.platform = p_platform for update;
  if p_version <> v_now.version then
    return query select v_now.settings, v_now.version, v_now.changed_at, true;
    return;
  end if;
  v_fields := array(
    select c.key from jsonb_each(p_changes) c where c.value <> coalesce(v_now.settings -> c.key, 'null') order by c.key
  );
  if v_fields <> '{}' then
    update public.tenant_settings s
    set version = s.version + 1, changed_at = now(), settings = (
      select coalesce(jsonb_object_agg(c.key, c.value), '{}') from jsonb_each(s.settings || p_changes) c where c.value <> 'null'
    )
    where s.company_id = p_company_id and s.platform = p_platform
    returning * into v_now;
    perform turnkeep.audit(p_company_id, p_platform, p_caller, 'tenant.changed', null, p_fields => v_fields);
  end if;
  return query select v_now.settings, v_now.version, v_now.changed_at, false;
end $$;

-- Checks as turnkeep.admit takes them, with the limits that their tenants have set for themselves. What all users of a
-- tenant may do together is never more than the check says: others' share depends on it.
create or replace function turnkeep.with_own_limits(p_checks jsonb) returns jsonb
language plpgsql as $$
declare
  v_check jsonb;
  v_settings jsonb;
  v_limit integer;
  v_checks jsonb := '[]';
begin
  for v_check in select c.value from jsonb_array_elements(p_checks) with ordinality c (value, place) order by c.place loop
    perform turnkeep.set_tenant(v_check ->> 'company_id', v_check ->> 'platform');
    v_settings := turnkeep.settings_of(v_check ->> 'company_id', v_check ->> 'platform');
    v_limit := case v_check ->> 'kind'
      when 'user' then (v_settings ->> 'userRequestsPerMinute')::integer
      when 'tenant' then least((v_settings ->> 'tenantRequestsPerMinute')::integer, (v_check ->> 'limit')::integer)
    end;
    v_checks := v_checks || jsonb_build_array(v_check || jsonb_build_object('limit', coalesce(v_limit, (v_check ->> 'limit')::integer)));
  end loop;
  return v_checks;
end $$;
