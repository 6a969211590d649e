/**
 * Everything buffered: sessions, messages, feedback, a tenant's settings, the audit log, usage, the rights of users,
 * health.
 */
import { deleteMessage, leaveFeedback, listMessages } from '../messages/messages.ts'
import { saveEarly } from '../messages/save.ts'
import { purgeSchema, userIdSchema, uuidSchema } from '../protocol/addresses.ts'
import { auditListSchema } from '../protocol/audit.ts'
import type { Caller } from '../protocol/callers.ts'
import { invalidField } from '../protocol/errors.ts'
import { feedbackSchema, messageListSchema } from '../protocol/messages.ts'
import { sessionCreateSchema, sessionListSchema, sessionPatchSchema } from '../protocol/sessions.ts'
import { type TenantAnswer, tenantPatchSchema, versionSchema } from '../protocol/tenants.ts'
import { usageQuerySchema } from '../protocol/usage.ts'
import { readErasure, readExport, readUser, requestErasure, requestExport } from '../rights/user-jobs.ts'
import { MAX_BELIEVED_TOKENS, openAuthenticate } from '../runtime/authenticate.ts'
import {
  authSettings,
  databaseSettings,
  hotStoreSettings,
  limitSettings,
  readConfig,
  tenantDefaultSettings,
} from '../runtime/config.ts'
import { type Answer, bufferedHandler, check, publicRoute, routing } from '../runtime/http.ts'
import { openRequestLimits } from '../runtime/limits.ts'
import { openLogger } from '../runtime/logger.ts'
import { openMetrics } from '../runtime/metrics.ts'
import { boundedMap } from '../services/bounded-map.ts'
import { openBucket } from '../services/bucket.ts'
import { IMPATIENT, openDatabase } from '../services/database.ts'
import { openHotStore } from '../services/open-hot-store.ts'
import { openPostgresLimiter } from '../services/postgres-limiter.ts'
import { openSecrets } from '../services/secrets.ts'
import { openJobQueue } from '../services/turn-queue.ts'
import { asReturned } from '../sessions/returning.ts'
import { changeSession, createSession, endSession, getSession, listSessions } from '../sessions/sessions.ts'
import { listAudit } from '../tenants/audit.ts'
import { boundsOf, defaultsOf } from '../tenants/settings.ts'
import { changeTenant, getTenant } from '../tenants/tenants.ts'
import { readUsage } from '../usage/usage.ts'

const config = readConfig([
  ...authSettings,
  ...databaseSettings,
  ...hotStoreSettings,
  ...limitSettings,
  ...tenantDefaultSettings,
  'contentBucket',
  'jobsQueueUrl',
  'metricsNamespace',
  'pseudonymSecretArn',
])
const log = openLogger('api')
const { count, measure, flush } = openMetrics('api', config)
const secrets = openSecrets({ origin: config.originSecretArn, pseudonymKey: config.pseudonymSecretArn })
const database = openDatabase({ ...config, measure })
const { hotStore, limiter = openPostgresLimiter(openDatabase({ ...config, ...IMPATIENT })) } =
  await openHotStore(config, { database, save: saveEarly(database), count, measure })
const requestLimits = openRequestLimits({
  ...config,
  limiter,
  originSecret: secrets.origin,
  count,
  log,
})
const route = routing(log, requestLimits)
const authenticate = openAuthenticate(config, boundedMap(MAX_BELIEVED_TOKENS))
const messages = { database, bucket: openBucket(config.contentBucket), count }
const rights = {
  ...messages,
  jobs: openJobQueue(config.jobsQueueUrl),
  pseudonymKey: secrets.pseudonymKey,
}
const defaults = defaultsOf(config)

/** For what names a session or a message. */
const ofReturned = ({ caller }: { caller: Caller }, work: () => Promise<Answer>): Promise<Answer> =>
  asReturned(rights, caller, work)

type PathCall = { caller: Caller; param(name: string): string }
const pathId = (call: PathCall): string => check(uuidSchema, call.param('id'), 'id')

// What stands in the hot store alone comes to Postgres before Postgres is asked.
const sessionId = async (call: PathCall): Promise<string> => {
  const id = pathId(call)
  await hotStore.settle(call.caller, { sessionId: id })
  return id
}
const messageId = async (call: PathCall): Promise<string> => {
  const id = pathId(call)
  await hotStore.settle(call.caller, { messageId: id })
  return id
}

