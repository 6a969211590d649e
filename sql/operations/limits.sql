-- Rate limits: at most so many requests in any window, counted exactly (docs/limits.md).

-- The row of one key, locked. A key that is new pays for its place by removing a few that count no more.
create or replace function turnkeep.lock_limit(p_company_id text, p_platform text, p_kind text, p_key text, p_window interval)
returns public.rate_limits
language plpgsql as $$
declare
  v_row public.rate_limits;
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  loop
    select * into v_row from public.rate_limits r
    where r.company_id = p_company_id and r.platform = p_platform and r.kind = p_kind and r.key = p_key for update;
    exit when found;
    insert into public.rate_limits (company_id, platform, kind, key, kept_until)
    values (p_company_id, p_platform, p_kind, p_key, clock_timestamp() + 2 * p_window) on conflict do nothing;
    if found then
      -- Chosen once, into an array: joined, they were chosen anew for each row of the table, until all were locked.
      delete from public.rate_limits r
      where r.company_id = p_company_id and r.platform = p_platform and r.ctid = any (array(
        select o.ctid from public.rate_limits o
        where o.company_id = p_company_id and o.platform = p_platform and o.kept_until < clock_timestamp()
        order by o.kept_until limit 10 for update skip locked
      ));
    end if;
  end loop;
  return v_row;
end $$;

-- Checks [{company_id, platform, kind, key, limit, window_seconds, count}, …]: may all of them take count more? With
-- p_take they do, all or none, and their rows stay locked until the transaction ends: call it last. Without, nothing is
-- locked or written, and the answer is only that of this moment.
-- A tenant's own limits stand in the place of those of its checks (tenants.sql).
-- Returns {admitted, states: [{limit, allowed, remaining, reset_seconds, retry_after_seconds}, … in the order of the checks]}.
-- reset_seconds: until the oldest request that counts does no more. The tenant that was set stays set.
--
-- Only the server's clock counts, read once the rows are locked. Locks are taken in one order, the tenant's last, since
-- all of its users wait for it. A clock that was set back makes what lies in the future count from now on.
create or replace function turnkeep.admit(p_checks jsonb, p_take boolean) returns jsonb
language plpgsql as $$
declare
  v_company_id text := coalesce(current_setting('turnkeep.company_id', true), '');
  v_platform text := coalesce(current_setting('turnkeep.platform', true), '');
  v_check record;
  v_rows public.rate_limits[] := '{}';
  v_row public.rate_limits;
  v_now timestamptz;
  v_is_admitted boolean := true;
  v_states jsonb := '[]';
  v_last_at timestamptz[];
  v_counts integer[];
  v_slice double precision;
begin
  p_checks := turnkeep.with_own_limits(p_checks);
  for v_check in select * from turnkeep.limit_checks(p_checks) c order by c.rank, c.company_id, c.platform, c.key loop
    if p_take then
      v_row := turnkeep.lock_limit(v_check.company_id, v_check.platform, v_check.kind, v_check.key, v_check.span);
    else
      perform turnkeep.set_tenant(v_check.company_id, v_check.platform);
      select * into v_row from public.rate_limits r
      where r.company_id = v_check.company_id and r.platform = v_check.platform and r.kind = v_check.kind
        and r.key = v_check.key;
    end if;
    v_rows[v_check.place] := v_row;
  end loop;

  v_now := clock_timestamp();
  for v_check in
    select c.*, u.* from turnkeep.limit_checks(p_checks) c, lateral (
      select coalesce(max(g.newer), 0)::integer as used, min(g.at) as oldest,
        max(g.at) filter (where g.newer > c.allowance - c.count) as in_the_way
      from (
        select s.at, sum(s.count) over (order by s.at desc rows unbounded preceding) as newer from (
          select least(t.at, v_now) as at, t.count from unnest(v_rows[c.place].last_at, v_rows[c.place].counts) t (at, count)
        ) s where s.at > v_now - c.span
      ) g
    ) u order by c.place
  loop
    v_is_admitted := v_is_admitted and v_check.used + v_check.count <= v_check.allowance;
    v_states := v_states || jsonb_build_object(
      'limit', v_check.allowance,
      'allowed', v_check.used + v_check.count <= v_check.allowance,
      'remaining', greatest(v_check.allowance - v_check.used, 0),
      'reset_seconds', turnkeep.seconds_until(coalesce(v_check.oldest, v_now) + v_check.span, v_now),
      'retry_after_seconds', case when v_check.used + v_check.count <= v_check.allowance then 0
        else turnkeep.seconds_until(coalesce(v_check.in_the_way, v_now) + v_check.span, v_now) end);
  end loop;

  if v_is_admitted and p_take then
    for v_check in select * from turnkeep.limit_checks(p_checks) c order by c.place loop
      select coalesce(array_agg(g.at order by g.at desc), '{}'), coalesce(array_agg(g.count order by g.at desc), '{}')
      into v_last_at, v_counts
      from (
        select least(t.at, v_now) as at, t.count
        from unnest(v_rows[v_check.place].last_at, v_rows[v_check.place].counts) t (at, count)
      ) g where g.at > v_now - v_check.span;
      -- Requests that come together are one group: it counts until its last one does no more, so nobody gains by it.
      v_slice := extract(epoch from v_check.span) / 20;
      if floor(extract(epoch from v_last_at[1]) / v_slice) = floor(extract(epoch from v_now) / v_slice) then
        v_last_at[1] := v_now;
        v_counts[1] := v_counts[1] + v_check.count;
      else
        v_last_at := v_now || v_last_at;
        v_counts := v_check.count || v_counts;
      end if;
      perform turnkeep.set_tenant(v_check.company_id, v_check.platform);
      update public.rate_limits r
      set last_at = v_last_at, counts = v_counts,
        kept_until = case when r.kept_until < v_now + v_check.span then v_now + 2 * v_check.span else r.kept_until end
      where r.company_id = v_check.company_id and r.platform = v_check.platform and r.kind = v_check.kind
        and r.key = v_check.key;
      v_states := jsonb_set(v_states, array[(v_check.place - 1)::text, 'remaining'],
        to_jsonb((v_states -> (v_check.place - 1) ->> 'remaining')::integer - v_check.count));
    end loop;
  end if;
  perform turnkeep.set_tenant(v_company_id, v_platform);
  return jsonb_build_object('admitted', v_is_admitted, 'states', v_states);
