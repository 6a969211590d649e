/**
 * Decides what IAM would: an explicit denial, else an allowance, else no.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html, for one account, without
 * boundaries and sessions. What it does not know it refuses to judge.
 */
import type { Call, Need } from '../../local/cloud/calls.ts'

/** One statement of a resolved policy, with everything that may be one or many as a list. */
export interface Statement {
  /** Where it stands in the template. */
  source: string
  effect: 'Allow' | 'Deny'
  actions: string[]
  resources: string[]
  conditions: Condition[]
  /** Of a resource's policy: whether it speaks of every principal, or the roles that it names. */
  principals?: 'all' | string[]
}
interface Condition {
  operator: string
  key: string
  values: string[]
}

export interface Policies {
  /** By function: what its role may do. */
  roles: Record<string, Statement[]>
  /** By function: its role, as resources' policies name it. */
  roleArns: Record<string, string>
  /** What resources say about their callers. */
  resources: Statement[]
}

type Json = Record<string, unknown>

export function readStatements(source: string, document: unknown): Statement[] {
  const { Statement } = document as { Statement: Json | Json[] }
  return [Statement].flat().map((statement) => readStatement(source, statement))
}

const KNOWN = ['Sid', 'Effect', 'Action', 'Resource', 'Condition', 'Principal']

function readStatement(source: string, statement: Json): Statement {
  const unknown = Object.keys(statement).filter((key) => !KNOWN.includes(key))
  if (unknown.length > 0) throw new Error(`${source}: ${unknown} is not known here`)
  const { Effect, Action, Resource, Condition = {}, Principal } = statement
  return {
    source,
    effect: Effect as Statement['effect'],
    actions: texts(Action),
    resources: texts(Resource ?? []),
    conditions: Object.entries(Condition as Record<string, Json>).flatMap(([operator, keys]) =>
      Object.entries(keys).map(([key, values]) => ({ operator, key, values: texts(values) })),
    ),
    ...(Principal !== undefined && { principals: readPrincipals(Principal) }),
  }
}

/** A service's principal is never a function's role. */
function readPrincipals(principal: unknown): 'all' | string[] {
  if (principal === '*') return 'all'
  const roles = texts((principal as Json).AWS ?? [])
  return roles.includes('*') ? 'all' : roles
}

function texts(value: unknown): string[] {
  return [value].flat().map((item) => {
    if (['string', 'boolean', 'number'].includes(typeof item)) return String(item)
    throw new Error(`${JSON.stringify(item)} is no text`)
  })
}

export interface Decision {
  allowed: boolean
  why: string
}

/** What AWS would answer to the call. */
export function decide(policies: Policies, call: Call): Decision {
  const role = policies.roles[call.function]
  if (!role) return { allowed: false, why: `there is no role of ${call.function}` }
  const roleArn = policies.roleArns[call.function] ?? ''
  const onResource = policies.resources.filter(({ principals = [] }) => speaksOf(principals, roleArn))
  const meant = [...role, ...onResource].filter((statement) => covers(statement, call))
  const denying = meant.find(({ effect }) => effect === 'Deny')
  if (denying) return { allowed: false, why: `denied by ${denying.source}` }
  const allowing = meant.find(({ effect }) => effect === 'Allow')
  return allowing
    ? { allowed: true, why: `allowed by ${allowing.source}` }
    : { allowed: false, why: 'no statement allows it' }
}

function speaksOf(principals: 'all' | string[], roleArn: string): boolean {
  return principals === 'all' || principals.includes(roleArn)
}

function covers({ actions, resources, conditions }: Statement, need: Need): boolean {
  return (
    actions.some((pattern) => matches(pattern.toLowerCase(), need.action.toLowerCase())) &&
    resources.some((pattern) => matches(pattern, need.resource)) &&
    conditions.every((condition) => holds(condition, need))
  )
}

/** By pattern: few, and each is asked about tens of thousands of calls. */
const expressions = new Map<string, RegExp>()

/** `*` is any text, `?` any character. */
function matches(pattern: string, text: string): boolean {
  const expression = expressions.get(pattern) ?? expressionOf(pattern)
  expressions.set(pattern, expression)
  return expression.test(text)
}

function expressionOf(pattern: string): RegExp {
  if (pattern.includes('${')) throw new Error(`Policy variables are not known here: ${pattern}`)
  const expression = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${expression}$`, 's')
}

/** The keys that a call may have; one of them that it does not have is absent, any other cannot be judged. */
const KEYS = ['aws:SecureTransport', 's3:TlsVersion', 's3:prefix', 'secretsmanager:VersionStage']
/** To AWS the clients speak HTTPS, always; Node 24 no older one than this. */
const ALWAYS = { 'aws:SecureTransport': 'true', 's3:TlsVersion': '1.2' }

const operators: Record<string, (expected: string, given: string) => boolean> = {
  Bool: (expected, given) => expected.toLowerCase() === given,
  StringEquals: (expected, given) => expected === given,
  StringLike: matches,
  NumericLessThan: (expected, given) => Number(given) < Number(expected),
}

function holds({ operator, key, values }: Condition, { conditions = {} }: Need): boolean {
  const [, name = '', orAbsent] = /^(.*?)(IfExists)?$/.exec(operator) ?? []
  const test = operators[name]
  if (!test || !KEYS.includes(key)) throw new Error(`The condition ${operator} of ${key} is not known here`)
  const given = { ...ALWAYS, ...conditions }[key]
  if (given === undefined) return orAbsent !== undefined
  return values.some((value) => test(value, given))
}

/** What a function may do, and never does; and what cannot be told, because it is not said exactly. */
export function unused(statements: readonly Statement[], needs: readonly Need[]): string[] {
  const allowing = statements.filter(({ effect }) => effect === 'Allow')
  return allowing.flatMap((statement) =>
    statement.actions.flatMap((action) =>
      statement.resources
        .filter((resource) => {
          const exact = { ...statement, actions: [action], resources: [resource] }
          return /[*?]/.test(action) || !needs.some((need) => covers(exact, need))
        })
        .map((resource) => `${statement.source}: ${action} on ${resource}`),
    ),
  )
}
