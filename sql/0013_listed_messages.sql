-- It returns bytes now; sql/operations makes it.
drop function if exists turnkeep.list_messages(text, text, jsonb, uuid, text, boolean, integer, uuid, integer, integer);

-- It is message_line.
drop function if exists turnkeep.archive_line(public.chat_messages);
