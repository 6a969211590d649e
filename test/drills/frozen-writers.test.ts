import type { ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTracker } from './aim.ts'
import { type DrillCloud, inPhase, inProxiedPhases, isLong, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { type Fate, type Moment, type Passage, passAll } from './fault-proxy.ts'
import { conclude } from './report.ts'
import { ask, read, type Sighting, terminalOf } from './returning-client.ts'
import { readTurns } from './stored.ts'
import { startTurnstile, type Turnstile } from './turnstile.ts'

type Operation = 'append' | 'close' | 'queue' | 'finish'

/** Where the writer stands when it freezes; what it had just sent arrives when it wakes, or has arrived. */
const stages: { operation: Operation; nth: number; moment: Moment; end: string[] }[] = [
  { operation: 'append', nth: 2, moment: 'before', end: ['interrupted'] },
  { operation: 'append', nth: 3, moment: 'after', end: ['interrupted'] },
  { operation: 'append', nth: 4, moment: 'answered', end: ['interrupted'] },
  { operation: 'close', nth: 1, moment: 'before', end: ['interrupted'] },
  { operation: 'close', nth: 1, moment: 'after', end: ['done'] },
  { operation: 'queue', nth: 2, moment: 'before', end: ['done'] },
  { operation: 'queue', nth: 2, moment: 'after', end: ['done'] },
  { operation: 'finish', nth: 1, moment: 'before', end: ['done'] },
  { operation: 'finish', nth: 1, moment: 'after', end: ['done'] },
]
/** As the proxy sees them, in either phase. */
const operations: Record<string, Operation> = {
  append_events: 'append',
  append: 'append',
  close_turn: 'close',
  close: 'close',
  SendMessageBatch: 'queue',
  finish_turn: 'finish',
  finish: 'finish',
}
const WOKEN_AFTER_MS = 50

let cloud: DrillCloud
let writer: ChildProcess
let writersDoor: Turnstile
let othersDoor: Turnstile
/** Shut while a reader is to be the one who rescues: the watch ends in `persist`. */
let watchsDoor: Turnstile

/** Freezes the writer of this question at a stage; the call that it stood at goes on when it is woken. */
function freezeAt(question: string, stage: (typeof stages)[number]) {
  const isOurs = createTracker(question)
  const frozen = Promise.withResolvers<void>()
  const woken = Promise.withResolvers<void>()
  const numbers = new WeakMap<object, number>()
  let count = 0
  cloud.proxy.decide = async (passage: Passage): Promise<Fate> => {
    if (!isOurs(passage)) return 'pass'
    if (['open_within_limits', 'open'].includes(passage.operation)) {
      writersDoor.shut() // It has what it is to work on.
      othersDoor.open()
    }
    if (operations[passage.operation] !== stage.operation) return 'pass'
    if (passage.moment === 'before') {
      count += 1
      numbers.set(passage.call, count)
    }
    if (passage.moment !== stage.moment || numbers.get(passage.call) !== stage.nth) return 'pass'
    writer.kill('SIGSTOP')
    frozen.resolve()
    await woken.promise
    return 'pass'
  }
  /** The network does not freeze with it: the answer to what it had sent is there when it wakes. */
  const wake = async () => {
    woken.resolve()
    await sleep(WOKEN_AFTER_MS)
    writer.kill('SIGCONT')
  }
  return { frozen: frozen.promise, wake }
}

inProxiedPhases((phase) => {
  const ROUNDS = rounds(50, stages.length)
  /** Fewer rounds than stages take stages of every kind. */
  const stride = Math.max(1, Math.floor(stages.length / ROUNDS))
  beforeAll(async () => {
    cloud = await startDrillCloud({
      phase,
      name: 'frozen',
      environment: async ({ functionEnvironment }) => {
        const functions = JSON.parse(functionEnvironment.TURNKEEP_FUNCTIONS ?? '{}')
        othersDoor = await startTurnstile(functions.chat.runtimeApi)
        writersDoor = await startTurnstile(functions.chat.runtimeApi)
        functions.chat.runtimeApi = othersDoor.address
        watchsDoor = await startTurnstile(functions.persist.runtimeApi)
        functions.persist.runtimeApi = watchsDoor.address
        return { TURNKEEP_FUNCTIONS: JSON.stringify(functions) }
      },
    })
    const { chat } = JSON.parse(cloud.cloud.functionEnvironment.TURNKEEP_FUNCTIONS ?? '{}')
    chat.runtimeApi = writersDoor.address
    writer = await cloud.startFunctions({ TURNKEEP_FUNCTIONS: JSON.stringify({ chat }) })
  })
  afterAll(async () => {
    writer?.kill('SIGCONT')
    writersDoor?.close()
    othersDoor?.close()
    watchsDoor?.close()
    await cloud.close()
  })

  test('a writer that is frozen past its lease and woken after its rescue changes nothing', {
    timeout: 600_000,
  }, async () => {
    const sightings: Sighting[] = []
    for (let round = 0; round < ROUNDS; round += 1) {
      const stage = stages[(round * stride + (isLong ? 0 : 1)) % stages.length] as (typeof stages)[number]
      const name = `frozen ${round} ${stage.moment} ${stage.operation}`
      const question = questionText({ name, pieces: 10, delayMs: 60 })
      othersDoor.shut()
      const { frozen, wake } = freezeAt(question, stage)
      writersDoor.open()
      const asked = ask(cloud.as(), { question, returns: false })
      await Promise.race([
        frozen,
        asked.then(({ events, refused }) => {
          throw new Error(`${name}: never frozen, ${JSON.stringify(refused ?? events.at(-1))}`)
        }),
      ])
      const messageId = (await readTurns(cloud)).at(-1)?.messageId ?? ''
      // Every other time a reader alone is there to meet the lapsed lease; otherwise the watch does.
      const reader = round % 2 === 0 ? read(cloud.as(), messageId) : undefined
      if (reader) watchsDoor.shut()
      const state = async () => (await readTurns(cloud)).find((turn) => turn.messageId === messageId)?.state
      await expect.poll(state, { timeout: 20_000, message: name }).toBe('finished')
      watchsDoor.open()
      await wake()
      const writersClient = await asked
      cloud.proxy.decide = passAll
      const late = await read(cloud.as(), messageId)
      const terminal = terminalOf(writersClient)
      expect(stage.end, name).toContain(terminal?.type === 'error' ? terminal.code : terminal?.type)
      expect(writersClient.events, name).toEqual(late.events)
      if (reader) expect((await reader).events, name).toEqual(late.events)
      sightings.push(writersClient, late, ...(reader ? [await reader] : []))
    }
    const fault = inPhase('writer frozen past its lease', phase)
    await conclude(cloud, { fault, rounds: ROUNDS, sightings })
  })
})
