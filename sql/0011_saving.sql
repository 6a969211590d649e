-- Less work and less room for each message that is saved.

-- A row of up to 2,800 bytes is kept whole: an answer of some 1,200 characters, half of them Hangul. At the usual 2,000 it
-- would be compressed, in vain more often than not, and cut into pieces with an index of their own. At 4,000 text is never
-- compressed, and takes more than half again its bytes.
alter table public.chat_messages set (toast_tuple_target = 2800);

-- In the place of an index that held token_count beside the time: an index with such a column keeps a question's and its answer's
-- time twice.
create index if not exists chat_messages_by_creation on public.chat_messages (company_id, platform, created_at);

drop index if exists public.chat_messages_tokens;

-- They return or take other types now; sql/operations makes them.
drop function if exists turnkeep.list_messages(text, text, jsonb, uuid, text, boolean, integer, uuid, integer, integer);

drop function if exists turnkeep.add_usage(text, text, turnkeep.message_record[]);
