/** Compares what functions do with what a template lets them do, both ways. */
import type { Call } from '../../local/cloud/calls.ts'
import { decide, type Policies, type Statement, unused } from './policies.ts'

/** A call, and who was seen to make it: a test file, or Lambda itself. */
export interface Use extends Call {
  by: string
}

const of = (uses: readonly Use[], name: string): Use[] => uses.filter((use) => use.function === name)

/** Calls that would be refused in AWS. */
export function deniedCalls(policies: Policies, uses: readonly Use[]): string[] {
  const denied = uses.flatMap((use) => {
    const { allowed, why } = decide(policies, use)
    return allowed ? [] : [`${use.function}: ${use.action} on ${use.resource}: ${why}`]
  })
  return [...new Set(denied)]
}

/** Permissions that nothing needs. */
export function unusedPermissions(policies: Policies, uses: readonly Use[]): string[] {
  return Object.entries(policies.roles).flatMap(([name, statements]) =>
    unused(statements, of(uses, name)).map((permission) => `${name}: ${permission}`),
  )
}

export const withStatements = (policies: Policies, name: string, statements: Statement[]): Policies => ({
  ...policies,
  roles: { ...policies.roles, [name]: statements },
})

/** One permission by itself: an action on a resource, under the conditions of its statement. */
export function permissionsOf(statements: readonly Statement[]): Statement[] {
  return statements.flatMap((statement) =>
    statement.actions.flatMap((action) =>
      statement.resources.map((resource) => ({ ...statement, actions: [action], resources: [resource] })),
    ),
  )
}

/** Function, action, resource, and who uses it. */
export function permissionsTable(policies: Policies, uses: readonly Use[]): string {
  const rows = Object.entries(policies.roles).flatMap(([name, statements]) =>
    permissionsOf(statements).map((permission) => {
      const alone: Policies = { ...withStatements(policies, name, [permission]), resources: [] }
      const by = of(uses, name).filter((use) => decide(alone, use).allowed)
      return [name, permission.actions.join(), shortened(permission.resources.join()), named(by)]
    }),
  )
  const cells = [['function', 'action', 'resource', 'used by'], ...rows]
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)))
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** Without what is the same in each. */
const shortened = (arn: string): string => arn.replace(/^arn:aws:/, '').replace(/:us-east-1:\d{12}:/, ':')

const SHOWN = 2

function named(uses: readonly Use[]): string {
  const by = [...new Set(uses.map((use) => use.by.replace(/^test\//, '').replace(/\.test\.ts$/, '')))]
  if (by.length === 0) return 'nothing'
  const more = by.length - SHOWN
  return by.slice(0, SHOWN).join(', ') + (more > 0 ? ` and ${more} more` : '')
}
