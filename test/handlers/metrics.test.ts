import { randomUUID } from 'node:crypto'
import { DeleteObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Metric, metricUnits } from '../../lambdas/protocol/metrics.ts'
import type { MessageRecord } from '../../lambdas/protocol/queue.ts'
import type { Script } from '../../local/model/scripted-model.ts'
import { type DrillCloud, startDrillCloud } from '../drills/drill-cloud.ts'
import { passAll, type Service } from '../drills/fault-proxy.ts'
import { type Line, linesOf, metricsOf } from '../harness/emitted-metrics.ts'
import { type NamedMetric, synthesise } from '../harness/observability.ts'
import { record } from '../harness/records.ts'

const NAMESPACE = 'Turnkeep/test'
const QUESTION = 'question-marker-질문'
const ANSWER: Script = { content: ['answer-marker ', '답 ', 'end'], tokenDelayMs: 2 }
const LONG: Script = { content: Array.from({ length: 200 }, () => 'answer-marker '), tokenDelayMs: 20 }

let cloud: DrillCloud
/** What the model does with the next requests, in order; afterwards it answers. */
let scripts: Script[] = []
beforeAll(async () => {
  cloud = await startDrillCloud({
    name: 'metrics',
    scriptedModel: { respond: () => scripts.shift() ?? ANSWER },
    environment: { METRICS_NAMESPACE: NAMESPACE, MODEL_FIRST_TOKEN_MS: '1500', MODEL_SILENCE_MS: '1500' },
  })
})
afterAll(() => cloud.close())

let mark = 0
beforeEach(() => {
  scripts = []
  mark = cloud.output().length
})
afterEach(async () => {
  cloud.proxy.decide = passAll
  await cloud.drained()
})

type Emitter = 'chat' | 'api' | 'persist' | 'maintain' | 'migrate' | 'archive'

/** Lines since the test began. */
const lines = (): Line[] => linesOf(cloud.output().slice(mark))
/** Values that one function has given a metric since the test began. */
const values = (by: Emitter, name: Metric): number[] =>
  metricsOf(lines())
    .filter((metric) => metric.name === name && metric.dimensions.service === `turnkeep-${by}`)
    .flatMap((metric) => metric.values)
const sum = (by: Emitter, name: Metric): number => values(by, name).reduce((total, value) => total + value, 0)
/** The lines that say how an answer ended: one at most. */
const ended = (messageId: string | undefined): Line[] =>
  lines().filter((line) => line.message === 'answer ended' && line.messageId === messageId)

/** A function writes when its invocation ends, which a client does not wait for. */
const eventually = <Value>(read: () => Value) => expect.poll(read, { timeout: 20_000, interval: 50 })

const refuse = (...services: Service[]) => {
  cloud.proxy.decide = ({ service, moment }) =>
    moment === 'before' && services.includes(service) ? { status: 500 } : 'pass'
}
/** No watch ends an answer before somebody else does. */
const blindWatches = () => {
  cloud.proxy.decide = ({ operation, moment }) =>
    moment === 'before' && operation === 'unfinished_turns' ? { status: 500 } : 'pass'
}

/** An event source's batch: one message, which the queue does not know. */
const deliver = async (...records: unknown[]) => {
  const event = {
    Records: [
      {
        messageId: 'm1',
        receiptHandle: 'none',
        body: JSON.stringify({ records }),
        attributes: { SentTimestamp: String(Date.now()) },
      },
    ],
  }
  return JSON.parse(String(await cloud.cloud.runtimeApi.invoke('persist', JSON.stringify(event))))
}
const mine = (changes: Partial<MessageRecord> = {}) => record({ content: QUESTION, ...changes })

/** Asks, and kills the functions in the middle of the answer. */
async function orphan() {
  scripts = [LONG]
  const user = cloud.as({ userId: randomUUID() })
  const reply = await user.ask(QUESTION, {
    onEvent: async ({ id }) => {
      if (id === 8) await cloud.killFunctions()
      return false
    },
  })
  expect(reply.terminal).toBeUndefined()
  return { user, messageId: reply.session?.messageId, sessionId: reply.session?.sessionId }
}

