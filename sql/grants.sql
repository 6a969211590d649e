-- Applied after the operations. The role of the functions may read and write rows of the tenant that is set and call
-- the operations, and nothing else: it owns no table, so it cannot switch row-level security off.

grant usage on schema public, turnkeep to turnkeep_app;

grant select, insert, update on public.tenants, public.chat_sessions, public.chat_messages, public.idempotency_keys to turnkeep_app;

grant select, insert, update on public.tenant_settings to turnkeep_app;

-- The audit log is written and read, and never changed.
grant select, insert on public.audit_log to turnkeep_app;

-- The hot store and the limits are emptied by those who fill them.
grant select, insert, update, delete on public.chat_turns, public.chat_reply_events, public.rate_limits to turnkeep_app;

revoke execute on all functions in schema turnkeep from public;

grant execute on all functions in schema turnkeep to turnkeep_app;

-- For the owner alone. Others could do nothing with it: it runs with the rights of its caller.
revoke execute on function turnkeep.set_login(text, text, text) from turnkeep_app;
