-- Everywhere below p_caller is {user_id, role}: a user's own sessions will do, anybody's in the tenant for agents and
-- admins. What those read and change of others is recorded here, in the same transaction (audit.sql).

create or replace function turnkeep.create_session(p_company_id text, p_platform text, p_caller jsonb, p_session jsonb)
returns setof public.chat_sessions
language plpgsql as $$
declare
  v_now timestamptz;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  perform turnkeep.lock_erasures(p_company_id, p_platform, true);
  v_now := clock_timestamp();
  perform turnkeep.audit_other(
    p_company_id, p_platform, p_caller, 'session.created', p_session ->> 'user_id', (p_session ->> 'id')::uuid);
  insert into public.tenants (company_id, platform) values (p_company_id, p_platform) on conflict do nothing;
  return query
    insert into public.chat_sessions (id, company_id, platform, user_id, channel, title, metadata, created_at,
      last_active_at, expires_at)
    values ((p_session ->> 'id')::uuid, p_company_id, p_platform, p_session ->> 'user_id', p_session ->> 'channel',
      p_session ->> 'title', p_session -> 'metadata', v_now, v_now, v_now + interval '24 hours')
    returning *;
end $$;

create or replace function turnkeep.get_session(p_company_id text, p_platform text, p_caller jsonb, p_id uuid) returns setof public.chat_sessions
language plpgsql as $$
declare
  v_session public.chat_sessions;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select * into v_session from public.chat_sessions s
  where s.company_id = p_company_id and s.platform = p_platform and s.id = p_id and s.deleted_at is null
    and turnkeep.may_act_for(p_caller, s.user_id);
  if found then
    perform turnkeep.audit_other(p_company_id, p_platform, p_caller, 'session.read', v_session.user_id, p_id);
    return next v_session;
  end if;
end $$;

-- Sessions of p_owner (null: of everybody in the tenant, which is for agents and admins), newest activity first, after
-- the place (p_before_active, p_before_id) when that is given. p_caller may have a pseudonym: what stands under it is the
-- caller's again before the list begins.
create or replace function turnkeep.list_sessions(p_company_id text, p_platform text, p_caller jsonb, p_owner text, p_active boolean,
  p_before_active timestamptz, p_before_id uuid, p_limit integer)
returns setof public.chat_sessions
language plpgsql
-- A plan for all values could use no index for what may be null.
set plan_cache_mode = force_custom_plan as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if not turnkeep.may_act_for(p_caller, p_owner) then
    return;
  end if;
  perform turnkeep.audit_other(p_company_id, p_platform, p_caller, 'sessions.listed', p_owner);
  if p_caller ->> 'pseudonym' is not null and p_before_id is null then
    perform turnkeep.reclaim_sessions(p_company_id, p_platform, p_caller ->> 'user_id', p_caller ->> 'pseudonym', 1000);
  end if;
  return query
    select s.* from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform and s.deleted_at is null
      and (p_owner is null or s.user_id = p_owner)
      and (p_active is null or p_active = (s.ended_at is null and s.expires_at > now()))
      and (p_before_id is null or (s.last_active_at, s.id) < (p_before_active, p_before_id))
    order by s.last_active_at desc, s.id desc limit p_limit;
end $$;

-- p_changes holds only the columns to change; null clears one.
create or replace function turnkeep.change_session(p_company_id text, p_platform text, p_caller jsonb, p_id uuid, p_changes jsonb)
returns setof public.chat_sessions
language plpgsql as $$
declare
  v_session public.chat_sessions;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.chat_sessions s
  set (title, metadata, inquiry_category, satisfaction_score, resolution_status, priority, follow_up_needed, business_impact, updated_at) = (
    select c.title, c.metadata, c.inquiry_category, c.satisfaction_score, c.resolution_status, c.priority,
      c.follow_up_needed, c.business_impact, now()
    from jsonb_populate_record(s, p_changes) c
  )
  where s.company_id = p_company_id and s.platform = p_platform and s.id = p_id and s.deleted_at is null
    and turnkeep.may_act_for(p_caller, s.user_id)
  returning s.* into v_session;
  if found then
    perform turnkeep.audit_other(p_company_id, p_platform, p_caller, 'session.changed', v_session.user_id, p_id,
      p_fields => array(select jsonb_object_keys(p_changes) order by 1));
    return next v_session;
  end if;
end $$;

-- Ends a session for good; with p_purge it also disappears from every read. Repeating it changes nothing. Recorded
-- whoever does it, once.
create or replace function turnkeep.end_session(p_company_id text, p_platform text, p_caller jsonb, p_id uuid, p_purge boolean) returns boolean
language plpgsql as $$
declare
  v_session public.chat_sessions;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select * into v_session from public.chat_sessions s
  where s.company_id = p_company_id and s.platform = p_platform and s.id = p_id and s.deleted_at is null
    and turnkeep.may_act_for(p_caller, s.user_id) for update;
  if not found then
    return false;
  end if;
  if p_purge or v_session.ended_at is null then
    perform turnkeep.audit(p_company_id, p_platform, p_caller,
      case when p_purge then 'session.purged' else 'session.ended' end, v_session.user_id, p_id);
  end if;
  update public.chat_sessions s
  set is_active = false, ended_at = coalesce(s.ended_at, now()), updated_at = now(),
    deleted_at = case when p_purge then now() end
  where s.company_id = p_company_id and s.platform = p_platform and s.id = p_id;
  return true;
end $$;