describe('an answer', () => {
  test('is measured from its request’s arrival until it is saved', async () => {
    const user = cloud.as({ userId: 'measured' })
    const first = await user.ask(QUESTION)
    await user.ask({ message: QUESTION, sessionId: first.session?.sessionId })
    await eventually(() => sum('chat', 'AnswersComplete')).toBe(2)
    await eventually(() => sum('persist', 'RecordsSaved')).toBe(4)

    const [toToken, ofModel, toEnd] = [
      values('chat', 'TimeToFirstToken'),
      values('chat', 'ModelTimeToFirstToken'),
      values('chat', 'AnswerTime'),
    ] as [number[], number[], number[]]
    for (const times of [toToken, ofModel, toEnd]) expect(times).toHaveLength(2)
    for (const index of [0, 1]) {
      expect(ofModel[index]).toBeGreaterThan(0)
      expect(toToken[index]).toBeGreaterThan((ofModel[index] ?? 0) - 1)
      expect(toEnd[index]).toBeGreaterThanOrEqual(toToken[index] ?? 0)
    }
    expect(values('chat', 'KnownSession')).toEqual([0, 1])
    expect(values('chat', 'SessionLookupTime')).toHaveLength(2)
    expect(values('chat', 'LogAppendTime').length).toBeGreaterThanOrEqual(2)
    expect(values('chat', 'DataApiTime').length).toBeGreaterThan(values('chat', 'LogAppendTime').length)
    const lags = values('persist', 'SaveLag')
    expect(lags).toHaveLength(4)
    for (const lag of lags) expect(lag).toBeLessThan(20_000)

    await eventually(() => ended(first.session?.messageId)).toEqual([
      expect.objectContaining({
        service: 'turnkeep-chat',
        companyId: 'acme',
        platform: 'web',
        sessionId: first.session?.sessionId,
        outcome: 'stop',
        model: 'scripted-chat',
        promptTokens: expect.any(Number),
        completionTokens: 3,
        ms: expect.any(Number),
      }),
    ])
  })

  test('leaves its users counted, once in five minutes', () => {
    mark = 0 // by the first save of all
    expect(values('persist', 'ActiveUsers')).toEqual([1])
    expect(values('persist', 'MonthlyUsers')).toEqual([1])
  })

  test('is one of many in a process, and each value leaves once', async () => {
    await Promise.all(Array.from({ length: 20 }, (_, n) => cloud.as({ userId: `crowd ${n}` }).ask(QUESTION)))
    await eventually(() => sum('chat', 'AnswersComplete')).toBe(20)
    for (const name of ['TimeToFirstToken', 'AnswerTime', 'KnownSession', 'SessionLookupTime'] as const)
      expect([name, values('chat', name).length]).toEqual([name, 20])
    await eventually(() => sum('persist', 'RecordsSaved')).toBe(40)
  })

  test('that somebody stops is counted as stopped', async () => {
    scripts = [LONG]
    const user = cloud.as({ userId: 'stopper' })
    const reply = await user.ask(QUESTION, {
      onEvent: async ({ id }, soFar) => {
        const [first] = soFar
        if (id === 8 && first?.event.type === 'session')
          await user.call('DELETE', `/api/chat/stream/${first.event.messageId}`)
        return false
      },
    })
    expect(reply.terminal).toMatchObject({ finishReason: 'stopped' })
    await eventually(() => values('chat', 'AnswersStopped')).toEqual([1])
    expect(values('chat', 'AnswersComplete')).toEqual([])
    expect(ended(reply.session?.messageId)).toMatchObject([{ outcome: 'stopped' }])
  })

  test('that the model breaks off is counted as interrupted', async () => {
    scripts = [{ ...ANSWER, tokenDelayMs: 20, cutAfter: 2 }]
    const reply = await cloud.as({ userId: 'cut' }).ask(QUESTION)
    await eventually(() => values('chat', 'AnswersInterrupted')).toEqual([1])
    expect(values('chat', 'TimeToFirstToken')).toHaveLength(1)
    expect(ended(reply.session?.messageId)).toMatchObject([{ outcome: 'interrupted' }])
  })

  test('that the model never begins is counted as failed, and has no first token', async () => {
    scripts = [{ error: { status: 401, message: QUESTION } }]
    const reply = await cloud.as({ userId: 'refused' }).ask(QUESTION)
    await eventually(() => values('chat', 'AnswersFailed')).toEqual([1])
    expect(values('chat', 'TimeToFirstToken')).toEqual([])
    expect(values('chat', 'ModelTimeToFirstToken')).toEqual([])
    expect(values('chat', 'AnswerTime')).toHaveLength(1)
    expect(ended(reply.session?.messageId)).toMatchObject([{ outcome: 'model_unavailable' }])
  })
})

