import { randomBytes } from 'node:crypto'
import { join, resolve } from 'node:path'
import { SQSClient } from '@aws-sdk/client-sqs'
import { resources as allResources, type Resources } from '../../lib/resources.ts'
import { FUNCTION_HEADER } from '../function-header.ts'
import { type ScriptedModel, startScriptedModel } from '../model/scripted-model.ts'
import type { Gate } from './calls.ts'
import { startDataApi } from './data-api.ts'
import { createDevIssuer, DEV_TOKENS, type TokenShape } from './dev-issuer.ts'
import { type EventSourceMapping, startEventSourceMapping } from './event-source-mapping.ts'
import { startFrontDoor } from './front-door.ts'
import { type Postgres, startPostgres } from './postgres.ts'
import { type QueueAndBucket, startQueueAndBucket } from './queue-and-bucket.ts'
import { type RuntimeApi, startRuntimeApi } from './runtime-api.ts'
import { type Secrets, startSecrets } from './secrets.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const REGION = 'us-east-1'
const ACCOUNT = '000000000000'
const DATABASE_NAME = 'turnkeep'
/** How long the first start of the functions may take. */
const STARTUP_WAIT_MS = 60_000

export type ModelSettings = { baseUrl: string; apiKey: string; chatModel: string; embeddingModel: string }

export type CloudOptions = {
  /** Where all state lies; absent: in memory. */
  dataDir?: string | undefined
  databaseUrl?: string | undefined
  /** What an embedded database in memory begins with; see postgres.ts. */
  beginWith?: string | undefined
  /** Of a Valkey or Redis, for phase 2; absent: phase 1. */
  valkeyUrl?: string | undefined
  /** Whether the functions' login connects with its password, on a server that nobody else uses; see postgres.ts. */
  realLogins?: boolean | undefined
  /** Of the front door; 0 or absent: a free one. */
  port?: number
  /** Where the built page lies; absent: no page. */
  pageDir?: string | undefined
  /** Absent: a scripted one is started. */
  model?: ModelSettings | undefined
  scriptedModel?: Parameters<typeof startScriptedModel>[0]
  /** For tests with functions of their own. Handlers are relative to the root of the repository. */
  resources?: Resources
  /** Of what kind the tokens are that /dev/token gives; absent: as the functions here expect them. */
  tokens?: TokenShape
  /** Asked about every call that a function makes; absent: all are allowed. */
  gate?: Gate
  log?: (problem: string) => void
}

/** Everything that holds state, and the way in. The functions are another process, or the test itself. */
export type Cloud = {
  /** The front door's. */
  address: string
  /** All that the functions' process needs: what the template would give to the handlers, and where to poll. */
  functionEnvironment: Record<string, string>
  /** What it runs on, to tell people; nothing secret. */
  uses: { database: string; model: string; hotStore: string }
  runtimeApi: RuntimeApi
  postgres: Postgres
  fauxqs: QueueAndBucket
  secrets: Secrets
  /** Absent where a real one was configured. */
  scriptedModel: ScriptedModel | undefined
  /**
   * Waits for the functions, runs those that must succeed first (the migration), then feeds the queue's consumers
   * and opens the front door. Rejects with InvocationError when one fails.
   */
  open(): Promise<void>
  /** New requests are refused and the queues are left alone; what runs goes on. */
  refuse(): void
  /** Ends everything, whatever still runs. */
  close(): Promise<void>
}

