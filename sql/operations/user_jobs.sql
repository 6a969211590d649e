-- Exports and erasures of users (lambdas/rights, docs/rights.md): asked for here, worked off by the function `jobs`.

-- Whether a caller may export or erase a user, and see how it stands: admins any of their tenant's, others themselves.
create or replace function turnkeep.may_act_on_user(p_caller jsonb, p_user_id text) returns boolean
language sql immutable as $$
  select coalesce(p_caller ->> 'role' = 'admin' or p_caller ->> 'user_id' = p_user_id, false)
$$;

-- A JSON array of texts, as an index takes them.
create or replace function turnkeep.texts_of(p_texts jsonb) returns text[]
language sql immutable as $$
  select array(select jsonb_array_elements_text(p_texts))
$$;

-- Saves and erasures of a tenant meet here: a save holds it shared, so that an erasure begins when every save that did not
-- see its tombstone has ended; so does whatever makes a session, which is younger than an erasure that it has waited for. Until
-- the end of the transaction.
create or replace function turnkeep.lock_erasures(p_company_id text, p_platform text, p_shared boolean) returns void
language plpgsql as $$
declare
  v_key bigint := hashtextextended(jsonb_build_array('erasures', p_company_id, p_platform)::text, 0);
begin
  if p_shared then
    perform pg_advisory_xact_lock_shared(v_key);
  else
    perform pg_advisory_xact_lock(v_key);
  end if;
end $$;

-- Asks for an export; one that is not done yet is the same one. Recorded whoever asks. No row: not for this caller.
create or replace function turnkeep.request_export(p_company_id text, p_platform text, p_caller jsonb, p_user_id text, p_id uuid)
returns table (id uuid)
language plpgsql as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if not turnkeep.may_act_on_user(p_caller, p_user_id) then
    return;
  end if;
  -- One at a time asks for anything of this user.
  perform turnkeep.lock_erasures(p_company_id, p_platform, false);
  perform turnkeep.audit(p_company_id, p_platform, p_caller, 'user.exported', p_user_id);
  return query
    select j.id from public.user_jobs j
    where j.company_id = p_company_id and j.platform = p_platform and j.user_id = p_user_id and j.kind = 'export'
      and j.state in ('queued', 'running')
    order by j.created_at desc limit 1;
  if not found then
    return query
      insert into public.user_jobs as j (company_id, platform, id, kind, user_id, state)
      values (p_company_id, p_platform, p_id, 'export', p_user_id, 'queued') returning j.id;
  end if;
end $$;

-- What stands of a user was made before the erasure that is being asked for, also where the clock that made it was ahead: it is
-- given the cutoff's time. A later cutoff would drop what the user does until then, however far ahead that clock was. The caller
-- has set the tenant and locked erasures.
create or replace function turnkeep.set_back(p_company_id text, p_platform text, p_user_ids jsonb, p_cutoff timestamptz) returns void
language sql as $$
  update public.chat_sessions s set created_at = p_cutoff
  where s.company_id = p_company_id and s.platform = p_platform and s.user_id = any (turnkeep.texts_of(p_user_ids))
    and s.created_at > p_cutoff;
  update public.idempotency_keys k set created_at = p_cutoff
  where k.company_id = p_company_id and k.platform = p_platform and k.user_id = any (turnkeep.texts_of(p_user_ids))
    and k.created_at > p_cutoff;
  update public.user_jobs j set created_at = p_cutoff
  where j.company_id = p_company_id and j.platform = p_platform and j.user_id = any (turnkeep.texts_of(p_user_ids))
    and j.kind = 'export' and j.created_at > p_cutoff;
$$;