describe('an answer whose writer is killed is counted once, as interrupted', () => {
  const endedBy = async (by: Emitter, messageId: string | undefined) => {
    await eventually(() => values(by, 'AnswersInterrupted')).toEqual([1])
    expect(values(by, 'TurnRescued')).toEqual([1])
    expect(ended(messageId)).toMatchObject([
      { service: `turnkeep-${by}`, companyId: 'acme', platform: 'web', outcome: 'interrupted' },
    ])
    for (const other of ['chat', 'persist', 'maintain'] as const)
      if (other !== by) expect([other, values(other, 'AnswersInterrupted')]).toEqual([other, []])
  }

  test('by its watch', async () => {
    const { messageId } = await orphan()
    await endedBy('persist', messageId)
  })

  test('by a reader', async () => {
    blindWatches()
    const { user, messageId } = await orphan()
    await user.stream('GET', `/api/chat/stream/${messageId}`)
    await endedBy('chat', messageId)
  })

  test('by maintain', async () => {
    blindWatches()
    const { messageId } = await orphan()
    await eventually(() =>
      cloud.rows(`select 1 from chat_turns where message_id = '${messageId}' and lease_until < now()`),
    ).toHaveLength(1)
    // It looks at the database only when it has found something else to do.
    const spooled = [{ tenant: { companyId: 'acme', platform: 'web' }, body: { records: [mine()] } }]
    await s3().send(
      new PutObjectCommand({ Bucket: 'content', Key: 'spool/one.json', Body: JSON.stringify(spooled) }),
    )
    await cloud.cloud.runtimeApi.invoke('maintain', '{}')
    await endedBy('maintain', messageId)
    expect(values('maintain', 'DataApiTime').length).toBeGreaterThan(0)
  })
})

const s3 = () =>
  new S3Client({
    region: 'us-east-1',
    endpoint: cloud.cloud.fauxqs.address,
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
  })

describe('a turn', () => {
  test('that the queue refuses is counted as spooled, question and answer', async () => {
    refuse('queue')
    const reply = await cloud.as({ userId: 'spooled' }).ask(QUESTION)
    expect(reply.terminal?.type).toBe('done')
    await eventually(() => sum('chat', 'AnswersComplete')).toBe(1)
    expect(values('chat', 'TurnSpooled')).toEqual([1, 1])
    cloud.proxy.decide = passAll
    await cloud.cloud.runtimeApi.invoke('maintain', '{}')
    await eventually(() => sum('persist', 'RecordsSaved')).toBe(2)
  })

  test('that neither takes is counted as not saved, and not again when it is brought in after all', async () => {
    const user = cloud.as({ userId: 'unlucky' })
    refuse('queue', 'bucket')
    const reply = await user.ask(QUESTION)
    expect(reply.terminal).toMatchObject({ code: 'not_saved' })
    await eventually(() => values('chat', 'AnswersFailed')).toEqual([1])
    expect(values('chat', 'TurnNotSaved')).toEqual([1])
    cloud.proxy.decide = passAll
    const { sessionId, messageId } = reply.session ?? {}
    await eventually(async () => (await user.ask({ message: QUESTION, sessionId })).terminal?.type).toBe(
      'done',
    )
    await eventually(() => sum('chat', 'AnswersComplete')).toBe(1)
    expect(sum('chat', 'TurnRescued')).toBe(1)
    expect(ended(messageId)).toMatchObject([{ outcome: 'not_saved' }])
  })

  test('with a record that can never be saved is counted, and its batch mates are', async () => {
    expect(await deliver({ ...mine(), sequence_number: 0 })).toEqual({ batchItemFailures: [] })
    expect(await deliver(mine(), mine())).toEqual({ batchItemFailures: [] })
    await eventually(() => values('persist', 'RecordDeadLettered')).toEqual([1])
    await eventually(() => sum('persist', 'RecordsSaved')).toBe(2)
  })
})

describe('a question with a watched word', () => {
  test('is counted once, however its characters are composed, and not again for another answer to it', async () => {
    const user = cloud.as({ userId: 'worried' })
    const reply = await user.ask(`${QUESTION}: 로그인에서 오류가 납니다`.normalize('NFD'))
    await user.ask({ message: `${QUESTION}: 고마워요`, sessionId: reply.session?.sessionId })
    await user.stream('POST', `/api/messages/${reply.session?.messageId}/regenerate`)
    await eventually(() => sum('chat', 'AnswersComplete')).toBe(3)
    expect(values('chat', 'WatchedWord')).toEqual([1])
  })
})

