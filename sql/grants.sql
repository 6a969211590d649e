-- Applied after the operations. The role of the functions may read and write rows of the tenant that is set and call
-- the operations, and nothing else: it owns no table, so it cannot switch row-level security off.

grant usage on schema public, turnkeep to turnkeep_app;

grant select, insert, update on public.tenants, public.chat_sessions, public.chat_messages, public.idempotency_keys to turnkeep_app;

grant select, insert, update on public.tenant_settings, public.usage_daily to turnkeep_app;

-- The audit log is written and read, and never changed; what is older than a year may be removed.
grant select, insert, delete on public.audit_log to turnkeep_app;

-- The hot store and the limits are emptied by those who fill them.
grant select, insert, update, delete on public.chat_turns, public.chat_reply_events, public.rate_limits to turnkeep_app;

-- What has left for the archive, and comes back from it.
grant delete on public.chat_messages to turnkeep_app;

grant select, insert, update, delete on public.archive_objects, public.archive_segments, public.archived_messages,
  public.archived_threads to turnkeep_app;

-- What users have erased, and what has had its time.
grant delete on public.chat_sessions, public.idempotency_keys, public.usage_daily to turnkeep_app;

grant select, insert, update, delete on public.user_jobs, public.erasures, public.erased_sessions to turnkeep_app;

revoke execute on all functions in schema turnkeep from public;

grant execute on all functions in schema turnkeep to turnkeep_app;

-- For the owner alone. Others could do nothing with it: it runs with the rights of its caller.
revoke execute on function turnkeep.set_login(text, text, text) from turnkeep_app;
