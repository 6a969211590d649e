-- Segments whose rows did not leave: retention looks for those that are older than what was deleted is kept (retention.sql).
create index if not exists archive_segments_copied on public.archive_segments (company_id, platform, created_at) where state = 'copied';
