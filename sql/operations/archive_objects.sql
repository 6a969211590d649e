-- An object of the archive from its begin to its end: written until it is complete or given up, and forgotten once the bucket
-- has nothing of it (lambdas/ageing/begun-object.ts, remove-objects.ts, docs/archive-format.md).

-- Before anything of it is uploaded. Again with the same key, which nobody else has: nothing.
create or replace function turnkeep.begin_archive_object(p_company_id text, p_platform text, p_key text, p_schema_version integer) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  insert into public.archive_objects (company_id, platform, key, state, schema_version)
  values (p_company_id, p_platform, p_key, 'writing', p_schema_version) on conflict do nothing;
  return true;
end $$;

-- Before the first part leaves. False: somebody has given the object up.
create or replace function turnkeep.note_archive_upload(p_company_id text, p_platform text, p_key text, p_upload_id text) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.archive_objects o set upload_id = p_upload_id
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'writing';
  return found;
end $$;

-- Segments [{id, session_id, byte_offset, byte_length, text_bytes, messages, first_sequence, last_sequence, sha256}, …] of
-- an object that is written. Again with the same: nothing.
create or replace function turnkeep.record_segments(p_company_id text, p_platform text, p_key text, p_segments jsonb) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  insert into public.archive_segments (company_id, platform, session_id, id, object_key, byte_offset, byte_length, text_bytes,
    messages, first_sequence, last_sequence, sha256, state)
  select p_company_id, p_platform, r.session_id, r.id, p_key, r.byte_offset, r.byte_length, r.text_bytes, r.messages,
    r.first_sequence, r.last_sequence, r.sha256, 'copied'
  from jsonb_populate_recordset(null::public.archive_segments, p_segments) r
  on conflict do nothing;
  return true;
end $$;

-- All of it was read back. False: it is given up, by somebody else, or here because a session of it was erased after its
-- messages had been read and before the object was begun, so that no erasure could know of it. Nothing may leave because of it.
create or replace function turnkeep.complete_archive_object(p_company_id text, p_platform text, p_key text, p_object jsonb) returns boolean
language plpgsql as $$
declare
  v_has_erased boolean;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  v_has_erased := exists (
    select 1 from public.archive_segments c
    join public.erased_sessions e on e.company_id = p_company_id and e.platform = p_platform and e.session_id = c.session_id
    where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key
  );
  update public.archive_objects o
  set state = case when v_has_erased then 'dropped' else 'complete' end, upload_id = null, completed_at = now(),
    messages = r.messages, segments = r.segments, bytes = r.bytes, sha256 = r.sha256
  from jsonb_populate_record(null::public.archive_objects, p_object) r
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'writing';
  return found and not v_has_erased;
end $$;

-- Of what could not be written to its end. False: somebody else had given it up before.
create or replace function turnkeep.give_up_archive_object(p_company_id text, p_platform text, p_key text) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  update public.archive_objects o set state = 'dropped'
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'writing';
  return found;
end $$;

-- Gives up objects that are older than an hour and hold nothing that has left: their run is dead, what was read back was
-- not what had been written, or all of it had changed. From here on nothing can leave because of them.
create or replace function turnkeep.drop_dead_objects(p_company_id text, p_platform text, p_limit integer)
returns table (key text, upload_id text)
language plpgsql as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    update public.archive_objects o set state = 'dropped'
    where o.company_id = p_company_id and o.platform = p_platform and o.key = any (array(
      select d.key from public.archive_objects d
      where d.company_id = p_company_id and d.platform = p_platform and d.created_at < now() - interval '1 hour'
        and not exists (
          select 1 from public.archive_segments c
          where c.company_id = p_company_id and c.platform = p_platform and c.object_key = d.key and c.state = 'live'
        )
      order by d.key limit p_limit for update skip locked
    ))
    returning o.key, o.upload_id;
end $$;

-- What is to be removed from the bucket.
create or replace function turnkeep.list_dropped_objects(p_company_id text, p_platform text, p_limit integer)
returns table (key text, upload_id text, was_complete boolean)
language plpgsql as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select o.key, o.upload_id, o.completed_at is not null from public.archive_objects o
    where o.company_id = p_company_id and o.platform = p_platform and o.state = 'dropped'
    order by o.completed_at is null, o.key limit p_limit;
end $$;

-- After the bucket has forgotten it.
create or replace function turnkeep.forget_archive_object(p_company_id text, p_platform text, p_key text) returns boolean
language plpgsql as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  delete from public.archive_objects o
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'dropped';
  if not found then
    return false;
  end if;
  delete from public.archive_segments c
  where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key;
  return true;
end $$;
