-- This index was written for each segment, twice: the archiver was 7 % slower.
drop index if exists public.archive_segments_copied;

-- Instead an object without segments whose rows did not leave, when it is old enough to be looked at for them
-- (next_object_to_rewrite), is not looked at again.
alter table public.archive_objects add column if not exists all_left boolean not null default false;

-- Of an object that is written in the place of another: that one. An erasure gives up what may hold its user's messages, and
-- nothing else.
alter table public.archive_objects add column if not exists source_key text;
