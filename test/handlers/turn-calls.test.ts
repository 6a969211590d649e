/** What one turn of a conversation that is under way asks of Postgres and of Valkey: each call is named, so none creeps in. */
import type { IncomingMessage } from 'node:http'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FUNCTION_HEADER } from '../../local/function-header.ts'
import { type DrillCloud, inProxiedPhases, startDrillCloud } from '../drills/drill-cloud.ts'
import { passAll } from '../drills/fault-proxy.ts'
import type { Reply } from '../harness/client.ts'

describe('a turn in a session that is in use', () => {
  inProxiedPhases((phase) => {
    const inValkey = phase.redis !== undefined
    let cloud: DrillCloud
    beforeAll(async () => {
      cloud = await startDrillCloud({
        name: 'turn_calls',
        phase,
        scriptedModel: { tokenDelayMs: 1 },
        // Whatever can be checked is.
        environment: { LEASE_SECONDS: '15', RATE_LIMIT_USER: '1000', TOKENS_TENANT_MONTH: '100000000' },
      })
    })
    afterAll(() => cloud.close())

    /** What chat asked of Postgres, and whoever asked it, of Valkey, each once, while this was done. */
    async function callsDuring(
      work: () => Promise<unknown>,
    ): Promise<{ database: string[]; cache: string[] }> {
      const database: string[] = []
      const cache: string[] = []
      cloud.proxy.decide = ({ service, moment, operation, call }) => {
        if (moment !== 'before') return 'pass'
        if (service === 'cache') cache.push(operation)
        if (service === 'database' && (call as IncomingMessage).headers[FUNCTION_HEADER] === 'chat')
          database.push(operation)
        return 'pass'
      }
      await work()
      cloud.proxy.decide = passAll
      return { database: [...new Set(database)].sort(), cache: [...new Set(cache)].sort() }
    }

    async function ask(user: string, sessionId: string | undefined): Promise<Reply> {
      const headers = { 'idempotency-key': uuidv7() }
      const reply = await cloud
        .as({ userId: user })
        .ask({ message: '그 다음은?', ...(sessionId && { sessionId }) }, { headers })
      expect(reply.terminal?.type).toBe('done')
      return reply
    }

    test(`asks Postgres ${inValkey ? 'nothing' : 'to open it, to log it and to end it'}`, async () => {
      const first = await ask('u1', undefined)
      const sessionId = first.session?.sessionId
      await ask('u1', sessionId)
      await cloud.drained()
      const { database, cache } = await callsDuring(() => ask('u1', sessionId))
      if (inValkey) {
        // A tenant's settings are looked up again every ten seconds, and not waited for.
        expect(database.filter((operation) => operation !== 'get_tenant')).toEqual([])
        expect(cache).toEqual(
          expect.arrayContaining(['admit', 'claim', 'reserve', 'open', 'close', 'settle', 'finish']),
        )
      } else {
        expect(database).toEqual(['append_events', 'close_turn', 'finish_turn', 'open_within_limits'])
        expect(cache).toEqual([])
      }
    })

    test('made again asks no more', async () => {
      const first = await ask('u2', undefined)
      await ask('u2', first.session?.sessionId)
      await cloud.drained()
      const again = () =>
        cloud.as({ userId: 'u2' }).stream('POST', `/api/messages/${first.session?.messageId}/regenerate`)
      const { database } = await callsDuring(again)
      expect(database.filter((operation) => operation !== 'get_tenant')).toEqual(
        inValkey ? [] : ['append_events', 'close_turn', 'finish_turn', 'open_within_limits'],
      )
    })
  })
})