-- Asks for an erasure and sets the user's tombstone: from here on nothing that was made before comes back. One that is not
-- done is the same one, which takes with it what has come since; and so is one that is done if nothing of the user has come
-- since, but perhaps something is on its way. p_user_ids: the user's id and
-- what stands for it after a year. No row: not for this caller.
create or replace function turnkeep.request_erasure(p_company_id text, p_platform text, p_caller jsonb, p_user_id text, p_user_ids jsonb, p_id uuid)
returns table (id uuid)
language plpgsql as $$
#variable_conflict use_column
declare
  v_last public.user_jobs;
  v_is_same boolean;
  v_cutoff timestamptz;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if not turnkeep.may_act_on_user(p_caller, p_user_id) then
    return;
  end if;
  perform turnkeep.lock_erasures(p_company_id, p_platform, false);
  v_cutoff := clock_timestamp();
  perform turnkeep.set_back(p_company_id, p_platform, p_user_ids, v_cutoff);
  -- Locked: it does not end (note_user_job) before the cutoff below is known.
  select * into v_last from public.user_jobs j
  where j.company_id = p_company_id and j.platform = p_platform and j.user_id = p_user_id and j.kind = 'erasure'
  order by j.created_at desc, j.id desc limit 1 for update;
  v_is_same := v_last.id is not null and (v_last.state <> 'done' or not turnkeep.has_data(p_company_id, p_platform, p_user_ids));
  if not v_is_same then
    insert into public.tenants (company_id, platform) values (p_company_id, p_platform) on conflict do nothing;
    insert into public.user_jobs (company_id, platform, id, kind, user_id, state)
    values (p_company_id, p_platform, p_id, 'erasure', p_user_id, 'queued');
  elsif v_last.state = 'failed' then -- It goes on where it was.
    update public.user_jobs j set state = 'queued', updated_at = clock_timestamp()
    where j.company_id = p_company_id and j.platform = p_platform and j.id = v_last.id;
  end if;
  if not v_is_same or v_last.state = 'failed' then
    perform turnkeep.audit(p_company_id, p_platform, p_caller, 'user.erased', p_user_id);
  end if;
  insert into public.erasures as e (company_id, platform, user_id, cutoff, job_id)
  values (p_company_id, p_platform, p_user_id, v_cutoff, case when v_is_same then v_last.id else p_id end)
  on conflict (company_id, platform, user_id) do update set cutoff = excluded.cutoff, job_id = excluded.job_id;
  return query select case when v_is_same then v_last.id else p_id end;
end $$;

-- Whether anything of a user stands in a table, the audit log and the erasures themselves aside. The caller has set the
-- tenant.
create or replace function turnkeep.has_data(p_company_id text, p_platform text, p_user_ids jsonb) returns boolean
language sql stable as $$
  select exists (
      select 1 from public.chat_sessions s
      where s.company_id = p_company_id and s.platform = p_platform and s.user_id = any (turnkeep.texts_of(p_user_ids))
    ) or exists (
      select 1 from public.idempotency_keys k
      where k.company_id = p_company_id and k.platform = p_platform and k.user_id = any (turnkeep.texts_of(p_user_ids))
    ) or exists (
      select 1 from public.usage_daily u
      where u.company_id = p_company_id and u.platform = p_platform and u.user_id = any (turnkeep.texts_of(p_user_ids))
    ) or exists (
      select 1 from public.user_jobs j
      where j.company_id = p_company_id and j.platform = p_platform and j.user_id = any (turnkeep.texts_of(p_user_ids)) and j.kind = 'export'
    )
$$;

-- How a job stands, for whoever may see it. Whoever sees another user's export that is done is given a link to it, which is recorded.
create or replace function turnkeep.get_user_job(p_company_id text, p_platform text, p_caller jsonb, p_kind text, p_id uuid)
returns table (job jsonb)
language plpgsql as $$
declare
  v_job public.user_jobs;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select * into v_job from public.user_jobs j
  where j.company_id = p_company_id and j.platform = p_platform and j.id = p_id and j.kind = p_kind
    and turnkeep.may_act_on_user(p_caller, j.user_id);
  if not found then
    return;
  end if;
  if v_job.kind = 'export' and v_job.state = 'done' then
    perform turnkeep.audit_other(p_company_id, p_platform, p_caller, 'user.exported', v_job.user_id);
  end if;
  return query select to_jsonb(v_job);