export async function startCloud(options: CloudOptions = {}): Promise<Cloud> {
  const {
    dataDir,
    databaseUrl,
    valkeyUrl,
    pageDir,
    resources = allResources,
    log = () => undefined,
  } = options
  await using started = new AsyncDisposableStack() // closes what was started when something fails
  const issuer = await createDevIssuer(dataDir, options.tokens)
  const runtimeApi = await startRuntimeApi(
    Object.fromEntries(
      Object.entries(resources.functions).map(([name, { timeoutSeconds }]) => [
        name,
        { timeoutSeconds, arn: `arn:aws:lambda:${REGION}:${ACCOUNT}:function:${name}` },
      ]),
    ),
  )
  started.defer(runtimeApi.close)
  const frontDoor = await startFrontDoor({
    port: options.port ?? 0,
    resources,
    runtimeApi,
    issuer,
    pageDir,
    // Asked for when a request comes, which is when there are secrets.
    originSecret: () => secrets.valueOf(secretArn(SECRETS.origin)) ?? '',
    log,
  })
  started.defer(frontDoor.close)
  const scriptedModel = options.model ? undefined : await startScriptedModel(options.scriptedModel)
  if (scriptedModel) started.defer(scriptedModel.close)
  const fauxqs = await startQueueAndBucket(resources, dataDir && join(dataDir, 'queue'), options.gate)
  started.defer(fauxqs.stop)
  const postgres = await startPostgres({
    databaseUrl,
    dataDir: dataDir && join(dataDir, 'postgres'),
    beginWith: options.beginWith,
    realLogins: options.realLogins,
  })
  started.defer(postgres.close)
  const model = options.model ?? scriptedSettings(scriptedModel?.url ?? '')
  const secrets = await startSecrets({
    given: {
      // The local Data API is connected as the owner already.
      [SECRETS.owner]: JSON.stringify({ username: postgres.owner, password: '' }),
      [SECRETS.modelKey]: model.apiKey,
    },
    made: {
      [SECRETS.app]: () => JSON.stringify({ username: FIRST_LOGIN, password: newPassword() }),
      [SECRETS.resume]: newPassword,
      [SECRETS.origin]: newPassword,
      [SECRETS.pseudonym]: newPassword,
    },
    rotating: [SECRETS.app],
    file: dataDir && join(dataDir, 'secrets.json'),
    arnOf: secretArn,
    gate: options.gate,
  })
  started.defer(secrets.close)
  const dataApi = await startDataApi({ postgres, secretOf: secrets.valueOf, gate: options.gate })
  started.defer(dataApi.close)

  let mappings: EventSourceMapping[] = []
  let schedules: NodeJS.Timeout[] = []
  const stopMappings = () => {
    for (const schedule of schedules) clearInterval(schedule)
    return Promise.all(mappings.map((mapping) => mapping.stop()))
  }
  const parts = {
    resources,
    runtimeApi,
    fauxqs,
    dataApi,
    secrets,
    model,
    jwksUrl: frontDoor.jwksUrl,
    valkeyUrl,
  }
  const running = started.move()
  return {
    address: frontDoor.address,
    functionEnvironment: environmentOf(parts),
    uses: {
      database: postgres.description,
      hotStore: valkeyUrl ? `Valkey at ${new URL(valkeyUrl).host}` : 'Postgres',
      model: scriptedModel ? 'a scripted one' : `${model.chatModel} at ${new URL(model.baseUrl).host}`,
    },
    runtimeApi,
    postgres,
    fauxqs,
    secrets,
    scriptedModel,
    open: async () => {
      for (const name of resources.startup) await runtimeApi.invoke(name, '{}', { waitMs: STARTUP_WAIT_MS })
      mappings = startMappings(parts, log)
      schedules = startSchedules(parts, log)
      frontDoor.open()
    },
    refuse: () => {
      frontDoor.refuse()
      void stopMappings()
    },
    close: async () => {
      frontDoor.refuse()
      const stopped = stopMappings()
      await runtimeApi.close() // or a batch that is being processed would be waited for
      await stopped
      await running.disposeAsync()
    },
  }
}

type Parts = {
  resources: Resources
  runtimeApi: RuntimeApi
  fauxqs: QueueAndBucket
  dataApi: { url: string }
  secrets: Secrets
  model: ModelSettings
  jwksUrl: string
  valkeyUrl: string | undefined
}

const SECRETS = {
  owner: 'turnkeep-owner',
  app: 'turnkeep-app',
  resume: 'turnkeep-resume',
  origin: 'turnkeep-origin',
  pseudonym: 'turnkeep-pseudonym',
  modelKey: 'turnkeep-model-key',
}
/** As the stack makes the app secret; rotation changes it. */
const FIRST_LOGIN = 'turnkeep_app_1'
const secretArn = (name: string): string => `arn:aws:secretsmanager:${REGION}:${ACCOUNT}:secret:${name}`
const newPassword = (): string => randomBytes(32).toString('base64url')

