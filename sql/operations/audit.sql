-- The audit log (docs/tenants.md). Operations write it themselves, in their own transaction: what cannot be recorded
-- does not happen. p_caller everywhere: {user_id, role}, as the token says.

-- Whether a caller may read and change what belongs to a user: agents and admins all of their tenant's, others their own.
create or replace function turnkeep.may_act_for(p_caller jsonb, p_user_id text) returns boolean
language sql immutable as $$
  select coalesce(p_caller ->> 'role' in ('agent', 'admin') or p_caller ->> 'user_id' = p_user_id, false)
$$;

-- Adds a line. The caller of this has set the tenant.
create or replace function turnkeep.audit(p_company_id text, p_platform text, p_caller jsonb, p_action text, p_user_id text,
  p_session_id uuid default null, p_message_id uuid default null, p_fields text[] default '{}')
returns void
language sql as $$
  insert into public.audit_log (company_id, platform, actor_id, actor_role, action, user_id, session_id, message_id, fields)
  values (p_company_id, p_platform, p_caller ->> 'user_id', p_caller ->> 'role', p_action, p_user_id, p_session_id, p_message_id, p_fields)
$$;

-- The same where it is somebody else's data; what people do with their own is their own business.
create or replace function turnkeep.audit_other(p_company_id text, p_platform text, p_caller jsonb, p_action text, p_user_id text,
  p_session_id uuid default null, p_message_id uuid default null, p_fields text[] default '{}')
returns void
language plpgsql as $$
begin
  if p_user_id is distinct from p_caller ->> 'user_id' then
    perform turnkeep.audit(p_company_id, p_platform, p_caller, p_action, p_user_id, p_session_id, p_message_id, p_fields);
  end if;
end $$;

-- For what is read or stopped in the hot store, which need not be this database: a line about a reply of another user.
create or replace function turnkeep.audit_reply(p_company_id text, p_platform text, p_caller jsonb, p_action text, p_user_id text, p_message_id uuid)
returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  perform turnkeep.audit_other(p_company_id, p_platform, p_caller, p_action, p_user_id, coalesce(
    (select t.session_id from public.chat_turns t
      where t.company_id = p_company_id and t.platform = p_platform and t.message_id = p_message_id),
    (select m.session_id from public.chat_messages m
      where m.company_id = p_company_id and m.platform = p_platform and m.id = p_message_id)
  ), p_message_id);
  return true; -- The Data API cannot return nothing.
end $$;

-- Newest first, after the place (p_before_at, p_before_id) when that is given; p_user_ids, a JSON array: only what was done
-- with the data of these, which are one user's id and what stands for it after a year.
create or replace function turnkeep.read_audit(p_company_id text, p_platform text, p_user_ids jsonb, p_before_at timestamptz, p_before_id uuid, p_limit integer)
returns table (entry jsonb)
language plpgsql stable
-- A plan for all values could use no index for what may be null.
set plan_cache_mode = force_custom_plan as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if p_user_ids is null then
    return query
      select to_jsonb(a) from public.audit_log a
      where a.company_id = p_company_id and a.platform = p_platform
        and (p_before_id is null or (a.at, a.id) < (p_before_at, p_before_id))
      order by a.at desc, a.id desc limit p_limit;
  else
    return query
      select to_jsonb(a) from (select distinct u.id from jsonb_array_elements_text(p_user_ids) u (id)) u
      cross join lateral ( -- Of each along the index, however many lines there are.
        select * from public.audit_log l
        where l.company_id = p_company_id and l.platform = p_platform and l.user_id = u.id
          and (p_before_id is null or (l.at, l.id) < (p_before_at, p_before_id))
        order by l.at desc, l.id desc limit p_limit
      ) a
      order by a.at desc, a.id desc limit p_limit;
  end if;
end $$;
