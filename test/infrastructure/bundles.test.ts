/** What a synthesis uploads: the functions, and what the page is told. */
import { globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { bundleFunctions, bytesAtStart, filesAtStart } from '../../lib/bundle.ts'
import { resources } from '../../lib/resources.ts'
import { synthesise } from '../harness/synthesis.ts'

const NAMES = Object.keys(resources.functions)
const MAX_BYTES_AT_START = 1_400_000

let assembly: string
let functions: string
beforeAll(async () => {
  assembly = await synthesise()
  functions = join(assembly, 'functions')
}, 180_000)

const filesOf = (name: string): string[] =>
  readdirSync(join(functions, name), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(join(functions, name).length + 1))
    .sort()
const metafileOf = (name: string) => JSON.parse(readFileSync(join(functions, `${name}.json`), 'utf8'))

test.each(NAMES)('%s is one folder with scripts, and maps that hold no sources', (name) => {
  const files = filesOf(name).filter((file) => !file.startsWith('sql/'))
  expect(files).toContain('index.mjs')
  for (const file of files) expect(file).toMatch(/\.mjs(\.map)?$/)
  for (const map of files.filter((file) => file.endsWith('.map'))) {
    const { sources, sourcesContent } = JSON.parse(readFileSync(join(functions, name, map), 'utf8'))
    expect(sourcesContent).toBeUndefined()
    for (const source of sources) expect(source).toMatch(/^(\.\.\/)+(lambdas|node_modules)\//)
  }
})

test.each(NAMES)('%s reads no S3 client and no Redis client when it starts, and little else', (name) => {
  const metafile = metafileOf(name)
  expect(bytesAtStart({ metafile })).toBeLessThan(MAX_BYTES_AT_START)
  const read = filesAtStart({ metafile }).flatMap((file) => Object.keys(metafile.outputs[file].inputs))
  expect(read).toContain(resources.functions[name]?.handler)
  expect(read.filter((source) => /@aws-sdk\/client-s3\/|@redis\/client\//.test(source))).toEqual([])
})

test('migrate carries the SQL that it applies, the others carry none', () => {
  const carried = (name: string) => filesOf(name).filter((file) => file.startsWith('sql/'))
  expect(carried('migrate')).toEqual(
    expect.arrayContaining(['sql/0001_tenancy.sql', 'sql/grants.sql', 'sql/operations/open_turn.sql']),
  )
  for (const name of NAMES.filter((other) => other !== 'migrate')) expect(carried(name)).toEqual([])
})

test('the same sources give the same bytes, so that nothing is deployed that has not changed', async () => {
  const outDir = mkdtempSync(join(tmpdir(), 'turnkeep-bundle-'))
  try {
    const { rotate } = resources.functions
    if (!rotate) throw new Error('rotate is gone')
    const again = await bundleFunctions({ rotate }, outDir)
    for (const file of filesOf('rotate'))
      expect(
        readFileSync(join(again.rotate.directory, file)).equals(
          readFileSync(join(functions, 'rotate', file)),
        ),
      ).toBe(true)
  } finally {
    rmSync(outDir, { recursive: true })
  }
})

test('the page is told where people sign in, and holds nothing that differs between environments', () => {
  const [told, ...more] = globSync(join(assembly, 'asset.*/settings.json'))
  expect(more).toEqual([])
  expect(JSON.parse(readFileSync(told ?? '', 'utf8'))).toEqual({
    signIn: {
      kind: 'oidc',
      issuer: expect.stringContaining('marker'), // filled in by the deployment
      clientId: expect.stringContaining('marker'),
      scope: 'openid email profile',
      token: 'id',
      origins: [expect.stringMatching(/^https:\/\/.*marker.*\.amazoncognito\.com$/)],
    },
  })
  expect(globSync(join(assembly, 'asset.*/index.html'))).toHaveLength(1)
})
