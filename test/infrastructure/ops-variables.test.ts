/** The line of the runbook that sets an operator's variables, run against the templates' outputs. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { NAMES } from '../../ops/environment.ts'
import { makeEnvironment } from '../harness/environment.ts'

const RUNBOOK = readFileSync(resolve(import.meta.dirname, '../../docs/runbook.md'), 'utf8')

const SYNTHESIS_MS = 180_000

/** Of the section "At a glance". */
function lineOfRunbook(): string {
  const [, section = ''] = RUNBOOK.split('### At a glance\n')
  const line = /```sh\n(eval [\s\S]*?)```/.exec(section)?.[1]
  if (line === undefined) throw new Error('the runbook has no such line')
  return line
}

/** What a shell has afterwards, where the AWS CLI prints outputs as it does: one a line, a tab between. */
function variablesAfter(outputs: Record<string, string>): Record<string, string> {
  const directory = mkdtempSync(join(tmpdir(), 'turnkeep-ops-'))
  try {
    const printed = Object.entries(outputs).map((pair) => pair.join('\t'))
    writeFileSync(join(directory, 'outputs'), `${printed.join('\n')}\n`)
    writeFileSync(join(directory, 'aws'), `#!/bin/sh\ncat '${directory}/outputs'\n`)
    chmodSync(join(directory, 'aws'), 0o755)
    const env = { PATH: `${directory}:${process.env.PATH}` }
    const out = execFileSync('sh', ['-c', `${lineOfRunbook()}\nenv`], { env, encoding: 'utf8' })
    return Object.fromEntries(
      out
        .split('\n')
        .map((line): [string, string] => [line.split('=')[0] ?? '', line.slice(line.indexOf('=') + 1)]),
    )
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** Values as only a deployment has them; what the template knows already stays. */
const outputsOf = (template: { Outputs?: Record<string, { Value?: unknown }> }): Record<string, string> =>
  Object.fromEntries(
    Object.entries(template.Outputs ?? {}).map(([name, { Value }]) => [
      name,
      typeof Value === 'string' ? Value : `value-of:${name}/with $signs 'and quotes'`,
    ]),
  )

test(
  'every variable that ops asks for is an output of the service stack, and the line sets it',
  () => {
    const { service } = makeEnvironment('prod', {
      phase: 2,
      cache: { maxGigabytes: 1, maxEcpuPerSecond: 1_000, snapshotDays: 1 },
    })
    const variables = variablesAfter(outputsOf(service))
    expect(Object.keys(variables)).toEqual(expect.arrayContaining([...NAMES]))
    expect(variables).toMatchObject({
      HOT_STORE: 'valkey',
      METRICS_NAMESPACE: 'Turnkeep/prod',
      DATABASE_NAME: 'turnkeep',
      DATABASE_PAUSES: 'false',
      TURNS_QUEUE_URL: "value-of:TurnsQueueUrl/with $signs 'and quotes'",
    })
  },
  SYNTHESIS_MS,
)

test(
  'an environment without a cache names none, and one that pauses says so',
  () => {
    const variables = variablesAfter(outputsOf(makeEnvironment('dev').service))
    expect(NAMES.filter((name) => !(name in variables))).toEqual(['VALKEY_CACHE_NAME'])
    expect(variables).toMatchObject({ HOT_STORE: 'postgres', DATABASE_PAUSES: 'true' })
  },
  SYNTHESIS_MS,
)
