/** What the templates tell the functions, against what the functions ask for. */
import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, test } from 'vitest'
import { resources } from '../../lib/resources.ts'
import { COMPILE_CACHE } from '../../local/compile-cache.ts'
import { readAssembly, resourcesOfType, type Stack } from '../harness/assembly.ts'
import { synthesisePhaseTwo } from '../harness/phase-two.ts'
import { synthesise } from '../harness/synthesis.ts'

const NAMES = Object.keys(resources.functions)
/** Where nobody listens: what a handler fetches while it starts is none of this test's concern. */
const NOWHERE = 'http://127.0.0.1:9'

/** Told to Node and not to the handler. */
const OF_NODE = ['NODE_OPTIONS']

function toldTo(stacks: readonly Stack[], name: string): Record<string, unknown> {
  const found = resourcesOfType(stacks, 'AWS::Lambda::Function').find(
    ({ path }) => path === `${name}/Function`,
  )
  const { Variables } = (found?.properties.Environment ?? {}) as { Variables?: Record<string, unknown> }
  return Variables ?? {}
}

/** Starts the handler with the template's variables; those that only a deployment knows have some value. */
async function askedBy(name: string, told: Record<string, unknown>): Promise<string[]> {
  const variables = Object.entries(told).map(([variable, value]) => [
    variable,
    typeof value === 'string' ? value : NOWHERE,
  ])
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['test/fixtures/variables-read.ts', resolve(resources.functions[name]?.handler ?? '')],
    {
      env: {
        ...Object.fromEntries(variables.filter(([variable]) => !OF_NODE.includes(variable as string))),
        PATH: process.env.PATH,
        ...COMPILE_CACHE,
        AWS_REGION: 'eu-west-1',
        AWS_ENDPOINT_URL: NOWHERE,
        AWS_ACCESS_KEY_ID: 'none',
        AWS_SECRET_ACCESS_KEY: 'none',
      },
    },
  )
  return JSON.parse(stdout)
}

describe.each([
  { phase: 'phase 1', directory: synthesise },
  { phase: 'phase 2', directory: synthesisePhaseTwo },
])('in $phase', ({ directory }) => {
  let stacks: Stack[]
  beforeAll(async () => {
    stacks = readAssembly(await directory())
  }, 180_000)

  test.each(NAMES)('%s starts with what it is told, and asks for all of it', async (name) => {
    const told = toldTo(stacks, name)
    const variables = Object.keys(told).filter((variable) => !OF_NODE.includes(variable))
    // It would not have started without one that it needs; what it asks for besides has a default.
    expect(await askedBy(name, told)).toEqual(expect.arrayContaining(variables))
  })
})