end $$;

-- What there is of a user, at a glance: kind 'counts' {sessions, messages}; 'job' with the newest export and the newest
-- erasure. p_user_ids as in request_erasure. No row: not for this caller.
create or replace function turnkeep.read_user(p_company_id text, p_platform text, p_caller jsonb, p_user_id text, p_user_ids jsonb)
returns table (kind text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if not turnkeep.may_act_on_user(p_caller, p_user_id) then
    return;
  end if;
  perform turnkeep.audit_other(p_company_id, p_platform, p_caller, 'user.read', p_user_id);
  perform turnkeep.audit_other(p_company_id, p_platform, p_caller, 'user.exported', p_user_id)
  from (
    select j.state from public.user_jobs j
    where j.company_id = p_company_id and j.platform = p_platform and j.user_id = p_user_id and j.kind = 'export'
    order by j.created_at desc, j.id desc limit 1
  ) newest
  where newest.state = 'done';
  return query
    select 'counts', jsonb_build_object('sessions', count(*), 'messages', coalesce(sum(s.message_count), 0)) from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform and s.user_id = any (turnkeep.texts_of(p_user_ids))
      and s.deleted_at is null;
  return query
    select 'job', to_jsonb(j) from (
      select distinct on (j.kind) j.* from public.user_jobs j
      where j.company_id = p_company_id and j.platform = p_platform and j.user_id = p_user_id
      order by j.kind, j.created_at desc, j.id desc
    ) j;
end $$;

-- Takes a job up, for whoever has its message: what an earlier attempt still writes is refused from here on. With the
-- cutoff where it is an erasure. No row: done, or gone.
create or replace function turnkeep.start_user_job(p_company_id text, p_platform text, p_id uuid)
returns table (job jsonb)
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    with started as (
      update public.user_jobs j set state = 'running', attempt = j.attempt + 1, updated_at = clock_timestamp(),
        progress = j.progress || coalesce((
          select jsonb_build_object('cutoff', e.cutoff) from public.erasures e
          where e.company_id = p_company_id and e.platform = p_platform and e.user_id = j.user_id and j.kind = 'erasure'
        ), '{}')
      where j.company_id = p_company_id and j.platform = p_platform and j.id = p_id and j.state <> 'done'
      returning j.*
    )
    select to_jsonb(s) || jsonb_build_object('cutoff', s.progress -> 'cutoff') from started s;
end $$;

-- Writes down how far it is: p_progress replaces its keys, p_state is null while it goes on. False: somebody else has taken
-- it up, it is gone, or it is an erasure that is not done, since it was asked for once more; nothing was written.
create or replace function turnkeep.note_user_job(p_company_id text, p_platform text, p_id uuid, p_attempt integer, p_progress jsonb, p_state text)
returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  -- Who asks once more at this moment is waited for, and what it has written is seen.
  perform 1 from public.user_jobs j where j.company_id = p_company_id and j.platform = p_platform and j.id = p_id for update;
  update public.user_jobs j
  set progress = j.progress || p_progress, updated_at = clock_timestamp(), state = coalesce(p_state, j.state),
    completed_at = case when p_state = 'done' then clock_timestamp() else j.completed_at end
  where j.company_id = p_company_id and j.platform = p_platform and j.id = p_id and j.attempt = p_attempt and j.state = 'running'
    and (p_state is distinct from 'done' or j.kind <> 'erasure' or not exists (
      select 1 from public.erasures e
      where e.company_id = p_company_id and e.platform = p_platform and e.user_id = j.user_id
        and e.cutoff > (j.progress ->> 'cutoff')::timestamptz
    ));
  return found;
end $$;

-- Sessions of a user by their ids, after the one that is given: one that is used meanwhile keeps its place. p_user_ids as in
-- request_erasure. What an erasure is to remove that has only been asked for is not among them: it would outlive it in the export.
create or replace function turnkeep.export_sessions(p_company_id text, p_platform text, p_user_ids jsonb, p_after uuid, p_limit integer)
returns setof public.chat_sessions
language plpgsql stable as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select s.* from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform and s.user_id = any (turnkeep.texts_of(p_user_ids)) and s.deleted_at is null
      and s.id > p_after and not exists (
        select 1 from public.erasures e
        where e.company_id = p_company_id and e.platform = p_platform and e.user_id = any (turnkeep.texts_of(p_user_ids))
          and s.created_at <= e.cutoff
      )
    order by s.id limit p_limit;
end $$;

-- What a user has used, day by day, after the place that is given ({day, model}, or null). Without what an erasure is to remove
-- that has only been asked for. What comes on the day of one that is done is used anew.
create or replace function turnkeep.export_usage(p_company_id text, p_platform text, p_user_ids jsonb, p_after jsonb, p_limit integer)
returns table (usage jsonb)
language plpgsql stable as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select to_jsonb(u) from public.usage_daily u
    where u.company_id = p_company_id and u.platform = p_platform and u.user_id = any (turnkeep.texts_of(p_user_ids))
      and not exists (
        select 1 from public.erasures e
        join public.user_jobs j on j.company_id = p_company_id and j.platform = p_platform and j.id = e.job_id and j.state <> 'done'
        where e.company_id = p_company_id and e.platform = p_platform and e.user_id = any (turnkeep.texts_of(p_user_ids))
          and u.day <= (e.cutoff at time zone 'UTC')::date
      )
      and (p_after is null or (u.day, u.model, u.user_id) > ((p_after ->> 'day')::date, p_after ->> 'model', p_after ->> 'user_id'))
    order by u.day, u.model, u.user_id limit p_limit;
end $$;

-- Of some erasures, a JSON array of ids, those that this database does not know: it was restored from before them.
create or replace function turnkeep.unknown_erasures(p_company_id text, p_platform text, p_ids jsonb)
returns table (id uuid)
language plpgsql stable as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select e.id::uuid from jsonb_array_elements_text(p_ids) e (id)
    where not exists (
      select 1 from public.user_jobs j
      where j.company_id = p_company_id and j.platform = p_platform and j.id = e.id::uuid
    );
end $$;

-- Users of whom there is anything, in the order of their ids, after the one that is given.
create or replace function turnkeep.list_users(p_company_id text, p_platform text, p_after text, p_limit integer)
returns table (user_id text)
language plpgsql stable as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select u.user_id from (
      select s.user_id from public.chat_sessions s where s.company_id = p_company_id and s.platform = p_platform
      union
      select k.user_id from public.idempotency_keys k where k.company_id = p_company_id and k.platform = p_platform
      union
      select d.user_id from public.usage_daily d where d.company_id = p_company_id and d.platform = p_platform
    ) u
    where u.user_id > p_after order by u.user_id limit p_limit;
end $$;

-- Asks once more for an erasure that a restore has undone, up to its own cutoff. p_user_id is the user's, or the hash where
-- nothing stands under an id. False: it is known.
create or replace function turnkeep.repeat_erasure(p_company_id text, p_platform text, p_user_id text, p_id uuid, p_cutoff timestamptz)
returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  perform turnkeep.lock_erasures(p_company_id, p_platform, false);
  insert into public.user_jobs (company_id, platform, id, kind, user_id, state)
  values (p_company_id, p_platform, p_id, 'erasure', p_user_id, 'queued')
  on conflict do nothing;
  if not found then
    return false;
  end if;
  insert into public.erasures as e (company_id, platform, user_id, cutoff, job_id)
  values (p_company_id, p_platform, p_user_id, p_cutoff, p_id)
  on conflict (company_id, platform, user_id) do update
  set cutoff = excluded.cutoff, job_id = excluded.job_id where e.cutoff < excluded.cutoff;
  return true;
end $$;