end $$;

-- The checks as rows, with their place in the list and the rank of their locks.
create or replace function turnkeep.limit_checks(p_checks jsonb)
returns table (place integer, rank integer, company_id text, platform text, kind text, key text, allowance integer,
  span interval, count integer)
language sql immutable as $$
  select c.place::integer, array_position(array['address', 'user', 'tenant'], c.body ->> 'kind'), c.body ->> 'company_id',
    c.body ->> 'platform', c.body ->> 'kind', c.body ->> 'key', (c.body ->> 'limit')::integer,
    make_interval(secs => (c.body ->> 'window_seconds')::double precision), (c.body ->> 'count')::integer
  from jsonb_array_elements(p_checks) with ordinality c (body, place)
$$;

-- Whole seconds, rounded up: who waits for so long has waited long enough.
create or replace function turnkeep.seconds_until(p_then timestamptz, p_now timestamptz) returns integer
language sql immutable as $$ select greatest(ceil(extract(epoch from p_then - p_now)), 1)::integer $$;

-- Opens a turn, or opens one again where p_request names a target, in the transaction that counts the request. Rows as
-- from open_turn and reopen_turn, and first of all kind 'limits' with what admit returned; alone where it did not admit,
-- and then nothing was changed. 'lapsed' and 'archived' are not counted: the same request comes again. The checks are of this tenant.
--
-- A flood is refused by the look at the start, which locks and writes nothing. The counting comes last: the tenant's row
-- is locked while the transaction commits and no longer, and no other lock is ever waited for with it in hand.
create or replace function turnkeep.open_within_limits(p_company_id text, p_platform text, p_checks jsonb, p_request jsonb)
returns table (kind text, body jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
  v_limits jsonb;
  v_kinds text[];
  v_bodies jsonb[];
begin
  perform turnkeep.set_tenant(p_company_id, p_platform);
  if exists (
    select from turnkeep.limit_checks(turnkeep.with_own_limits(p_checks)) c
    join public.rate_limits r on r.company_id = p_company_id and r.platform = p_platform and r.kind = c.kind and r.key = c.key
    where c.count + (select coalesce(sum(t.count), 0) from unnest(r.last_at, r.counts) t (at, count)
      where t.at > clock_timestamp() - c.span) > c.allowance
  ) then
    v_limits := turnkeep.admit(p_checks, false);
    if not (v_limits ->> 'admitted')::boolean then
      return query select 'limits', v_limits;
      return;
    end if;
  end if;
  begin
    if p_request ? 'target' then
      select array_agg(r.kind), array_agg(r.body) into v_kinds, v_bodies
      from turnkeep.reopen_turn(p_company_id, p_platform, p_request) r;
    else
      select array_agg(r.kind), array_agg(r.body) into v_kinds, v_bodies
      from turnkeep.open_turn(p_company_id, p_platform, p_request) r;
    end if;
    if not v_kinds && array['lapsed', 'archived'] then
      v_limits := turnkeep.admit(p_checks, true);
      if not (v_limits ->> 'admitted')::boolean then
        raise exception using errcode = 'TK002', message = 'rate_limited';
      end if;
    end if;
  exception when sqlstate 'TK002' then
    return query select 'limits', v_limits;
    return;
  end;
  return query select 'limits', v_limits where v_limits is not null;
  return query select r.kind, r.body from unnest(v_kinds, v_bodies) with ordinality r (kind, body, place) order by r.place;
end $$;
