-- Which messages a segment holds, once they have left: it takes the place of an index of archived_messages by segment, which
-- was a tenth of what the archiver asks of Postgres. Some may have another, newer copy by now: archived_messages says which counts.
alter table public.archive_segments add column if not exists message_ids uuid[] not null default '{}';

-- Whoever migrates owns the tables, and sees no tenant's rows unless this says so.
alter table public.archive_segments no force row level security;

alter table public.archived_messages no force row level security;

-- loses data: none; the column is new.
update public.archive_segments c set message_ids = a.ids
from (
  select company_id, platform, session_id, segment_id, array_agg(id) as ids from public.archived_messages group by 1, 2, 3, 4
) a
where c.company_id = a.company_id and c.platform = a.platform and c.session_id = a.session_id and c.id = a.segment_id
  and c.message_ids = '{}';

alter table public.archive_segments force row level security;

alter table public.archived_messages force row level security;

drop index if exists public.archived_messages_of_session;
