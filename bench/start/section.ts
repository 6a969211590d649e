/**
 * Start-up: what each function loads before its first invocation, and how long that takes under AWS's own runtime client,
 * from the start of the process to its first question for work. An empty function beside them, in the same rounds, shows
 * what of it is Node's and the client's.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bundle, bundleFunctions, bytesAtStart } from '../../lib/bundle.ts'
import { synthesise } from '../../lib/cost/synthesise.ts'
import { amount, table } from '../../lib/cost/table.ts'
import { functionNamed, type Template } from '../../lib/cost/template.ts'
import { resources } from '../../lib/resources.ts'
import { settingsFor } from '../../lib/settings.ts'
import { median, rounded, shuffled, verdict } from '../figures.ts'
import { initialise, type Start } from './initialise.ts'

const EMPTY = 'empty'
const ENVIRONMENT = 'prod'
/** Of chat, whose start somebody waits for. */
const MOST_BYTES = 1_400_000
const MOST_MS_ABOVE_EMPTY = 120

export interface StartFigure {
  name: string
  bytesAtStart: number
  bytesLater: number
  ms: number
  msAboveEmpty: number
  ratio: number
  cpuMs: number
  cpuMsAboveEmpty: number
}

export interface StartFigures {
  rounds: number
  functions: StartFigure[]
}

export async function measureStart({ rounds }: { rounds: number }): Promise<StartFigures> {
  const directory = await mkdtemp(join(tmpdir(), 'turnkeep-start-'))
  try {
    return { rounds, functions: await measureFunctions(directory, rounds) }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function measureFunctions(directory: string, rounds: number): Promise<StartFigure[]> {
  const [bundles, templates] = await Promise.all([
    bundleFunctions(resources.functions, directory),
    synthesise(ENVIRONMENT, settingsFor(ENVIRONMENT)),
  ])
  const subjects = [
    { name: EMPTY, taskRoot: await emptyFunction(directory), variables: variablesOf(templates, 'chat') },
    ...Object.entries(bundles).map(([name, bundle]) => ({
      name,
      taskRoot: bundle.directory,
      variables: variablesOf(templates, name),
    })),
  ]
  const starts = new Map(subjects.map(({ name }) => [name, [] as Start[]]))
  for (const subject of subjects) await initialise(subject) // files are in the page cache from now on
  for (let round = 0; round < rounds; round += 1)
    for (const subject of shuffled(subjects)) starts.get(subject.name)?.push(await initialise(subject))
  return subjects.map(({ name }) => ({
    name,
    ...sizes(bundles[name]),
    ...compared(starts.get(name) ?? [], starts.get(EMPTY) ?? []),
  }))
}

export function printStart({ functions }: StartFigures): void {
  console.log(
    table(
      functions.map((one) => ({
        function: one.name,
        'KB at start': amount(one.bytesAtStart / 1_000),
        'KB later': amount(one.bytesLater / 1_000),
        'ms until ready': amount(one.ms),
        'above empty': amount(one.msAboveEmpty),
        ratio: amount(one.ratio),
        'processor ms': amount(one.cpuMs),
        'above its': amount(one.cpuMsAboveEmpty),
      })),
    ),
  )
  const chat = functions.find(({ name }) => name === 'chat')
  if (!chat) return
  console.log(
    `\nchat loads at most 1,400 KB before its first token: ${verdict(chat.bytesAtStart <= MOST_BYTES)}`,
  )
  console.log(
    `chat is ready within 120 ms of an empty function: ${verdict(chat.msAboveEmpty < MOST_MS_ABOVE_EMPTY)}`,
  )
}

function sizes(bundle: Bundle | undefined) {
  if (bundle === undefined) return { bytesAtStart: 0, bytesLater: 0 }
  const atStart = bytesAtStart(bundle)
  return { bytesAtStart: atStart, bytesLater: scriptBytes(bundle.metafile) - atStart }
}

/** Each start against the empty function's of the same round: both had the same neighbours. */
function compared(own: readonly Start[], empty: readonly Start[]) {
  const medianOf = (value: (one: Start, beside: Start) => number) =>
    rounded(median(own.map((one, round) => value(one, empty[round] ?? one))))
  return {
    ms: medianOf(({ ms }) => ms),
    msAboveEmpty: medianOf((one, beside) => one.ms - beside.ms),
    ratio: medianOf((one, beside) => one.ms / beside.ms),
    cpuMs: medianOf(({ cpuMs }) => cpuMs),
    cpuMsAboveEmpty: medianOf((one, beside) => one.cpuMs - beside.cpuMs),
  }
}

async function emptyFunction(directory: string): Promise<string> {
  const folder = join(directory, EMPTY)
  await mkdir(folder)
  await writeFile(join(folder, 'index.mjs'), 'export const handler = async () => ({})\n')
  return folder
}

/** As the template gives them; what only AWS knows is some text. */
function variablesOf(templates: readonly Template[], name: string): Record<string, string> {
  const { Variables = {} } = functionNamed(templates, name).properties.Environment ?? {}
  return Object.fromEntries(
    Object.entries(Variables).map(([variable, value]) => [
      variable,
      typeof value === 'string' ? value : 'https://known.in.aws',
    ]),
  )
}

function scriptBytes({ outputs }: { outputs: Record<string, { bytes: number }> }): number {
  return Object.entries(outputs).reduce(
    (sum, [path, { bytes }]) => (path.endsWith('.mjs') ? sum + bytes : sum),
    0,
  )
}
