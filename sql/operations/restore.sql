-- What `npm run ops -- restore` asks for: archived messages become rows again (docs/runbook.md).

-- Puts rows back: p_messages is a JSON array of lines of the archive, of this tenant and each message once; else all of them are
-- refused. A row that is there stays, unless the line is of a later version; what was erased stays away. A session that is not there
-- is made again, under the keyed hash that the line has for its user. Returns of each message what became of it: restored,
-- replaced, present or erased.
--
-- Messages are locked before sessions, as saving does it. A message counts in its session when it is new to this database:
-- one that had only left was counted before.
create or replace function turnkeep.restore_messages(p_company_id text, p_platform text, p_messages text)
returns table (id uuid, outcome text)
language plpgsql
-- Else the first calls of a connection are planned anew each time.
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  -- Each look at JSON reads all of it. In the order in which rows are locked.
  v_given public.chat_messages[] := array(
    select m from json_populate_recordset(null::public.chat_messages, p_messages::json) m order by m.id);
  v_ids uuid[] := array(select r.id from unnest(v_given) r);
  v_sessions uuid[] := array(select distinct r.session_id from unnest(v_given) r);
  -- By session.
  v_users jsonb;
  v_owners jsonb;
  v_suspected uuid[];
  v_erased uuid[] := '{}';
  v_had_left uuid[];
  v_new uuid[];
  v_replaced uuid[];
  v_were_deleted uuid[];
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  perform turnkeep.lock_erasures(p_company_id, p_platform, true);
  insert into public.tenants (company_id, platform) select p_company_id, p_platform where v_ids <> '{}' on conflict do nothing;

  select coalesce(jsonb_object_agg(u.session_id, u.name), '{}') into v_users from (
    select l.session_id, min(l."user") as name
    from json_to_recordset(p_messages::json) as l (session_id uuid, "user" text) group by 1
  ) u;
  -- Limits keep Postgres from reading all rows of the tenant, as a plan does that was made while there were none.
  select coalesce(jsonb_object_agg(i.id, o.user_id), '{}') into v_owners from unnest(v_sessions) i (id) cross join lateral (
    select s.user_id from public.chat_sessions s
    where s.company_id = p_company_id and s.platform = p_platform and s.id = i.id limit 1
  ) o;
  -- Where the oldest line of a session is not erased, none of it is.
  v_suspected := array(
    select o.session_id from (select r.session_id, min(r.created_at) as at from unnest(v_given) r group by 1) o
    where turnkeep.is_erased(p_company_id, p_platform, v_owners ->> o.session_id::text, o.session_id, o.at)
      or turnkeep.is_erased(p_company_id, p_platform, v_users ->> o.session_id::text, o.session_id, o.at));
  if v_suspected <> '{}' then
    v_erased := array(
      select r.id from unnest(v_given) r
      where r.session_id in (select s from unnest(v_suspected) s) and (
        turnkeep.is_erased(p_company_id, p_platform, v_owners ->> r.session_id::text, r.session_id, r.created_at)
        or turnkeep.is_erased(p_company_id, p_platform, v_users ->> r.session_id::text, r.session_id, r.created_at)));
    v_given := array(select r from unnest(v_given) r where r.id not in (select e from unnest(v_erased) e));
  end if;

  v_had_left := array(
    select i.id from unnest(v_ids) i (id) cross join lateral (
      select from public.archived_messages a
      where a.company_id = p_company_id and a.platform = p_platform and a.id = i.id limit 1
    ) a);

  with written as (
    insert into public.chat_messages as saved
    select r.* from unnest(v_given) r
    on conflict (company_id, platform, id) do update
    set session_id = excluded.session_id, thread_id = excluded.thread_id, role = excluded.role, content = excluded.content,
      content_key = excluded.content_key, token_count = excluded.token_count, response_time_ms = excluded.response_time_ms,
      model = excluded.model, status = excluded.status, sources = excluded.sources, metadata = excluded.metadata,
      langsmith_trace_id = excluded.langsmith_trace_id, parent_message_id = excluded.parent_message_id,
      sequence_number = excluded.sequence_number, is_deleted = excluded.is_deleted, deleted_at = excluded.deleted_at,
      created_at = excluded.created_at, updated_at = excluded.updated_at, saved_at = excluded.saved_at,
      inquiry_category = excluded.inquiry_category, satisfaction_score = excluded.satisfaction_score,
      feedback_comment = excluded.feedback_comment, resolution_status = excluded.resolution_status,
      priority = excluded.priority, follow_up_needed = excluded.follow_up_needed, business_impact = excluded.business_impact
    where excluded.updated_at > saved.updated_at
    returning saved.id, saved.xmax = 0 as is_new -- Zero: nothing was there to be locked.
  )
  select array_agg(w.id) filter (where w.is_new), array_agg(w.id) filter (where not w.is_new),
    -- As they were before this statement.
    array_agg(w.id) filter (where not w.is_new and (
      select m.is_deleted from public.chat_messages m
      where m.company_id = p_company_id and m.platform = p_platform and m.id = w.id))
  into v_new, v_replaced, v_were_deleted from written w;

  insert into public.chat_sessions as session (id, company_id, platform, user_id, created_at, last_active_at, expires_at, is_active, message_count)
  select w.session_id, p_company_id, p_platform, v_users ->> w.session_id::text, min(w.created_at), max(w.created_at),
    max(w.created_at) + interval '24 hours', false, sum(w.messages)
  from (
    select r.session_id, r.created_at,
      case when r.id in (select i from unnest(v_new) i)
        then (not r.is_deleted and r.id not in (select i from unnest(v_had_left) i))::integer
        else (r.id in (select i from unnest(v_were_deleted) i))::integer - r.is_deleted::integer end as messages
    from unnest(v_given) r
    where r.id in (select i from unnest(v_new || v_replaced) i)
  ) w
  group by w.session_id order by w.session_id
  on conflict (company_id, platform, id) do update
  set last_active_at = greatest(session.last_active_at, excluded.last_active_at),
    expires_at = greatest(session.expires_at, excluded.expires_at),
    message_count = session.message_count + excluded.message_count;

  return query
    select r.id, case when r.id in (select i from unnest(v_new) i) then 'restored'
      when r.id in (select i from unnest(v_replaced) i) then 'replaced' else 'present' end
    from unnest(v_given) r
    union all
    select e.id, 'erased' from unnest(v_erased) e (id);
