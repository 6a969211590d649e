/**
 * A stand-in for Secrets Manager: the unmodified client talks to it. It has the actions that the functions use, with
 * their errors, and the labels move as they do there. It does not look at signatures and encrypts nothing.
 * https://docs.aws.amazon.com/secretsmanager/latest/apireference/
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname } from 'node:path'
import { denial, type Gate, type Need, refused } from './calls.ts'

export interface SecretsOptions {
  /** Known from elsewhere and put in at each start; never written to the file. */
  given?: Record<string, string>
  /** Made where the file does not have them yet. */
  made?: Record<string, () => string>
  /** Names of the made ones whose rotation is switched on. */
  rotating?: string[]
  /** Keeps the made ones; absent: they are gone with the process. */
  file?: string | undefined
  arnOf(name: string): string
  gate?: Gate | undefined
}

export interface Secrets {
  url: string
  /** The current value, as the local Data API looks it up; by ARN. */
  valueOf(arn: string): string | undefined
  /**
   * What Secrets Manager does before it invokes the first step of a rotation: a new version without a value gets the
   * label of the pending one. Returns its id.
   */
  beginRotation(arn: string): string
  close(): Promise<void>
}

/** `value` is absent where a rotation has begun and its first step not ended. */
type Version = { value?: string; stages: string[]; createdAt: number }
type Secret = { versions: Record<string, Version>; rotates: boolean; isGiven: boolean }
type State = Map<string, Secret>

const CURRENT = 'AWSCURRENT'
const PENDING = 'AWSPENDING'
const PREVIOUS = 'AWSPREVIOUS'
/** Longer than the SDK keeps an idle socket, so that no request meets one that is being closed. */
const KEEP_ALIVE_MS = 120_000
const MAX_VALUE_BYTES = 65_536

type Refusal =
  | 'AccessDeniedException'
  | 'InvalidParameterException'
  | 'InvalidRequestException'
  | 'ResourceExistsException'
  | 'ResourceNotFoundException'
  | 'UnknownOperationException'

class SecretsError extends Error {
  constructor(name: Refusal, message: string) {
    super(message)
    this.name = name
  }
}

