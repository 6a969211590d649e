import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, test } from 'vitest'

/** Who may import whom. `types` allows only what is erased when the code runs. */
type Rule = { from: string; may: string[]; types?: string[] }

const FEATURES = [
  'ageing',
  'lists',
  'logins',
  'migrations',
  'replies',
  'sessions',
  'messages',
  'rights',
  'tenants',
  'usage',
]
const feature = (name: string): string => `lambdas/${name}/`
const features = FEATURES.map(feature)

const rules: Rule[] = [
  // It builds what it deploys; the page knows itself how.
  { from: 'bin/', may: ['bin/', 'lib/', 'web/build.ts'] },
  { from: 'lib/', may: ['lib/'], types: ['lambdas/'] },
  { from: 'lambdas/protocol/', may: ['lambdas/protocol/'] },
  { from: 'lambdas/services/', may: ['lambdas/services/', 'lambdas/protocol/'] },
  { from: 'lambdas/runtime/', may: ['lambdas/runtime/', 'lambdas/protocol/'] },
  ...features.map((from) => ({
    from,
    may: [...features, 'lambdas/protocol/'],
    types: ['lambdas/services/'],
  })),
  {
    from: 'lambdas/handlers/',
    may: ['lambdas/runtime/', 'lambdas/services/', ...features, 'lambdas/protocol/'],
  },
  { from: 'web/', may: ['web/'], types: ['lambdas/protocol/'] },
  {
    from: 'ops/',
    may: [
      'ops/',
      'lambdas/protocol/',
      // What a line of the archive is, for the restore: two readers would drift apart.
      'lambdas/ageing/segments.ts',
      // Several things under way at once, in their order.
      'lambdas/ageing/in-order.ts',
      // Where a tenant's objects lie.
      'lambdas/tenants/tenant-path.ts',
      // Data alone, which alarms are made of: two tables would drift apart.
      'lib/observability/series.ts',
      'lib/observability/signals.ts',
    ],
  },
  // It measures the bundles and the template, and the product as tests start it: metered from outside.
  { from: 'bench/', may: ['bench/', 'lib/', 'local/', 'test/harness/'] },
]

interface Import {
  file: string
  target: string
  typesOnly: boolean
}

const STATEMENT = /(?:^|\n)\s*(?:import|export)(\s+type)?\s*(\{[^}]*\}|[^'"{}\n]*)\s*from\s*'([^']+)'/g
const BARE = /(?:^|\n)\s*import\s*'([^']+)'|\bimport\('([^']+)'\)/g

const namesOnlyTypes = (names: string): boolean =>
  names.startsWith('{') &&
  names
    .slice(1, -1)
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean)
    .every((name) => name.startsWith('type '))

function importsOf(file: string): Import[] {
  const text = readFileSync(file, 'utf8')
  const made = (target: string, typesOnly: boolean): Import => ({ file, target, typesOnly })
  return [
    ...[...text.matchAll(STATEMENT)].map(([, type, names = '', target = '']) =>
      made(target, type !== undefined || namesOnlyTypes(names)),
    ),
    ...[...text.matchAll(BARE)].map(([, bare, dynamic]) => made(bare ?? dynamic ?? '', false)),
  ].map((found) => ({
    ...found,
    target: found.target.startsWith('.') ? normalize(join(dirname(file), found.target)) : found.target,
  }))
}

const files = globSync('{bin,lib,lambdas,local,ops,web,bench}/**/*.{ts,tsx}', { exclude: ['web/dist/**'] })
const imports = files.flatMap(importsOf)
const inside = /^(bin|lib|lambdas|local|ops|web|bench|test)\//
const under = (prefixes: string[], target: string): boolean =>
  prefixes.some((prefix) => target.startsWith(prefix))

describe('imports', () => {
  test('every file that rules speak of was read', () => {
    expect(imports.length).toBeGreaterThan(100)
  })

  test.each(rules)('$from imports only what it may', ({ from, may, types = [] }) => {
    const wrong = imports
      .filter(({ file, target }) => file.startsWith(from) && inside.test(target))
      .filter(({ target, typesOnly }) => !under(may, target) && !(typesOnly && under(types, target)))
    expect(wrong).toEqual([])
  })

  test('nothing outside local and test imports a handler', () => {
    const wrong = imports.filter(
      ({ file, target }) => target.startsWith('lambdas/handlers/') && !under(['local/', 'test/'], file),
    )
    expect(wrong).toEqual([])
  })

  test('middy and Lambda types stay in runtime and handlers', () => {
    const wrong = imports.filter(
      ({ file, target }) =>
        file.startsWith('lambdas/') &&
        /^(@middy\/|aws-lambda$)/.test(target) &&
        !under(['lambdas/runtime/', 'lambdas/handlers/'], file),
    )
    expect(wrong).toEqual([])
  })

  test('an AWS client stays in the one service that owns it', () => {
    const owners = new Map<string, Set<string>>()
    for (const { file, target } of imports)
      if (file.startsWith('lambdas/') && target.startsWith('@aws-sdk/'))
        owners.set(target, (owners.get(target) ?? new Set()).add(file))
    for (const [client, owning] of owners)
      expect([client, [...owning]]).toEqual([client, [expect.any(String)]])
    expect(
      [...owners.values()]
        .flatMap((owning) => [...owning])
        .every((file) => file.startsWith('lambdas/services/')),
    ).toBe(true)
  })

  test('no file imports itself through others', () => {
    const graph = new Map(
      files.map((file) => [file, imports.filter((one) => one.file === file && !one.typesOnly)]),
    )
    const done = new Set<string>()
    const visit = (file: string, path: string[]): void => {
      expect(path, `cycle: ${[...path, file].join(' -> ')}`).not.toContain(file)
      if (done.has(file)) return
      for (const { target } of graph.get(file) ?? []) if (graph.has(target)) visit(target, [...path, file])
      done.add(file)
    }
    for (const file of files) visit(file, [])
  })

  test('the environment is read in the configuration file, bin, local, ops and bench alone', () => {
    const allowed = ['lambdas/runtime/config.ts', 'bin/', 'local/', 'ops/main.ts', 'bench/']
    const wrong = files.filter(
      (file) => !under(allowed, file) && readFileSync(file, 'utf8').includes('process.env'),
    )
    expect(wrong).toEqual([])
  })
})
