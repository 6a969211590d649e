/** The product as it would be deployed: what a template says, and the bundles beside it, on this machine. */
import type { Call, Gate } from '../../local/cloud/calls.ts'
import type { Cloud } from '../../local/cloud/cloud.ts'
import { type DeployedCache, openDeployedCache } from './deployed-cache.ts'
import { atItsPace } from './paced-answers.ts'
import { decide, type Policies } from './policies.ts'
import { record } from './recorded-calls.ts'
import { startRuntimeClient } from './runtime-client.ts'
import { type DeployedFunction, type Deployment, variablesOf } from './template.ts'
import { forkFunctions, type Host, type HostProcess, startTurnkeep, type Turnkeep } from './turnkeep.ts'

export interface Deployed extends Turnkeep {
  /** In phase 2. */
  cache: DeployedCache | undefined
  /** What the functions asked for. */
  asked: Call[]
  /** What the policies refused of it. */
  refused: { call: Call; why: string }[]
  /** Those that hold from now on; at first, the template's. */
  enforce(policies: Policies): void
}

export const hostings = ['local/functions', 'aws-lambda-ric'] as const
export type Hosting = (typeof hostings)[number]

/** One process runs one invocation at a time; a stream that is stopped or resumed takes two at least. */
const ENVIRONMENTS: Record<string, number> = { chat: 3, api: 2, persist: 2 }
const START_MS = 30_000

/** A call that the template's policies do not allow is answered with AccessDenied. */
export async function startDeployed(deployment: Deployment, hosting: Hosting): Promise<Deployed> {
  const { resources, tokens } = deployment
  let { policies } = deployment
  const asked: Deployed['asked'] = []
  const refused: Deployed['refused'] = []
  const gate: Gate = (call) => {
    record(call)
    asked.push(call)
    const { allowed, why } = decide(policies, call)
    if (!allowed) refused.push({ call, why })
    return allowed
  }
  const { functions } = resources
  const cache = await openDeployedCache(functions, gate)
  const hosted = hosting === 'local/functions' ? ownProcesses : runtimeClients
  const turnkeep = await startTurnkeep({
    name: 'deployed',
    resources,
    tokens,
    scriptedModel: { tokenDelayMs: 2, respond: atItsPace },
    gate,
    host: hosted(functions, cache),
  })
  return {
    ...turnkeep,
    cache,
    close: async () => {
      await turnkeep.close()
      await cache?.close()
    },
    asked,
    refused,
    enforce: (others) => {
      policies = others
    },
  }
}

type Functions = Record<string, DeployedFunction>

/** A process for each function, because each has variables of its own. */
const ownProcesses =
  (functions: Functions, cache?: DeployedCache): Host =>
  (cloud, common) =>
    Object.entries(functions).map(([name, one]) => {
      const hosted = { [name]: { handler: one.handler, runtimeApi: cloud.runtimeApi.addresses[name] } }
      const TURNKEEP_FUNCTIONS = JSON.stringify(hosted)
      return forkFunctions(
        [name],
        { ...variables(one, cloud, common), ...cache?.variablesOf(name), TURNKEEP_FUNCTIONS },
        one.taskRoot,
      )
    })

const runtimeClients =
  (functions: Functions, cache?: DeployedCache): Host =>
  (cloud, common) =>
    Object.entries(functions).flatMap(([name, one]) =>
      Array.from({ length: ENVIRONMENTS[name] ?? 1 }, (): HostProcess => {
        const child = startRuntimeClient({
          name,
          taskRoot: one.taskRoot,
          handler: one.entryPoint,
          memoryMb: one.memoryMb,
          runtimeApi: cloud.runtimeApi.addresses[name] ?? '',
          variables: { ...variables(one, cloud, common), ...cache?.variablesOf(name) },
        })
        const polling = cloud.runtimeApi.polled(name, AbortSignal.timeout(START_MS))
        return { child, functions: [name], polling }
      }),
    )

/** What stands outside of the template, and differs here: the endpoints, the issuer's keys and the model. */
function variables(
  one: DeployedFunction,
  { fauxqs }: Cloud,
  common: Record<string, string>,
): Record<string, string> {
  const given = variablesOf(one, fauxqs.address)
  const aws = Object.entries(common).filter(([name]) => name.startsWith('AWS_'))
  const outside = { AUTH_ISSUER: 'AUTH_JWKS_URL', OPENAI_BASE_URL: 'OPENAI_BASE_URL' }
  const moved = Object.entries(outside).filter(([asked]) => asked in given)
  const { LogFormat = 'Text', ApplicationLogLevel } = one.logging
  return {
    ...given,
    ...Object.fromEntries(aws),
    ...Object.fromEntries(moved.map(([, name]) => [name, common[name] ?? ''])),
    // https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html
    AWS_LAMBDA_LOG_FORMAT: LogFormat,
    ...(ApplicationLogLevel && { AWS_LAMBDA_LOG_LEVEL: ApplicationLogLevel }),
  }
}
