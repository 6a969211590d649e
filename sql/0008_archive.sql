-- Where messages lie that have left chat_messages for the archive (docs/archive-format.md). A row of chat_messages always
-- wins over an archived copy with the same id: what changes an archived message puts it back first, and a later run
-- archives it again.

-- Written before the first byte is uploaded, so that no object exists that Postgres has never heard of.
create table if not exists public.archive_objects (
  company_id text not null,
  platform text not null,
  key text not null,
  -- writing: not read back yet. complete: every segment of it was read back as it was written. dropped: it is being
  -- removed, and nothing may count on it any more.
  state text not null check (state in ('writing', 'complete', 'dropped')),
  -- Of the multipart upload, as soon as there is one: an upload that nobody ends is paid for and seen by nobody.
  upload_id text,
  messages integer not null default 0,
  segments integer not null default 0,
  bytes bigint not null default 0,
  -- Of the object as it is stored.
  sha256 text,
  -- Of the lines: docs/archive-format.md.
  schema_version integer not null,
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  primary key (company_id, platform, key)
);

-- One gzip member of an object: messages of one session.
create table if not exists public.archive_segments (
  company_id text not null,
  platform text not null,
  session_id uuid not null,
  -- A version 7 UUID.
  id uuid not null,
  object_key text not null,
  byte_offset bigint not null,
  byte_length integer not null,
  -- Of the lines, uncompressed, as their SHA-256.
  text_bytes integer not null,
  messages integer not null,
  -- Positions from and to; between them others may have stayed.
  first_sequence integer not null,
  last_sequence integer not null,
  sha256 text not null,
  -- copied: its rows are in chat_messages still, or were changed before they could leave; nothing reads it, but a user
  -- who is erased stands in it. live: its rows have left.
  state text not null check (state in ('copied', 'live')),
  created_at timestamptz not null default now(),
  primary key (company_id, platform, session_id, id)
);

create index if not exists archive_segments_of_object
  on public.archive_segments (company_id, platform, object_key, byte_offset);

-- Where the newest copy of a message lies, by the message's id alone.
create table if not exists public.archived_messages (
  company_id text not null,
  platform text not null,
  id uuid not null,
  segment_id uuid not null,
  session_id uuid not null,
  primary key (company_id, platform, id)
);

create index if not exists archived_messages_of_session
  on public.archived_messages (company_id, platform, session_id, segment_id);

-- The newest answer of a thread that has left: what a question follows when it names nothing else. It was not deleted
-- when it left; it may have been put back and deleted since.
create table if not exists public.archived_threads (
  company_id text not null,
  platform text not null,
  session_id uuid not null,
  thread_id text not null,
  newest_answer_id uuid not null,
  newest_answer_at timestamptz not null,
  primary key (company_id, platform, session_id, thread_id)
);

alter table public.archive_objects enable row level security;

alter table public.archive_objects force row level security;

drop policy if exists tenant on public.archive_objects;

create policy tenant on public.archive_objects
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

alter table public.archive_segments enable row level security;

alter table public.archive_segments force row level security;

drop policy if exists tenant on public.archive_segments;

create policy tenant on public.archive_segments
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

alter table public.archived_messages enable row level security;

alter table public.archived_messages force row level security;

drop policy if exists tenant on public.archived_messages;

create policy tenant on public.archived_messages
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));

alter table public.archived_threads enable row level security;

alter table public.archived_threads force row level security;

drop policy if exists tenant on public.archived_threads;

create policy tenant on public.archived_threads
  using (company_id = current_setting('turnkeep.company_id', true) and platform = current_setting('turnkeep.platform', true));