describe('while the database is away', () => {
  test('the save lag grows with each delivery that fails, and nothing counts as saved', async () => {
    const old = mine({ created_at: new Date(Date.now() - 400_000).toISOString() })
    refuse('database')
    expect(await deliver(old)).toMatchObject({ batchItemFailures: [{}] })
    expect(await deliver(old)).toMatchObject({ batchItemFailures: [{}] })
    await eventually(() => values('persist', 'SaveLag').length).toBe(2)
    const [before = 0, after = 0] = values('persist', 'SaveLag')
    expect(before).toBeGreaterThanOrEqual(400_000)
    expect(after).toBeGreaterThan(before)
    expect(values('persist', 'RecordsSaved')).toEqual([])
    expect(sum('persist', 'DataApiErrors')).toBeGreaterThanOrEqual(2) // watches look too
  })

  test('a long answer’s lag begins when it was written, not when it was asked for', async () => {
    const asked = new Date(Date.now() - 400_000).toISOString()
    await deliver(mine({ role: 'assistant', created_at: asked, response_time_ms: 399_000 }))
    await eventually(() => values('persist', 'SaveLag').length).toBe(1)
    expect(values('persist', 'SaveLag')[0]).toBeLessThan(30_000)
  })

  test('calls that fail are counted where they are made, and are no latency', async () => {
    refuse('database')
    const user = cloud.as({ userId: 'early' })
    expect((await user.ask(QUESTION)).status).toBe(503)
    expect((await user.call('GET', '/api/sessions')).status).toBe(503)
    await eventually(() => sum('chat', 'DataApiErrors')).toBe(1)
    await eventually(() => sum('api', 'DataApiErrors')).toBe(1)
    expect(values('api', 'DataApiTime')).toEqual([])
    cloud.proxy.decide = passAll
    expect((await user.call('GET', '/api/sessions')).status).toBe(200)
    await eventually(() => values('api', 'DataApiTime').length).toBe(1)
  })

  test('an answer goes on without its log, and is counted when its turn is ended there', async () => {
    scripts = [LONG]
    const user = cloud.as({ userId: 'caught' })
    const reply = await user.ask(QUESTION, {
      onEvent: ({ id }) => {
        if (id === 8) refuse('database')
        return false
      },
    })
    expect(reply.terminal?.type).toBe('done')
    await eventually(() => values('chat', 'AnswerTime').length).toBe(1)
    expect(sum('chat', 'ReplyLogUnreachable')).toBeGreaterThan(0)
    expect(values('chat', 'AnswersComplete')).toEqual([])
    cloud.proxy.decide = passAll
    await eventually(() => ended(reply.session?.messageId)).toMatchObject([
      { service: 'turnkeep-persist', outcome: 'stop', companyId: 'acme' },
    ])
    await eventually(() => values('persist', 'AnswersComplete')).toEqual([1])
  })
})

describe('the archiver', () => {
  const MONTHS_AGO = new Date(Date.now() - 40 * 24 * 3600_000).toISOString()
  const run = () => cloud.cloud.runtimeApi.invoke('archive', '{}')

  test('measures what has left, what cannot leave, what is left, and its time', async () => {
    const tenant = { company_id: 'archived', created_at: MONTHS_AGO }
    const lost = mine({ ...tenant, content: '', content_key: 'content/lost' })
    await deliver(mine(tenant), mine(tenant), lost)
    await run()
    await eventually(() => values('archive', 'RowsArchived')).toEqual([2])
    expect(sum('archive', 'BytesArchived')).toBeGreaterThan(100)
    expect(sum('archive', 'RowUnfitForArchive')).toBe(1)
    expect(sum('archive', 'ArchiveFailed')).toBe(1)
    expect(values('archive', 'OldestMessageAge')[0]).toBeGreaterThan(39 * 24 * 3600)
    // It was due after 30 days.
    expect(values('archive', 'OldestMessageOverdue')[0]).toBeGreaterThan(9 * 24 * 3600)
    expect(values('archive', 'OldestMessageOverdue')[0]).toBeLessThan(11 * 24 * 3600)
    expect(values('archive', 'ArchiveTimeLeft')[0]).toBeGreaterThan(600)
    expect(values('archive', 'ArchiveTimeLeft')[0]).toBeLessThan(840)
  })

  test('is counted where what it has written cannot be read any more, by whoever needed it', async () => {
    const question = mine({ company_id: 'unreadable', created_at: MONTHS_AGO })
    const { session_id: sessionId, id, company_id: companyId } = question
    const other = mine({ company_id: 'unreadable', created_at: MONTHS_AGO })
    await deliver(other, question, {
      ...mine(question),
      id: randomUUID(),
      role: 'assistant',
      sequence_number: 2,
      parent_message_id: id,
    })
    await run()
    await eventually(() => sum('archive', 'RowsArchived')).toBe(3)
    const [segment] = await cloud.rows<{ object_key: string }>('select object_key from archive_segments', {
      companyId,
      platform: 'web',
    })
    await s3().send(new PutObjectCommand({ Bucket: 'content', Key: segment?.object_key, Body: 'altered' }))
    const user = cloud.as({ companyId, userId: question.user_id })
    expect((await user.call('GET', `/api/sessions/${sessionId}/messages`)).status).toBe(503)
    expect((await user.ask({ message: QUESTION, sessionId })).terminal?.type).toBe('done')
    // Whoever meets it counts it for the archive.
    const unreadable = () => sum('archive', 'ArchiveUnreadable')
    await eventually(unreadable).toBe(2)
    // Retention, since another conversation stands beside one whose time has come, and an export, which is tried again later.
    const tenant = { companyId, platform: 'web' }
    await cloud.rows(
      `update chat_sessions set deleted_at = now() - interval '40 days' where id = '${other.session_id}'`,
      tenant,
    )
    await s3().send(new DeleteObjectCommand({ Bucket: 'content', Key: 'archive/next-run.json' }))
    await run()
    await eventually(unreadable).toBe(3)
    expect((await user.call('POST', `/api/users/${question.user_id}/export`)).status).toBe(202)
    await eventually(() => unreadable() > 3).toBe(true)
  })

  test('counts a tenant whose messages it could not archive', async () => {
    await deliver(mine({ company_id: 'stuck', created_at: MONTHS_AGO }))
    const before = sum('archive', 'ArchiveFailed')
    cloud.proxy.decide = ({ service, operation, moment, text }) =>
      service === 'bucket' && operation === 'PUT archive' && moment === 'before' && text.includes('stuck')
        ? { status: 500 }
        : 'pass'
    await expect(run()).rejects.toThrow()
    await eventually(() => sum('archive', 'ArchiveFailed')).toBe(before + 1)
  })
})

