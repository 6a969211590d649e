/**
 * Least privilege, both ways: what the functions asked for in the tests of this run, against what the templates allow
 * them. It runs after all other files (vitest.config.ts).
 */
import { globSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'
import { impliedCalls } from '../harness/implied-calls.ts'
import {
  deniedCalls,
  permissionsOf,
  permissionsTable,
  type Use,
  unusedPermissions,
  withStatements,
} from '../harness/permissions.ts'
import { synthesisePhaseTwo } from '../harness/phase-two.ts'
import type { Policies, Statement } from '../harness/policies.ts'
import { readCalls } from '../harness/recorded-calls.ts'
import { redisAvailable, whyNoRedis } from '../harness/redis.ts'
import { isSelected } from '../harness/run.ts'
import { synthesise } from '../harness/synthesis.ts'
import { readDeployment } from '../harness/template.ts'

/** The files that together use every permission. Logging in to a cache is seen by the last of them. */
const NEEDED = globSync('test/{handlers,journeys}/**/*.test.ts')
const OF_PHASE_TWO = 'test/infrastructure/wiring-phase-two.test.ts'

/** Where no other file has made it: seconds, on a machine that is not busy. */
const SYNTHESIS_MS = 180_000

const phases = [
  { phase: 'phase 1', directory: synthesise, needed: NEEDED, has: ({ action }: Use) => !isOfCache(action) },
  {
    phase: 'phase 2',
    directory: synthesisePhaseTwo,
    needed: redisAvailable ? [...NEEDED, OF_PHASE_TWO] : [],
    has: () => true,
  },
]
const isOfCache = (action: string): boolean => action.startsWith('elasticache:')

describe.each(phases)('in $phase', ({ directory, needed, has }) => {
  let policies: Policies
  let uses: Use[]
  /** Why what is used cannot be told, where it cannot. */
  let missing: string | undefined

  beforeAll(async () => {
    const deployment = readDeployment(await directory())
    const recorded = readCalls()
    policies = deployment.policies
    uses = [
      ...recorded.flatMap(({ file, calls }) => calls.map((call) => ({ ...call, by: file }))),
      ...impliedCalls(deployment).map((call) => ({ ...call, by: call.why })),
    ].filter((use) => use.function in policies.roles && has(use))
    const took = new Set(recorded.map(({ file }) => file))
    const absent = needed.filter((file) => !took.has(file)).length
    if (absent > 0) missing = `${absent} of ${needed.length} files that are needed took no part in this run`
    if (needed.length === 0) missing = whyNoRedis
    if (isSelected()) missing = 'only some tests of each file took part in this run'
    if (missing) console.log(`Unused permissions are not looked for: ${missing}.`)
  }, SYNTHESIS_MS)

  test('everything that a function asked for is allowed by its role', () => {
    expect(deniedCalls(policies, uses)).toEqual([])
  })

  test('every permission is used by some function in some test, or by Lambda itself', ({ skip }) => {
    skip(missing !== undefined, missing)
    console.log(permissionsTable(policies, uses))
    expect(unusedPermissions(policies, uses)).toEqual([])
  })

  test('a role that lacks any one of the permissions that are used is found out', ({ skip }) => {
    skip(missing !== undefined, missing)
    for (const [name, statements] of Object.entries(policies.roles)) {
      const permissions = permissionsOf(statements)
      for (const lacking of permissions) {
        const rest = permissions.filter((permission) => permission !== lacking)
        const denied = deniedCalls(withStatements(policies, name, rest), uses)
        expect([name, lacking.actions, denied.length > 0]).toEqual([name, lacking.actions, true])
      }
    }
  })

  test('a role that has any permission of another one is found out', ({ skip }) => {
    skip(missing !== undefined, missing)
    const already = unusedPermissions(policies, uses).length
    const named = ({ actions, resources }: Statement) => `${actions} ${resources}`
    const all = Object.values(policies.roles).flatMap(permissionsOf)
    for (const [name, statements] of Object.entries(policies.roles)) {
      const own = new Set(permissionsOf(statements).map(named))
      for (const added of all.filter((permission) => !own.has(named(permission)))) {
        const more = withStatements(policies, name, [...statements, added])
        expect(unusedPermissions(more, uses)).toHaveLength(already + 1)
      }
    }
  })
})