end $$;

-- Of some messages, a JSON array of ids, those that have left for another object than p_key: the segments with their newest
-- copies, each {message_ids, …} as segment_place says it. What is in p_key may be older.
create or replace function turnkeep.copies_elsewhere(p_company_id text, p_platform text, p_key text, p_ids jsonb)
returns table (body jsonb)
language plpgsql stable
set plan_cache_mode = force_generic_plan as $$
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    with held as materialized (
      select a.session_id, a.segment_id, array_agg(i.id) as ids
      from unnest(turnkeep.texts_of(p_ids)::uuid[]) i (id)
      -- Limits keep Postgres from reading all segments, or messages, of the tenant and joining them.
      cross join lateral (
        select a.session_id, a.segment_id from public.archived_messages a
        where a.company_id = p_company_id and a.platform = p_platform and a.id = i.id limit 1
      ) a
      group by 1, 2
    )
    select turnkeep.segment_place(c.segment) || jsonb_build_object('message_ids', n.ids)
    from held h
    cross join lateral (
      select c as segment from public.archive_segments c
      where c.company_id = p_company_id and c.platform = p_platform and c.session_id = h.session_id and c.id = h.segment_id
        and c.object_key <> p_key
      limit 1
    ) c
    cross join lateral (
      select jsonb_agg(i.id) as ids from unnest(h.ids) i (id)
      left join lateral (
        select true as is_there from public.chat_messages m
        where m.company_id = p_company_id and m.platform = p_platform and m.id = i.id limit 1
      ) m on true
      where m.is_there is null
    ) n
    where n.ids is not null;
end $$;

