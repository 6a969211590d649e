-- Segments whose rows did not leave go with retention (next_object_to_rewrite). An object that has none, when it is old enough to be
-- looked at for them, is not looked at again. An index of such segments would be written for each segment, twice: the archiver was
-- 7 % slower.
alter table public.archive_objects add column if not exists all_left boolean not null default false;

-- Of an object that is written in the place of another: that one. An erasure gives up what may hold its user's messages, and
-- nothing else.
alter table public.archive_objects add column if not exists source_key text;
