/** What the relay and the core spend their processor time on: profiles for the usual tools, and the heaviest functions. */
import { mkdirSync, writeFileSync } from 'node:fs'
import type { Profiler } from 'node:inspector/promises'
import { join, relative } from 'node:path'
import { table } from '../../lib/cost/table.ts'
import { longAnswers, shortAnswers, spenders } from './processor-time.ts'
import { warmUp } from './section.ts'
import type { Subject } from './stack.ts'
import { startStack } from './stack.ts'

const CLIENTS = 10
const HEAVIEST = 30
/** Of each kind of traffic: some seconds of processor time. */
const TIMES = 8
const IDLE = new Set(['(idle)', '(program)', '(root)'])

export async function profileStreaming(directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true })
  const stack = await startStack(CLIENTS)
  try {
    await warmUp(stack)
    const traffics = { tokens: longAnswers, turns: shortAnswers }
    for (const subject of spenders(stack))
      for (const [name, traffic] of Object.entries(traffics)) {
        await traffic(subject, stack)
        const profile = await whileAnswering(subject, async () => {
          for (let time = 0; time < TIMES; time += 1) await traffic(subject, stack)
        })
        const file = join(directory, `${subject.name.replaceAll(' ', '-')}-${name}.cpuprofile`)
        writeFileSync(file, JSON.stringify(profile))
        console.log(`\n${subject.name}, ${name} (${relative(process.cwd(), file)})\n\n${heaviest(profile)}`)
      }
  } finally {
    await stack.close()
  }
}

async function whileAnswering({ process }: Subject, work: () => Promise<void>): Promise<Profiler.Profile> {
  const stop = await process?.profile()
  await work()
  if (!stop) throw new Error('it has no process of its own')
  return stop()
}

/** By the time in the function itself, callees apart. */
function heaviest({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): string {
  const byId = new Map(nodes.map((node) => [node.id, node.callFrame]))
  const spent = new Map<string, number>()
  let total = 0
  for (const [index, id] of samples.entries()) {
    const frame = byId.get(id)
    if (!frame || IDLE.has(frame.functionName)) continue
    const file = frame.url.replace(/^file:\/\//, '').replace(/^.*\/node_modules\//, '')
    const place = file.startsWith('/') ? relative(process.cwd(), file) : file
    const name = `${frame.functionName || '(anonymous)'} ${place}:${frame.lineNumber + 1}`
    const microseconds = timeDeltas[index] ?? 0
    total += microseconds
    spent.set(name, (spent.get(name) ?? 0) + microseconds)
  }
  const rows = [...spent].toSorted(([, one], [, other]) => other - one).slice(0, HEAVIEST)
  return table(
    rows.map(([name, microseconds]) => ({
      'self ms': (microseconds / 1_000).toFixed(1),
      share: `${((100 * microseconds) / total).toFixed(1)} %`,
      function: name,
    })),
  )
}