-- Tells Postgres of an object that it does not know, since it was restored from before that was written. All messages of it
-- are rows by now, so it stands as if they had left and come back: nobody removes it, an erasure finds it, and what leaves
-- again leaves into another one. Of one that it knows nothing is changed. p_segments: as record_segments takes them, each with
-- its message_ids. Where p_object says has_erased, some of it must not be read again: a run removes it, like any other that
-- nothing depends on. False: the object is being written, or removed.
create or replace function turnkeep.adopt_archive_object(p_company_id text, p_platform text, p_key text, p_object jsonb, p_segments jsonb)
returns boolean
language plpgsql as $$
declare
  v_has_erased boolean := coalesce((p_object ->> 'has_erased')::boolean, false);
  v_written_at timestamptz := (p_object ->> 'written_at')::timestamptz;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  insert into public.archive_objects (company_id, platform, key, state, messages, segments, bytes, sha256, schema_version,
    created_at, completed_at)
  select p_company_id, p_platform, p_key, 'complete', r.messages, r.segments, r.bytes, r.sha256, r.schema_version,
    case when v_has_erased then now() else v_written_at end, now()
  from jsonb_populate_record(null::public.archive_objects, p_object) r
  on conflict do nothing;
  perform 1 from public.archive_objects o
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and o.state = 'complete' for update;
  if not found then
    return false;
  end if;
  insert into public.archive_segments (company_id, platform, session_id, id, object_key, byte_offset, byte_length, text_bytes,
    messages, first_sequence, last_sequence, sha256, state, created_at, message_ids)
  select p_company_id, p_platform, r.session_id, r.id, p_key, r.byte_offset, r.byte_length, r.text_bytes, r.messages,
    r.first_sequence, r.last_sequence, r.sha256, case when v_has_erased then 'copied' else 'live' end, v_written_at, r.message_ids
  from jsonb_populate_recordset(null::public.archive_segments, p_segments) r
  where not exists (
    select 1 from public.archive_segments c
    where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key and c.byte_offset = r.byte_offset
  )
  on conflict do nothing;
  -- So that retention keeps a row that was deleted for as long as it has to hide its copy.
  insert into public.archived_messages (company_id, platform, id, segment_id, session_id)
  select p_company_id, p_platform, i.id, c.id, c.session_id
  from jsonb_to_recordset(p_segments) as r (id uuid, session_id uuid)
  join public.archive_segments c on c.company_id = p_company_id and c.platform = p_platform and c.session_id = r.session_id
    and c.id = r.id and c.state = 'live'
  cross join lateral unnest(c.message_ids) i (id)
  on conflict do nothing;
  return true;
end $$;

-- Objects of the archive that conversations are read from, by their keys, after the one that is given.
create or replace function turnkeep.read_objects(p_company_id text, p_platform text, p_after text, p_limit integer)
returns table (key text)
language plpgsql stable as $$
#variable_conflict use_column
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  return query
    select o.key from public.archive_objects o
    where o.company_id = p_company_id and o.platform = p_platform and o.state = 'complete' and o.key > p_after
    order by o.key limit p_limit;
end $$;

-- An object that is not in the bucket any more, since it was written again after what was restored. What of it is rows by now
-- is read from them alone. Returns how many of its messages are not, and stay counted on.
create or replace function turnkeep.forget_lost_object(p_company_id text, p_platform text, p_key text) returns bigint
language plpgsql as $$
declare
  v_lost bigint;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  delete from public.archived_messages a using public.archive_segments c
  where a.company_id = p_company_id and a.platform = p_platform and a.id = any (c.message_ids) and a.segment_id = c.id
    and c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key
    and exists (
      select 1 from public.chat_messages m where m.company_id = p_company_id and m.platform = p_platform and m.id = a.id
    );
  delete from public.archive_segments c
  where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key and not exists (
    select 1 from public.archived_messages a
    where a.company_id = p_company_id and a.platform = p_platform and a.id = any (c.message_ids) and a.segment_id = c.id
  );
  delete from public.archive_objects o
  where o.company_id = p_company_id and o.platform = p_platform and o.key = p_key and not exists (
    select 1 from public.archive_segments c
    where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key
  );
  select count(*) into v_lost from public.archive_segments c
  join public.archived_messages a on a.company_id = p_company_id and a.platform = p_platform and a.id = any (c.message_ids)
    and a.segment_id = c.id
  where c.company_id = p_company_id and c.platform = p_platform and c.object_key = p_key;
  return v_lost;
end $$;