const credentials = { accessKeyId: 'local', secretAccessKey: 'local' }

function environmentOf({
  resources,
  runtimeApi,
  fauxqs,
  dataApi,
  secrets,
  model,
  jwksUrl,
  valkeyUrl,
}: Parts): Record<string, string> {
  return {
    AWS_REGION: REGION,
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    // A developer's own profile must neither be used nor needed.
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_ENDPOINT_URL_SQS: fauxqs.address,
    AWS_ENDPOINT_URL_S3: fauxqs.address,
    AWS_ENDPOINT_URL_RDS_DATA: dataApi.url,
    AWS_ENDPOINT_URL_SECRETS_MANAGER: secrets.url,
    TURNS_QUEUE_URL: fauxqs.queueUrl('turns'),
    TURNS_DEAD_QUEUE_URL: fauxqs.queueUrl('turns-dead'),
    JOBS_QUEUE_URL: fauxqs.queueUrl('jobs'),
    CONTENT_BUCKET: 'content',
    DATABASE_CLUSTER_ARN: `arn:aws:rds:${REGION}:${ACCOUNT}:cluster:turnkeep`,
    DATABASE_SECRET_ARN: secretArn(SECRETS.app),
    DATABASE_OWNER_SECRET_ARN: secretArn(SECRETS.owner),
    DATABASE_NAME,
    AUTH_ISSUER: DEV_TOKENS.issuer,
    AUTH_AUDIENCE: DEV_TOKENS.audience,
    AUTH_JWKS_URL: jwksUrl,
    RESUME_SECRET_ARN: secretArn(SECRETS.resume),
    ORIGIN_SECRET_ARN: secretArn(SECRETS.origin),
    PSEUDONYM_SECRET_ARN: secretArn(SECRETS.pseudonym),
    OPENAI_BASE_URL: model.baseUrl,
    MODEL_KEY_SECRET_ARN: secretArn(SECRETS.modelKey),
    CHAT_MODEL: model.chatModel,
    EMBEDDING_MODEL: model.embeddingModel,
    ...(valkeyUrl ? { HOT_STORE: 'valkey', VALKEY_URL: valkeyUrl } : {}),
    TURNKEEP_FUNCTIONS: JSON.stringify(
      Object.fromEntries(
        Object.entries(resources.functions).map(([name, { handler }]) => [
          name,
          { handler: resolve(ROOT, handler), runtimeApi: runtimeApi.addresses[name] },
        ]),
      ),
    ),
  }
}

function scriptedSettings(baseUrl: string): ModelSettings {
  return { baseUrl, apiKey: 'scripted', chatModel: 'scripted-chat', embeddingModel: 'scripted-embedding' }
}

/** Each run stands alone: one that fails is tried at its next time, as the stack's schedules are. */
function startSchedules({ resources, runtimeApi }: Parts, log: (problem: string) => void): NodeJS.Timeout[] {
  return resources.schedules.map((schedule) =>
    setInterval(
      () =>
        runtimeApi
          .invoke(schedule.function, '{}')
          .catch((error) => log(`${schedule.function}: ${error.message}`)),
      schedule.everySeconds * 1_000,
    ),
  )
}

function startMappings({ resources, runtimeApi, fauxqs }: Parts, log: (problem: string) => void) {
  return resources.eventSources.map(({ queue, function: functionName, ...rest }) =>
    startEventSourceMapping({
      ...rest,
      sqs: openQueueClient(fauxqs.address, functionName),
      queueUrl: fauxqs.queueUrl(queue),
      queueArn: fauxqs.queueArn(queue),
      region: REGION,
      runtimeApi,
      functionName,
      log,
    }),
  )
}

/** Lambda polls a queue with the role of the function that it feeds. */
function openQueueClient(endpoint: string, functionName: string): SQSClient {
  const sqs = new SQSClient({ region: REGION, endpoint, credentials })
  sqs.middlewareStack.add(
    (next) => (call) => {
      Object.assign((call.request as { headers: object }).headers, { [FUNCTION_HEADER]: functionName })
      return next(call)
    },
    { step: 'build' },
  )
  return sqs
}
