/** What is followed to the letter says what is so: docs/api.md by those who write clients, commands by those who deploy. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { httpStatus } from '../../lambdas/runtime/errors.ts'

const read = (path: string): string => readFileSync(resolve(import.meta.dirname, '../..', path), 'utf8')
const document = read('docs/api.md')
const distinct = (names: Iterable<string>): string[] => [...new Set(names)].sort()

test('docs/api.md says of each route that there is what it does, and of no other', () => {
  const handlers = ['api', 'chat'].map((name) => read(`lambdas/handlers/${name}.ts`)).join()
  const routes = [...handlers.matchAll(/oute\(\s*'((?:GET|POST|PATCH|DELETE) \/[^']+)'/g)].map(
    ([, place = '']) => place,
  )
  expect(routes.length).toBeGreaterThan(20)
  const rows = document.split('\n').filter((line) => line.startsWith('| `'))
  const told = rows.flatMap((row) =>
    [...row.matchAll(/`((?:GET|POST|PATCH|DELETE) \/[^`]+)`/g)].map(([, place = '']) => place),
  )
  expect(distinct(told)).toEqual(distinct(routes))
})

test('docs/api.md says of each error code its status', () => {
  const told = [...document.matchAll(/^\| `(\w+)` \| (\d{3}) \| .+ \|$/gm)].map(([, code, status]) => [
    code,
    Number(status),
  ])
  expect(Object.fromEntries(told)).toEqual(httpStatus)
})

test('each command of cdk names its environment; cdk makes nothing without one', () => {
  const commands = ['README.md', 'README.ko.md', 'docs/aws-checks.md', 'docs/runbook.md'].flatMap((path) =>
    [...read(path).matchAll(/npx cdk [^`#\n]+/g)].map(([command]) => command.trim()),
  )
  expect(commands.length).toBeGreaterThan(5)
  expect(commands.filter((command) => !/ -c env=\w/.test(command))).toEqual([])
})