/** Last, about all that the journeys above have emitted. */
describe('what was emitted', () => {
  const everything = (): Line[] => linesOf(cloud.output())
  const nameOf = ({ name, dimensions }: NamedMetric): string => `${name} ${JSON.stringify(dimensions)}`

  test('has the namespace, the one dimension and the units that it should have', () => {
    for (const metric of metricsOf(everything())) {
      expect(metric.namespace).toBe(NAMESPACE)
      expect(Object.keys(metric.dimensions)).toEqual(['service'])
      expect([metric.name, metric.unit]).toEqual([metric.name, metricUnits[metric.name as Metric]])
      expect(metric.values.length).toBeLessThanOrEqual(100)
      for (const value of metric.values) expect(value).toBeGreaterThanOrEqual(0)
    }
  })

  /** phase-two.test.ts makes happen what these count. */
  const OF_PHASE_TWO = ['BudgetsUnchecked', 'CacheUnreachable', 'IdempotencyUnchecked']

  test('is every metric that there is, in phase 1', () => {
    const emitted = new Set(metricsOf(everything()).map(({ name }) => name))
    expect(Object.keys(metricUnits).filter((name) => !emitted.has(name))).toEqual(OF_PHASE_TWO)
  })

  test('is every metric of ours that an alarm or a widget names', () => {
    const emitted = new Set(metricsOf(everything()).map(nameOf))
    const named = synthesise('prod', {}, NAMESPACE).metrics.filter(({ namespace }) => namespace === NAMESPACE)
    expect(named.length).toBeGreaterThan(30)
    expect(named.map(nameOf).filter((name) => !emitted.has(name))).toEqual([])
  })

  test('is every field that the tables by tenant read', () => {
    const line = everything().find(({ message }) => message === 'answer ended')
    const queries = synthesise('prod').widgets.flatMap(({ properties }) => properties.query ?? [])
    expect(queries).toHaveLength(2)
    for (const query of queries) {
      const words = new Set(
        String(query)
          .replaceAll(/'[^']*'|"[^"]*"|\bas \w+/g, '')
          .match(/[a-z]\w*/gi),
      )
      for (const known of KEYWORDS) words.delete(known)
      expect([...words].filter((word) => !(word in (line ?? {})))).toEqual([])
    }
  })

  test('holds no word of a question or of an answer', () => {
    expect(cloud.output()).not.toMatch(/marker|질문|오류|답 /)
  })
})

/** Of CloudWatch's query language, and what a query has named itself. */
const KEYWORDS = ['SOURCE', 'filter', 'stats', 'count', 'sum', 'by', 'sort', 'usd', 'desc', 'limit']
