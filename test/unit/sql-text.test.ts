import { describe, expect, test } from 'vitest'
import { bindNamed, firstWord, splitStatements } from '../../lambdas/services/sql-text.ts'

const bind = (sql: string) => bindNamed(sql, (name) => `<${name}>`)

describe('splitStatements', () => {
  test.each([
    ['two statements come out without the semicolon', 'select 1; select 2;', ['select 1', 'select 2']],
    ['a missing last semicolon changes nothing', 'select 1;\nselect 2', ['select 1', 'select 2']],
    ['empty statements are dropped', ';; select 1 ;\n ;', ['select 1']],
    ['a comment alone is no statement', '-- nothing;\n/* here; */', []],
    ['a comment stays with the statement it precedes', '-- why;\nselect 1; -- end', ['-- why;\nselect 1']],
    [
      'a semicolon in a string does not end anything',
      `select 'a;b''c;'; select 2`,
      [`select 'a;b''c;'`, 'select 2'],
    ],
    [
      'a backslash hides a quote in an E string only',
      String.raw`select E'it\'s; ok', 'c:\'; select 2`,
      [String.raw`select E'it\'s; ok', 'c:\'`, 'select 2'],
    ],
    [
      'a semicolon in a quoted name does not end anything',
      'select 1 as "a;""b;"; select 2',
      ['select 1 as "a;""b;"', 'select 2'],
    ],
    ['comments nest', '/* a /* b; */ c; */ select 1; select 2', ['/* a /* b; */ c; */ select 1', 'select 2']],
    [
      'a dollar quote ends at its own tag',
      `do $do$ begin perform $$ ; $$; end $do$; select 2`,
      ['do $do$ begin perform $$ ; $$; end $do$', 'select 2'],
    ],
    ['a dollar in a name opens no quote', 'select a$b; select c$b', ['select a$b', 'select c$b']],
    ['$1 opens no quote', 'select $1; select $2', ['select $1', 'select $2']],
    ['a Korean dollar tag is a tag', 'select $문$ ; $문$; select 2', ['select $문$ ; $문$', 'select 2']],
    [
      'the body of a function in plain SQL stays whole',
      'create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3',
      [
        'create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end',
        'select 3',
      ],
    ],
    [
      'begin outside of a routine opens nothing',
      'begin; select 1; end; select 2',
      ['begin', 'select 1', 'end', 'select 2'],
    ],
    [
      'parentheses hold their semicolons',
      'create rule r as on insert to t do (select 1; select 2); select 3',
      ['create rule r as on insert to t do (select 1; select 2)', 'select 3'],
    ],
    ['an open string runs to the end', `select 1; select 'a; b`, ['select 1', `select 'a; b`]],
    ['an open comment runs to the end', 'select 1; /* a; b', ['select 1']],
    ['Windows line ends are white space', 'select 1;\r\nselect 2;\r\n', ['select 1', 'select 2']],
  ])('%s', (_title, sql, statements) => {
    expect(splitStatements(sql)).toEqual(statements)
  })

  test('a megabyte of string is one statement', () => {
    const long = `select '${"it''s; ".repeat(150_000)}'`
    expect(splitStatements(`${long}; select 2`)).toEqual([long, 'select 2'])
  })
})

test.each([
  ['-- select\n/* insert */ COPY t from stdin', 'copy'],
  ['(select 1)', 'select'],
  ['-- nothing', ''],
])('the first word of %j is %j', (sql, word) => {
  expect(firstWord(sql)).toBe(word)
})

describe('bindNamed', () => {
  test.each([
    ['every use of a name is replaced', 'select :a, :b_2, :a', 'select <a>, <b_2>, <a>'],
    ['a cast after a parameter stays', 'select :a::jsonb, x::text', 'select <a>::jsonb, x::text'],
    ['a parameter may touch what is around it', 'select(:a)+:b||:c', 'select(<a>)+<b>||<c>'],
    ['a name may be a number', 'select :1', 'select <1>'],
    ['assignment of a named argument stays', 'select f(a := :a, b:=1)', 'select f(a := <a>, b:=1)'],
    [
      'a slice stays',
      'select x[1:2], x[low:high], x[f(1):2], x[1 : n]',
      'select x[1:2], x[low:high], x[f(1):2], x[1 : n]',
    ],
    ['a subscript may be a parameter', 'select x[:i], array[:a, :b]', 'select x[<i>], array[<a>, <b>]'],
    ['both ends of a slice may be parameters', 'select x[:a : :b]', 'select x[<a> : <b>]'],
    ['strings stay', `select ':a', E'\\':a', "x:a", :b`, `select ':a', E'\\':a', "x:a", <b>`],
    ['dollar quotes stay', 'do $$ select :a $$', 'do $$ select :a $$'],
    ['comments stay', '-- :a\nselect /* :b /* */ :c */ :d', '-- :a\nselect /* :b /* */ :c */ <d>'],
    ['a colon alone stays', `select x @? '$.a' and : a`, `select x @? '$.a' and : a`],
    ['JSON in a string stays', `select '{"a":true}'::jsonb ->> :key`, `select '{"a":true}'::jsonb ->> <key>`],
  ])('%s', (_title, sql, bound) => {
    expect(bind(sql)).toBe(bound)
  })

  test('a replacement is not looked at again', () => {
    expect(bindNamed('select :a', () => ':a $& $1')).toBe('select :a $& $1')
  })
})
