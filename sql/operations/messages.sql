-- Messages of a session in order of (sequence_number, id), saved or not yet, after the given place. Ends early, but
-- not before one message, when they have p_bytes in the Data API's response, which holds 1 MiB.
-- Rows: kind 'session' first (absent: no such session for this caller), then 'message', then 'segment': where those of the
-- session lie that have left, from that place on (archived.sql; 200: there may be more). Where there are any, deleted
-- messages are among the rows, without their text, since they hide what the archive holds of them.
create or replace function turnkeep.read_messages(p_company_id text, p_platform text, p_caller jsonb, p_session_id uuid,
  p_thread_id text, p_descending boolean, p_after_sequence integer, p_after_id uuid, p_limit integer, p_bytes integer)
returns table (kind text, body bytea)
language plpgsql
-- All it looks up it finds by keys and places, whoever asks: a plan for each call takes longer than the call.
set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  -- As variables: row-level security keeps what it does not know to tell nothing, as coalesce, from an index.
  v_sequence integer := coalesce(p_after_sequence, case when p_descending then 2147483647 else 0 end);
  v_id uuid := coalesce(p_after_id::text, case when p_descending then '00000000-0000-0000-0000-000000000000'
    else 'ffffffff-ffff-ffff-ffff-ffffffffffff' end);
  v_user_id text;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select s.user_id into v_user_id from public.chat_sessions s
  where s.company_id = p_company_id and s.platform = p_platform and s.id = p_session_id and s.deleted_at is null
    and turnkeep.may_act_for(p_caller, s.user_id);
  if not found then
    return;
  end if;
  -- With an id it goes on within one request, which is recorded already.
  if p_after_id is null then
    perform turnkeep.audit_other(p_company_id, p_platform, p_caller, 'messages.read', v_user_id, p_session_id);
  end if;
  return query select 'session', convert_to(json_build_object('id', p_session_id)::text, 'UTF8');
  return query
    with has_left as materialized (
      select exists (
        select 1 from public.archive_segments c
        where c.company_id = p_company_id and c.platform = p_platform and c.session_id = p_session_id and c.state = 'live'
      ) as any
    ), unsaved as (
      select turnkeep.unsaved_message(r.record) as m from public.chat_turns t
      cross join lateral (values
        (t.question_id, t.question), (t.message_id, case when t.state = 'finished' then t.answer end)
      ) as r (id, record)
      where t.company_id = p_company_id and t.platform = p_platform and t.session_id = p_session_id
        and (p_thread_id is null or t.thread_id = p_thread_id) and r.record is not null
        and not exists (
          select 1 from public.chat_messages m
          where m.company_id = p_company_id and m.platform = p_platform and m.id = r.id
        )
    ), page as (
      select * from (
        select m.sequence_number, m.id, turnkeep.message_line(m, m.is_deleted) as line from public.chat_messages m
        where m.company_id = p_company_id and m.platform = p_platform and m.session_id = p_session_id
          and (p_thread_id is null or m.thread_id = p_thread_id) and (not m.is_deleted or (select h.any from has_left h)) and not p_descending
          and (m.sequence_number, m.id) > (v_sequence, v_id)
        order by m.sequence_number, m.id limit p_limit
      ) ascending
      union all
      select * from (
        select m.sequence_number, m.id, turnkeep.message_line(m, m.is_deleted) from public.chat_messages m
        where m.company_id = p_company_id and m.platform = p_platform and m.session_id = p_session_id
          and (p_thread_id is null or m.thread_id = p_thread_id) and (not m.is_deleted or (select h.any from has_left h)) and p_descending
          and (m.sequence_number, m.id) < (v_sequence, v_id)
        order by m.sequence_number desc, m.id desc limit p_limit
      ) descending
      union all
      select (u.m).sequence_number, (u.m).id, to_json(u.m)::text from unsaved u
      where case when p_descending
        then ((u.m).sequence_number, (u.m).id) < (v_sequence, v_id)
        else ((u.m).sequence_number, (u.m).id) > (v_sequence, v_id) end
    ), listed as (
      select p.line, row_number() over (order by case when p_descending then -p.sequence_number else p.sequence_number end,
          case when p_descending then null else p.id end, p.id desc) as place
      from page p
      order by place limit p_limit
    ), sized as (
      -- As base64; 60: the row around it.
      select l.*, 60 + octet_length(l.line) * 4 / 3 as bytes from listed l
    ), summed as (
      select z.*, sum(z.bytes) over (order by z.place) as bytes_so_far from sized z
    )
    select 'message', convert_to(s.line, 'UTF8') from summed s where s.bytes_so_far <= p_bytes or s.place = 1 order by s.place;
  -- After the messages: what leaves between the two is seen twice, not never.
  return query
    select 'segment', convert_to(s::text, 'UTF8') from turnkeep.segments_from(p_company_id, p_platform, p_session_id, p_descending,
      case when p_after_sequence is null then case when p_descending then 2147483647 else 0 end
        when p_after_id is not null then p_after_sequence
        when p_descending then p_after_sequence - 1 else p_after_sequence + 1 end, null, null) s;
