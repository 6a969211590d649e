/** The deployed chat function behind plain HTTP, in a process of its own, and answers in step with their clients: for counting its memory. */
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FromChild, ToChild } from '../../bench/stream/child.ts'
import { end, startProcess, told } from '../../bench/stream/processes.ts'
import { startPacedModel } from './paced-model.ts'
import { startRedis, variablesOf } from './redis.ts'
import { startTurnkeep } from './turnkeep.ts'

const CORE = resolve(import.meta.dirname, '../../bench/stream/core.ts')
/**
 * What lives on while answers run fits into the young generation many times over, so that when the collector runs changes
 * little in what it has to count.
 */
const HEAP = ['--expose-gc', '--max-semi-space-size=64', '--min-semi-space-size=64']
/** As many tokens as come between two appends of an ordinary answer. */
export const TOKENS_A_STEP = 8
const WORDS = ['주문', ' 번호를', ' 알려', ' 주시면', ' the', ' parcel', ' is', ' 😀.']
/** What an ended answer holds on to for a moment longer: its connection. */
const SETTLE_MS = 200

export interface ReplyCore {
  /** So many answers at once, each of so many steps; with `open`, what is done while all of them have heard the last one. */
  answer(answers: number, steps: number, open?: () => Promise<void>): Promise<void>
  /** Bytes that this allocates on the heap. */
  allocatedBy(work: () => Promise<void>): Promise<number>
  /** After a collection: heap, and buffers beside it. */
  usedBytes(): Promise<number>
  close(): Promise<void>
}

export async function startReplyCore(name: string, inValkey: boolean): Promise<ReplyCore> {
  await using started = new AsyncDisposableStack()
  /** By question: what its client has heard. */
  const steps = new Map<string, { left: number; heard: () => void; hearing: Promise<void> }>()
  const model = await startPacedModel(async function* (question) {
    const step = steps.get(question)
    if (!step) throw new Error('nobody has asked this')
    for (; step.left > 0; step.left -= 1) {
      await step.hearing
      Object.assign(step, hearing())
      yield WORDS
    }
    await step.hearing
  })
  started.defer(model.close)
  const redis = inValkey ? await startRedis('single') : undefined
  if (redis) started.defer(redis.close)
  // No answer takes so long that its lease would have to be renewed.
  const variables = { LEASE_SECONDS: '300', VALKEY_PATIENCE_MS: '5000', RATE_LIMIT_USER: '1000000' }
  const turnkeep = await startTurnkeep({
    name,
    model: model.settings,
    environment: variables,
    ...(redis && { valkey: redis }),
  })
  started.defer(turnkeep.close)
  const environment = {
    ...turnkeep.cloud.functionEnvironment,
    ...(redis && variablesOf(redis)),
    ...variables,
    RATE_LIMIT_TENANT: '1000000',
    POWERTOOLS_LOG_LEVEL: 'INFO',
  }
  const core = startProcess(CORE, environment, HEAP)
  started.defer(() => end(core, 'SIGKILL'))
  const { url } = await told<'listening', FromChild>(core, 'listening')
  const token = await turnkeep.as({ userId: 'u1' }).token
  const tell = <Type extends ToChild['type']>(type: Type) => {
    const answer = told<Type, FromChild>(core, type)
    core.send({ type } satisfies ToChild)
    return answer
  }
  let asked = 0

  /** Has the model go on each time when everything that it has said is heard. */
  async function one(left: number, open: () => Promise<void>): Promise<void> {
    asked += 1
    const message = `질문 ${String(asked).padStart(6, '0')}` // each as long as any other
    const step = { left, ...hearing() }
    steps.set(message, step)
    const response = await fetch(`${url}/api/chat/stream`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ message }),
    })
    let text = ''
    let expected = 0
    let at = 0
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk
      for (; count(text, '"answering"') && at <= left && count(text, '"type":"token"') >= expected; at += 1) {
        if (at === left) await open()
        expected += TOKENS_A_STEP
        step.heard()
      }
    }
    if (!text.includes('"type":"done"')) throw new Error(`An answer ended with ${text.slice(-300)}`)
    steps.delete(message)
  }

  const running = started.move()
  return {
    async answer(answers, left, open = async () => undefined) {
      let waiting = answers
      const all = Promise.withResolvers<void>()
      const opened = all.promise.then(open)
      await Promise.all(
        Array.from({ length: answers }, () =>
          one(left, () => {
            waiting -= 1
            if (waiting === 0) all.resolve()
            return opened
          }),
        ),
      )
      await sleep(SETTLE_MS)
    },
    async allocatedBy(work) {
      await tell('allocations')
      await work()
      return (await tell('allocated')).bytes
    },
    usedBytes: async () => (await tell('memory')).memory.usedBytes,
    close: () => running.disposeAsync(),
  }
}

const count = (text: string, word: string): number => text.split(word).length - 1

function hearing(): { heard: () => void; hearing: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { heard: resolve, hearing: promise }
}