/** In an address it is encoded, since it may be any text. */
function userId(call: PathCall): string {
  try {
    return check(userIdSchema, decodeURIComponent(call.param('id')), 'id')
  } catch (error) {
    if (error instanceof URIError) throw invalidField('id', 'must be encoded')
    throw error
  }
}

const tenantAnswer = (body: TenantAnswer): Answer => ({
  status: 200,
  headers: { etag: `"${body.version}"` },
  body,
})

export const handler = bufferedHandler(
  [
    publicRoute('GET /api/health', async () => ({ status: 200, body: { status: 'ok' } })),

    route('POST /api/sessions', { body: sessionCreateSchema }, authenticate, async ({ caller, body }) => ({
      status: 201,
      body: await createSession(database, caller, body),
    })),
    route('GET /api/sessions', { query: sessionListSchema }, authenticate, async ({ caller, query }) => ({
      status: 200,
      body: await listSessions(rights, caller, query),
    })),
    route('GET /api/sessions/{id}', {}, authenticate, (call) =>
      ofReturned(call, async () => ({
        status: 200,
        body: await getSession(database, call.caller, await sessionId(call)),
      })),
    ),
    route('PATCH /api/sessions/{id}', { body: sessionPatchSchema }, authenticate, (call) =>
      ofReturned(call, async () => ({
        status: 200,
        body: await changeSession(database, call.caller, await sessionId(call), call.body),
      })),
    ),
    route('DELETE /api/sessions/{id}', { query: purgeSchema }, authenticate, (call) =>
      ofReturned(call, async () => {
        const id = await sessionId(call)
        await endSession(database, call.caller, id, call.query)
        await hotStore.sessionEnded(call.caller, id, call.query)
        return { status: 204 }
      }),
    ),
    route('GET /api/sessions/{id}/messages', { query: messageListSchema }, authenticate, (call) =>
      ofReturned(call, async () => ({
        status: 200,
        body: await listMessages(messages, call.caller, await sessionId(call), call.query),
      })),
    ),

    route('POST /api/messages/{id}/feedback', { body: feedbackSchema }, authenticate, (call) =>
      ofReturned(call, async () => {
        await leaveFeedback(messages, call.caller, await messageId(call), call.body)
        return { status: 204 }
      }),
    ),
    route('DELETE /api/messages/{id}', {}, authenticate, (call) =>
      ofReturned(call, async () => {
        const id = await messageId(call)
        await deleteMessage(messages, call.caller, id)
        await hotStore.messageDeleted(call.caller, id)
        return { status: 204 }
      }),
    ),

    route('GET /api/tenant', { only: 'admin' }, authenticate, async ({ caller }) =>
      tenantAnswer(await getTenant(database, defaults, caller)),
    ),
    route(
      'PATCH /api/tenant',
      { only: 'admin', body: tenantPatchSchema(boundsOf(defaults)) },
      authenticate,
      async (call) => {
        const ifMatch = call.header('if-match')
        const version = ifMatch === undefined ? undefined : check(versionSchema, ifMatch, 'If-Match')
        const changed = await changeTenant(database, defaults, call.caller, call.body, version)
        await hotStore.tenantChanged(call.caller, changed.own)
        return tenantAnswer(changed)
      },
    ),
    route(
      'GET /api/audit',
      { only: 'admin', query: auditListSchema },
      authenticate,
      async ({ caller, query }) => ({ status: 200, body: await listAudit(rights, caller, query) }),
    ),
    route('GET /api/usage', { query: usageQuerySchema }, authenticate, async ({ caller, query }) => ({
      status: 200,
      body: await readUsage(database, caller, query),
    })),

    // For a page that does not know whom its token names.
    route('GET /api/user', {}, authenticate, async ({ caller }) => ({
      status: 200,
      body: await readUser(rights, caller, caller.userId),
    })),
    route('GET /api/users/{id}', {}, authenticate, async (call) => ({
      status: 200,
      body: await readUser(rights, call.caller, userId(call)),
    })),
    route('POST /api/users/{id}/export', {}, authenticate, async (call) => ({
      status: 202,
      body: await requestExport(rights, call.caller, userId(call)),
    })),
    route('GET /api/exports/{id}', {}, authenticate, async (call) => ({
      status: 200,
      body: await readExport(rights, call.caller, pathId(call)),
    })),
    route('DELETE /api/users/{id}', {}, authenticate, async (call) => ({
      status: 202,
      body: await requestErasure(rights, call.caller, userId(call)),
    })),
    route('GET /api/erasures/{id}', {}, authenticate, async (call) => ({
      status: 200,
      body: await readErasure(database, call.caller, pathId(call)),
    })),
  ],
  { log, flush },
)
