import { globSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { losesData, unexplainedLosses } from '../../lambdas/migrations/loses-data.ts'
import * as sqlText from '../../lambdas/services/sql-text.ts'

test.each([
  'drop table public.things',
  'drop table if exists "Things" cascade',
  'DROP SCHEMA turnkeep',
  'drop type mood',
  'drop materialized view sums',
  'drop extension vector',
  'drop owned by turnkeep_app',
  'drop role turnkeep_app_1',
  'drop function f(int) cascade',
  'alter table things drop column note',
  'alter table things drop note',
  'alter table things drop index',
  'alter table only public.things add column a int, drop if exists b',
  'alter table things drop constraint c, drop column d',
  'alter table things alter column note type varchar(10)',
  'alter table things alter note set data type int using note::int',
  'alter table things alter column total set expression as (a + b)',
  'alter table things set unlogged',
  'alter table things detach partition old_things',
  'alter type pair drop attribute a',
  'alter type pair alter attribute a type int',
  'truncate things',
  'truncate table only things',
  'delete from things',
  'with old as (delete from things returning *) insert into others select * from old',
  'update things set note = null',
  'update only public.things as t set note = null',
  `update things t set note = ''`,
  'insert into things values (1) on conflict (id) do update set note = excluded.note',
  'merge into things using others on true when matched then delete',
  'do $$ begin drop table things; end $$',
  `do $body$ begin execute 'truncate things'; end $body$`,
  `do language plpgsql $$ begin execute format('alter table %I drop column note', 'things'); end $$`,
  '-- loses nothing\n/* drop */ drop table things',
])('%s loses data', (statement) => {
  expect(losesData(statement, sqlText)).toBe(true)
})

test.each([
  'create table things (type text, drop_it int, updated_at timestamptz)',
  `create table others (id int references things on delete cascade on update set null)`,
  `insert into things values ('drop table things; delete from things')`,
  'insert into things values (1) on conflict do nothing',
  'alter table things add column type text',
  'alter table things alter column note drop not null, alter note drop default, drop constraint if exists c',
  'alter table things add constraint c foreign key (a) references others on update set null on delete set null',
  'alter type mood add value if not exists $$sad$$',
  'alter table things rename column a to b',
  'drop policy if exists tenant on things',
  'drop index concurrently if exists things_by_note',
  'drop function if exists turnkeep.old(text)',
  'drop view if exists v',
  'create policy tenant on things for update using (true)',
  'create trigger t before delete or truncate on things execute function f()',
  'create or replace function f() returns void language plpgsql as $$ begin delete from things; end $$',
  'create or replace procedure p() begin atomic delete from things; end',
  'grant select, insert, update, delete, truncate on things to turnkeep_app',
  'select id from things for update',
  `comment on table things is 'truncate'`,
  '-- drop table things\nselect 1',
  'do $$ begin create role turnkeep_app nologin; exception when duplicate_object then null; end $$',
])('%s loses none', (statement) => {
  expect(losesData(statement, sqlText)).toBe(false)
})

const losses = (script: string) => unexplainedLosses(script, sqlText)

test('a reason directly above the statement lets it pass, and that statement only', () => {
  expect(losses('-- loses data: nobody reads it\ndrop table a;')).toEqual([])
  expect(losses('select 1;\n\n-- loses data: it is empty,\n-- as was checked.\ndrop table a;')).toEqual([])
  expect(losses('-- loses data: nobody reads it\ndrop table a;\ndrop table b;')).toEqual(['drop table b'])
})

test.each([
  ['no reason', '-- loses data:\ndrop table a;'],
  ['a reason above a blank line', '-- loses data: nobody reads it\n\ndrop table a;'],
  ['a reason above another comment that stands apart', '-- loses data: x\n\n-- The end.\ndrop table a;'],
  ['a reason below', 'drop table a; -- loses data: nobody reads it'],
  ['a reason inside', 'drop table -- loses data: nobody reads it\n a;'],
  ['the words in a text', "select '\n-- loses data: x\n';\ndrop table a;"],
])('%s is none', (_title, script) => {
  expect(losses(script)).toEqual([expect.stringMatching(/^drop table\s+a$/)])
})

test('the migrations that there are lose nothing', () => {
  const files = globSync('sql/{*,operations/*}.sql', { exclude: ['sql/schema.sql'] })
  expect(files.length).toBeGreaterThan(8)
  expect(files.flatMap((file) => losses(readFileSync(file, 'utf8')))).toEqual([])
})
