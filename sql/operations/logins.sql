-- Passwords of the functions' logins. What is sent is the SCRAM verifier that Postgres stores, never a password.

-- Runs with the rights of its caller: only the owner has any to set a password of another role.
create or replace function turnkeep.set_login(p_login text, p_verifier text, p_secret_version text) returns boolean
language plpgsql as $$
begin
  -- A text of another form would be taken for a plain password.
  if p_login is null or p_login not in ('turnkeep_app_1', 'turnkeep_app_2') or p_secret_version is null or p_verifier is null
    or p_verifier !~ '^SCRAM-SHA-256\$[1-9]\d{3,6}:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$' then
    raise exception 'no login of the functions, or no verifier' using errcode = 'invalid_parameter_value';
  end if;
  for attempt in 1 .. 20 loop
    begin
      execute format('alter role %I password %L', p_login, p_verifier);
      exit;
    exception when internal_error then
      -- "tuple concurrently updated": another database of the same server sets it at this moment.
      if attempt = 20 then raise; end if;
      perform pg_catalog.pg_sleep(0.01 * attempt);
    end;
  end loop;
  insert into turnkeep.logins (login, secret_version) values (p_login, p_secret_version)
  on conflict (login) do update set secret_version = excluded.secret_version, changed_at = now();
  return true;
end $$;

-- The only thing that a function of the product may do to a role: give the login that it does not use itself a new
-- password. Runs with the rights of the owner, hence the fixed search path.
create or replace function turnkeep.change_other_login(p_login text, p_verifier text, p_secret_version text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  -- Whoever logged in as one of them is that one, whatever role it set afterwards. One machine has the owner's
  -- connection only, on which the local Data API sets the role.
  v_own text := case when session_user in ('turnkeep_app_1', 'turnkeep_app_2') then session_user else current_setting('role') end;
begin
  if v_own not in ('turnkeep_app_1', 'turnkeep_app_2') or p_login is null or p_login = v_own then
    raise exception 'only the other login may be changed' using errcode = 'insufficient_privilege';
  end if;
  return turnkeep.set_login(p_login, p_verifier, p_secret_version);
end $$;

-- Whether a login may log in here, has the functions' privileges, and has the password of this version of the secret.
create or replace function turnkeep.login_stands(p_login text, p_secret_version text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select exists (
    select from pg_roles r join turnkeep.logins l on l.login = r.rolname
    where r.rolname = p_login and l.secret_version = p_secret_version
      and r.rolcanlogin and r.rolconnlimit <> 0 and coalesce(r.rolvaliduntil > now(), true)
      and pg_has_role(r.oid, 'turnkeep_app', 'usage') and has_database_privilege(r.oid, current_database(), 'connect'))
$$;
