-- The logins of the functions. They own nothing and may do what turnkeep_app may, which itself cannot log in. There are
-- two, so that a password changes while nobody uses it: the app secret names one of them; its rotation gives the other
-- one a new password and then names that one.
--
-- Passwords are no business of migrations: `migrate` sets the one that the app secret holds (operations/logins.sql).

-- Roles belong to the whole server, so another database's migration may be making the same ones right now.
do $$
begin
  if not exists (select from pg_roles where rolname = 'turnkeep_app_1') then
    create role turnkeep_app_1 login inherit;
  end if;
exception when duplicate_object or unique_violation then
  null;
end $$;

do $$
begin
  if not exists (select from pg_roles where rolname = 'turnkeep_app_2') then
    create role turnkeep_app_2 login inherit;
  end if;
exception when duplicate_object or unique_violation then
  null;
end $$;

do $$
begin
  if not pg_has_role('turnkeep_app_1', 'turnkeep_app', 'usage') then
    grant turnkeep_app to turnkeep_app_1;
  end if;
exception when unique_violation then
  null;
end $$;

do $$
begin
  if not pg_has_role('turnkeep_app_2', 'turnkeep_app', 'usage') then
    grant turnkeep_app to turnkeep_app_2;
  end if;
exception when unique_violation then
  null;
end $$;

-- Which version of the app secret holds a login's password: what a rotation can prove before it hands over.
create table if not exists turnkeep.logins (
  login text primary key,
  secret_version text not null,
  changed_at timestamptz not null default now()
);