end $$;

-- A message, wherever it is, and the right to touch it: true when p_owner (null: anybody) owns its session, which is not
-- purged.
create or replace function turnkeep.may_touch(p_company_id text, p_platform text, p_owner text, p_message_id uuid) returns boolean
language plpgsql stable as $$
begin
  perform 1 from (
    select m.session_id from turnkeep.find_message(p_company_id, p_platform, p_message_id) m
    union all
    select a.session_id from public.archived_messages a
    where a.company_id = p_company_id and a.platform = p_platform and a.id = p_message_id
  ) m
  join public.chat_sessions s on s.company_id = p_company_id and s.platform = p_platform and s.id = m.session_id
  where s.deleted_at is null and s.user_id = coalesce(p_owner, s.user_id);
  return found;
end $$;

-- Whose message it is, where the caller may touch it.
create or replace function turnkeep.touched_message(p_company_id text, p_platform text, p_caller jsonb, p_message_id uuid)
returns table (user_id text, session_id uuid)
language sql stable as $$
  select s.user_id, s.id from turnkeep.find_message(p_company_id, p_platform, p_message_id) m
  join public.chat_sessions s on s.company_id = p_company_id and s.platform = p_platform and s.id = m.session_id
  where s.deleted_at is null and turnkeep.may_act_for(p_caller, s.user_id)
$$;

-- Feedback may overtake the save of its message. False: no such message for this caller.
create or replace function turnkeep.leave_feedback(p_company_id text, p_platform text, p_caller jsonb, p_message_id uuid, p_score integer, p_comment text)
returns boolean
language plpgsql as $$
declare
  v_place record;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select * into v_place from turnkeep.touched_message(p_company_id, p_platform, p_caller, p_message_id);
  if not found or not turnkeep.ensure_saved(p_company_id, p_platform, p_message_id) then
    return false;
  end if;
  update public.chat_messages m
  set satisfaction_score = p_score, feedback_comment = p_comment, updated_at = now()
  where m.company_id = p_company_id and m.platform = p_platform and m.id = p_message_id and not m.is_deleted;
  if not found then
    return false;
  end if;
  perform turnkeep.audit_other(
    p_company_id, p_platform, p_caller, 'message.rated', v_place.user_id, v_place.session_id, p_message_id);
  return true;
end $$;

-- Whether a session was named by its first question: the beginning of that, each row of white space one space. Of a text that
-- stands in an object nobody can say; it counts as one that did.
create or replace function turnkeep.is_titled_by(p_title text, p_message public.chat_messages) returns boolean
language sql immutable as $$
  select p_message.role = 'user' and p_message.sequence_number = 1 and (
    p_message.content_key is not null
    or starts_with(regexp_replace(p_message.content, w.space, '', 'g'), regexp_replace(p_title, w.space, '', 'g'))
  )
  -- As JavaScript knows it, which made the title.
  from (values ('[\s\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]+')) w (space)
$$;

-- Soft-deletes a message, and with it the title that was made of it; repeating it changes nothing. Recorded whoever does it,
-- once. False: no such message for this caller.
create or replace function turnkeep.delete_message(p_company_id text, p_platform text, p_caller jsonb, p_message_id uuid) returns boolean
language plpgsql as $$
declare
  v_place record;
  v_message public.chat_messages;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  select * into v_place from turnkeep.touched_message(p_company_id, p_platform, p_caller, p_message_id);
  if not found or not turnkeep.ensure_saved(p_company_id, p_platform, p_message_id) then
    return false;
  end if;
  update public.chat_messages m set is_deleted = true, deleted_at = now(), updated_at = now()
  where m.company_id = p_company_id and m.platform = p_platform and m.id = p_message_id and not m.is_deleted
  returning m.* into v_message;
  if found then
    update public.chat_sessions s
    set message_count = s.message_count - 1, title = case when turnkeep.is_titled_by(s.title, v_message) then null else s.title end
    where s.company_id = p_company_id and s.platform = p_platform and s.id = v_place.session_id;
    perform turnkeep.audit(
      p_company_id, p_platform, p_caller, 'message.deleted', v_place.user_id, v_place.session_id, p_message_id);
  end if;
  return true;
end $$;
