import type { ChildProcess } from 'node:child_process'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTracker } from './aim.ts'
import { type DrillCloud, rounds, startDrillCloud } from './drill-cloud.ts'
import { questionText } from './drill-model.ts'
import { type Fate, type Moment, type Passage, passAll } from './fault-proxy.ts'
import { conclude } from './report.ts'
import { ask, read, type Sighting, terminalOf } from './returning-client.ts'
import { startTurnstile, type Turnstile } from './turnstile.ts'

const ROUNDS = rounds(50, 9)

/** Where the writer stands when it freezes; what it had just sent arrives when it wakes, or has arrived. */
const stages: { operation: string; nth: number; moment: Moment; end: string[] }[] = [
  { operation: 'append_events', nth: 2, moment: 'before', end: ['interrupted'] },
  { operation: 'append_events', nth: 3, moment: 'after', end: ['interrupted'] },
  { operation: 'append_events', nth: 4, moment: 'answered', end: ['interrupted'] },
  { operation: 'close_turn', nth: 1, moment: 'before', end: ['interrupted'] },
  { operation: 'close_turn', nth: 1, moment: 'after', end: ['done'] },
  { operation: 'SendMessageBatch', nth: 2, moment: 'before', end: ['done'] },
  { operation: 'SendMessageBatch', nth: 2, moment: 'after', end: ['done'] },
  { operation: 'finish_turn', nth: 1, moment: 'before', end: ['done'] },
  { operation: 'finish_turn', nth: 1, moment: 'after', end: ['done'] },
]

let cloud: DrillCloud
let writer: ChildProcess
let writersDoor: Turnstile
let othersDoor: Turnstile
/** Shut while a reader is to be the one who rescues: the watch ends in `persist`. */
let watchsDoor: Turnstile
beforeAll(async () => {
  cloud = await startDrillCloud({
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

/** Freezes the writer of this question at a stage; the call that it stood at goes on when it is woken. */
function freezeAt(question: string, stage: (typeof stages)[number]) {
  const isOurs = createTracker(question)
  const frozen = Promise.withResolvers<string>()
  const woken = Promise.withResolvers<void>()
  const numbers = new WeakMap<object, number>()
  let messageId = ''
  let count = 0
  cloud.proxy.decide = async (passage: Passage): Promise<Fate> => {
    if (!isOurs(passage)) return 'pass'
    if (passage.operation === 'open_within_limits') {
      writersDoor.shut() // It has what it is to work on.
      othersDoor.open()
    }
    messageId = /"value":\{"stringValue":"([0-9a-f-]{36})"\}/.exec(passage.text)?.[1] ?? messageId
    if (passage.operation !== stage.operation) return 'pass'
    if (passage.moment === 'before') {
      count += 1
      numbers.set(passage.call, count)
    }
    if (passage.moment !== stage.moment || numbers.get(passage.call) !== stage.nth) return 'pass'
    writer.kill('SIGSTOP')
    frozen.resolve(messageId)
    await woken.promise
    return 'pass'
  }
  const wake = () => {
    writer.kill('SIGCONT')
    woken.resolve()
  }
  return { frozen: frozen.promise, wake }
}

test('a writer that is frozen past its lease and woken after its rescue changes nothing', {
  timeout: 600_000,
}, async () => {
  const sightings: Sighting[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    const stage = stages[round % stages.length] as (typeof stages)[number]
    const name = `frozen ${round} ${stage.moment} ${stage.operation}`
    const question = questionText({ name, pieces: 10, delayMs: 60 })
    othersDoor.shut()
    const { frozen, wake } = freezeAt(question, stage)
    writersDoor.open()
    const asked = ask(cloud.as(), { question, returns: false })
    const messageId = await Promise.race([
      frozen,
      asked.then(({ events, refused }) => {
        throw new Error(`${name}: never frozen, ${JSON.stringify(refused ?? events.at(-1))}`)
      }),
    ])
    // Every other time a reader alone is there to meet the lapsed lease; otherwise the watch does.
    const reader = round % 2 === 0 ? read(cloud.as(), messageId) : undefined
    if (reader) watchsDoor.shut()
    const state = async () =>
      (
        await cloud.rows<{ state: string }>(`select state from chat_turns where message_id = '${messageId}'`)
      )[0]?.state
    await expect.poll(state, { timeout: 20_000, message: name }).toBe('finished')
    watchsDoor.open()
    wake()
    const writersClient = await asked
    cloud.proxy.decide = passAll
    const late = await read(cloud.as(), messageId)
    const terminal = terminalOf(writersClient)
    expect(stage.end, name).toContain(terminal?.type === 'error' ? terminal.code : terminal?.type)
    expect(writersClient.events, name).toEqual(late.events)
    if (reader) expect((await reader).events, name).toEqual(late.events)
    sightings.push(writersClient, late, ...(reader ? [await reader] : []))
  }
  await conclude(cloud, { fault: 'writer frozen past its lease', rounds: ROUNDS, sightings })
})
