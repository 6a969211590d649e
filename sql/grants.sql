-- Applied after the operations. The role of the functions may read and write rows of the tenant that is set and call
-- the operations, and nothing else: it owns no table, so it cannot switch row-level security off.

grant usage on schema public, turnkeep to turnkeep_app;

grant select, insert, update on public.tenants, public.chat_sessions, public.chat_messages, public.idempotency_keys to turnkeep_app;

-- The hot store is emptied by those who fill it.
grant select, insert, update, delete on public.chat_turns, public.chat_reply_events to turnkeep_app;

revoke execute on all functions in schema turnkeep from public;

grant execute on all functions in schema turnkeep to turnkeep_app;

-- For the owner alone. Others could do nothing with it: it runs with the rights of its caller.
revoke execute on function turnkeep.set_login(text, text, text) from turnkeep_app;