export async function startSecrets(options: SecretsOptions): Promise<Secrets> {
  const { file, gate } = options
  const secrets = openState(options)
  const save = () => file && writeState(file, secrets)
  save()
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, async (request, response) => {
    try {
      const action = /^secretsmanager\.(\w+)$/.exec(String(request.headers['x-amz-target']))?.[1] ?? ''
      if (!Object.hasOwn(actions, action))
        throw new SecretsError('UnknownOperationException', `${action} is not here`)
      const call = await readCall(request)
      const arn = arnOf(secrets, call.SecretId ?? '')
      const need = gate && refused(gate, request.headers, () => [needOf(action, arn, call)])
      if (need) throw new SecretsError('AccessDeniedException', denial(need))
      const secret = secrets.get(arn)
      if (!secret)
        throw new SecretsError(
          'ResourceNotFoundException',
          "Secrets Manager can't find the specified secret.",
        )
      const answer = actions[action as keyof typeof actions](secret, call)
      save()
      send(response, 200, { ARN: arn, Name: nameOf(arn), ...answer })
    } catch (error) {
      sendError(response, error)
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    valueOf: (arn) => labelled(secrets.get(arn), CURRENT)?.[1].value,
    beginRotation(arn) {
      const secret = secrets.get(arn)
      if (!secret) throw new Error(`There is no secret ${arn}.`)
      const id = randomUUID()
      secret.versions[id] = { stages: [], createdAt: Date.now() }
      moveLabel(secret, PENDING, id)
      save()
      return id
    },
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

function openState({ given = {}, made = {}, rotating = [], file, arnOf }: SecretsOptions): State {
  const kept = file ? readState(file) : {}
  const state: State = new Map()
  for (const [name, make] of Object.entries(made)) {
    const versions = kept[name] ?? firstVersion(make())
    state.set(arnOf(name), { versions, rotates: rotating.includes(name), isGiven: false })
  }
  for (const [name, value] of Object.entries(given))
    state.set(arnOf(name), { versions: firstVersion(value), rotates: false, isGiven: true })
  return state
}

const firstVersion = (value: string): Record<string, Version> => ({
  [randomUUID()]: { value, stages: [CURRENT], createdAt: Date.now() },
})

function readState(file: string): Record<string, Record<string, Version>> {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw new Error(`${file} cannot be read; remove it to get new secrets.`, { cause: error })
  }
}

/** Whole or not at all, and for nobody else to read. */
function writeState(file: string, secrets: State): void {
  const kept = [...secrets].filter(([, { isGiven }]) => !isGiven)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(
    `${file}.new`,
    JSON.stringify(Object.fromEntries(kept.map(([arn, { versions }]) => [nameOf(arn), versions]))),
    { mode: 0o600 },
  )
  renameSync(`${file}.new`, file)
}

const nameOf = (arn: string): string => arn.slice(arn.lastIndexOf(':') + 1)
/** A secret may be called by its name. */
const arnOf = (secrets: State, id: string): string =>
  [...secrets.keys()].find((arn) => arn === id || nameOf(arn) === id) ?? id

type Call = {
  SecretId?: string
  VersionId?: string
  VersionStage?: string
  ClientRequestToken?: string
  SecretString?: string
  VersionStages?: string[]
  RemoveFromVersionId?: string
  MoveToVersionId?: string
}

const needOf = (action: string, resource: string, { VersionStage }: Call): Need => ({
  action: `secretsmanager:${action}`,
  resource,
  conditions: VersionStage ? { 'secretsmanager:VersionStage': VersionStage } : {},
})

const actions = {
  GetSecretValue(
    secret: Secret,
    { VersionId, VersionStage = VersionId ? undefined : CURRENT }: Call,
  ): object {
    const [id = '', version] = VersionId
      ? [VersionId, secret.versions[VersionId]]
      : (labelled(secret, VersionStage) ?? [])
    if (version && VersionStage && !version.stages.includes(VersionStage))
      throw new SecretsError(
        'InvalidRequestException',
        'You provided a VersionStage that is not associated to the provided VersionId.',
      )
    if (version?.value === undefined)
      throw new SecretsError(
        'ResourceNotFoundException',
        `Secrets Manager can't find the specified secret value for ${VersionStage ? `staging label: ${VersionStage}` : `VersionId: ${VersionId}`}`,
      )
    return {
      VersionId: id,
      SecretString: version.value,
      VersionStages: version.stages,
      CreatedDate: seconds(version),
    }
  },

  DescribeSecret: ({ versions, rotates }: Secret): object => ({
    RotationEnabled: rotates,
    VersionIdsToStages: Object.fromEntries(Object.entries(versions).map(([id, { stages }]) => [id, stages])),
  }),

  PutSecretValue(secret: Secret, call: Call): object {
    const { ClientRequestToken: id = randomUUID(), SecretString: value, VersionStages = [CURRENT] } = call
    if (!value) throw new SecretsError('InvalidParameterException', 'You must provide the SecretString.')
    if (Buffer.byteLength(value) > MAX_VALUE_BYTES)
      throw new SecretsError('InvalidParameterException', 'The secret value is too long.')
    const known = secret.versions[id]
    if (known?.value !== undefined && known.value !== value)
      throw new SecretsError(
        'ResourceExistsException',
        `You can't use ClientRequestToken ${id} because that value is already in use for a version of this secret.`,
      )
    secret.versions[id] = { ...(known ?? { stages: [], createdAt: Date.now() }), value }
    for (const stage of VersionStages) moveLabel(secret, stage, id)
    return { VersionId: id, VersionStages: secret.versions[id].stages }
  },

  UpdateSecretVersionStage(secret: Secret, call: Call): object {
    const { VersionStage: stage, RemoveFromVersionId: from, MoveToVersionId: to } = call
    if (!stage) throw new SecretsError('InvalidParameterException', 'You must provide the VersionStage.')
    const holder = labelled(secret, stage)?.[0]
    if (holder !== from)
      throw new SecretsError(
        'InvalidParameterException',
        `The parameter RemoveFromVersionId can't be ${from ?? 'empty'}. Staging label ${stage} is currently attached to version ${holder}, so you must explicitly reference that version in RemoveFromVersionId.`,
      )
    if (to && !secret.versions[to])
      throw new SecretsError(
        'ResourceNotFoundException',
        `Secrets Manager can't find the specified secret version ${to}.`,
      )
    moveLabel(secret, stage, to)
    return {}
  },
}

const seconds = ({ createdAt }: Version): number => createdAt / 1_000

const labelled = (secret: Secret | undefined, stage: string | undefined): [string, Version] | undefined =>
  Object.entries(secret?.versions ?? {}).find(([, { stages }]) => stages.some((one) => one === stage))

/** A label is on one version at most; what was current is then the previous one; what has no label is gone. */
function moveLabel(secret: Secret, stage: string, to: string | undefined): void {
  const holder = labelled(secret, stage)?.[0]
  if (holder === to) return
  for (const version of Object.values(secret.versions))
    version.stages = version.stages.filter((one) => one !== stage)
  if (to) secret.versions[to]?.stages.push(stage)
  if (stage === CURRENT && holder) moveLabel(secret, PREVIOUS, holder)
  for (const [id, { stages }] of Object.entries(secret.versions))
    if (stages.length === 0 && id !== to) delete secret.versions[id]
}

async function readCall(request: IncomingMessage): Promise<Call> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch {
    throw new SecretsError('InvalidRequestException', 'The request body is not JSON')
  }
}

function sendError(response: ServerResponse, error: unknown): void {
  if (response.destroyed) return
  const isExpected = error instanceof SecretsError
  if (!isExpected) console.error('The local Secrets Manager failed', error)
  send(
    response,
    isExpected ? 400 : 500,
    isExpected
      ? { __type: error.name, message: error.message }
      : { __type: 'InternalServiceError', message: 'Internal error' },
  )
}

function send(response: ServerResponse, status: number, body: object): void {
  const json = Buffer.from(JSON.stringify(body))
  response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1', 'content-length': json.length })
  response.end(json)
}
