/** Everything buffered: sessions, messages, feedback, health. */
import { deleteMessage, leaveFeedback, listMessages } from '../messages/messages.ts'
import {
  feedbackSchema,
  messageListSchema,
  purgeSchema,
  sessionCreateSchema,
  sessionListSchema,
  sessionPatchSchema,
  uuidSchema,
} from '../protocol.ts'
import { openAuthenticate } from '../runtime/authenticate.ts'
import { authSettings, databaseSettings, readConfig } from '../runtime/config.ts'
import { bufferedHandler, check, publicRoute, routing } from '../runtime/http.ts'
import { openLogger } from '../runtime/logger.ts'
import { openMetrics } from '../runtime/metrics.ts'
import { openBucket } from '../services/bucket.ts'
import { openDatabase } from '../services/database.ts'
import { changeSession, createSession, endSession, getSession, listSessions } from '../sessions/sessions.ts'

const config = readConfig([...authSettings, ...databaseSettings, 'contentBucket', 'metricsNamespace'])
const log = openLogger('api')
const { measure, flush } = openMetrics('api', config)
const route = routing(log)
const authenticate = openAuthenticate(config)
const database = openDatabase({ ...config, measure })
const bucket = openBucket(config.contentBucket)

const pathId = (call: { param(name: string): string }): string => check(uuidSchema, call.param('id'), 'id')

export const handler = bufferedHandler(
  [
    publicRoute('GET /api/health', async () => ({ status: 200, body: { status: 'ok' } })),

    route('POST /api/sessions', { body: sessionCreateSchema }, authenticate, async ({ caller, body }) => ({
      status: 201,
      body: await createSession(database, caller, body),
    })),
    route('GET /api/sessions', { query: sessionListSchema }, authenticate, async ({ caller, query }) => ({
      status: 200,
      body: await listSessions(database, caller, query),
    })),
    route('GET /api/sessions/{id}', {}, authenticate, async (call) => ({
      status: 200,
      body: await getSession(database, call.caller, pathId(call)),
    })),
    route('PATCH /api/sessions/{id}', { body: sessionPatchSchema }, authenticate, async (call) => ({
      status: 200,
      body: await changeSession(database, call.caller, pathId(call), call.body),
    })),
    route('DELETE /api/sessions/{id}', { query: purgeSchema }, authenticate, async (call) => {
      await endSession(database, call.caller, pathId(call), call.query)
      return { status: 204 }
    }),
    route('GET /api/sessions/{id}/messages', { query: messageListSchema }, authenticate, async (call) => ({
      status: 200,
      body: await listMessages({ database, bucket }, call.caller, pathId(call), call.query),
    })),

    route('POST /api/messages/{id}/feedback', { body: feedbackSchema }, authenticate, async (call) => {
      await leaveFeedback(database, call.caller, pathId(call), call.body)
      return { status: 204 }
    }),
    route('DELETE /api/messages/{id}', {}, authenticate, async (call) => {
      await deleteMessage(database, call.caller, pathId(call))
      return { status: 204 }
    }),
  ],
  { log, flush },
)
