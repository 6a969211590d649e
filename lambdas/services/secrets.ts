/** Secrets Manager. Values are used and never logged; an error holds names only. */
import {
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
  UpdateSecretVersionStageCommand,
} from '@aws-sdk/client-secrets-manager'
import { CodedError } from '../protocol/errors.ts'

/** A secret's text, without the line break that a value typed by hand ends with. */
export type ReadSecret = () => Promise<string>

/** How long a value is used that was corrected or rotated since. */
const KEPT_MS = 5 * 60_000
/** How soon it is tried again where a refresh failed: not by every request. */
const RETRY_MS = 10_000
/** An answer takes some tens of milliseconds; a request may be waiting for it. */
const CONNECT_TIMEOUT_MS = 2_000
const REQUEST_TIMEOUT_MS = 3_000

export interface SecretsClientOptions {
  requestTimeoutMs?: number
}

function openClient({ requestTimeoutMs = REQUEST_TIMEOUT_MS }: SecretsClientOptions): SecretsManagerClient {
  return new SecretsManagerClient({
    maxAttempts: 3,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: requestTimeoutMs,
      throwOnRequestTimeout: true, // else it is only warned of
    },
  })
}

/**
 * Reads secrets by the names that they have here. It begins at once, so that a cold start does not wait for it later.
 * A value is kept for five minutes and read again by whoever asks next, once for all who ask; where that fails, the
 * old one is used on. Without an old one: CodedError `unavailable`.
 */
export function openSecrets<Name extends string>(
  arns: Record<Name, string>,
  options: SecretsClientOptions = {},
): Record<Name, ReadSecret> {
  const client = openClient(options)
  const opened = Object.entries<string>(arns).map(([name, arn]) => [name, keep(() => fetchText(client, arn))])
  return Object.fromEntries(opened)
}

function keep(fetch: () => Promise<string>): ReadSecret {
  let value: string | undefined
  let freshUntil = 0
  let fetching: Promise<string> | undefined

  const refresh = async (): Promise<string> => {
    try {
      value = await fetch()
      freshUntil = Date.now() + KEPT_MS
      return value
    } catch (error) {
      if (value === undefined) throw error
      freshUntil = Date.now() + RETRY_MS
      return value
    } finally {
      fetching = undefined
    }
  }
  const read: ReadSecret = async () => {
    if (value !== undefined && Date.now() < freshUntil) return value
    fetching ??= refresh()
    return fetching
  }
  read().catch(() => undefined) // whoever needs it asks again, and is told
  return read
}

async function fetchText(client: SecretsManagerClient, arn: string): Promise<string> {
  const { SecretString } = await client.send(new GetSecretValueCommand({ SecretId: arn })).catch((cause) => {
    throw new CodedError('unavailable', 'A secret of this service cannot be read right now.', { cause })
  })
  return SecretString?.trim() ?? ''
}

export type Stage = 'AWSCURRENT' | 'AWSPENDING'

export interface SecretVersion {
  id: string
  text: string
}

/** One secret with its versions, for those who change it. Nothing is kept, and errors are those of the service. */
export interface VersionedSecret {
  /** `stages`: the labels of each version, by its id. */
  describe(): Promise<{ rotates: boolean; stages: Record<string, string[]> }>
  /** With an id: that version, if it has the label. Undefined: there is none, or it has no value yet. */
  read(stage: Stage, id?: string): Promise<SecretVersion | undefined>
  /** Gives a version its value and the label of the pending one. Again with the same value: nothing; another one: refused. */
  putPending(version: SecretVersion): Promise<void>
  /** Makes `to` the current version; refused unless `from` is. */
  moveCurrent(from: string, to: string): Promise<void>
}

export function openVersionedSecret(arn: string, options: SecretsClientOptions = {}): VersionedSecret {
  const client = openClient(options)
  return {
    async describe() {
      const { RotationEnabled = false, VersionIdsToStages = {} } = await client.send(
        new DescribeSecretCommand({ SecretId: arn }),
      )
      return { rotates: RotationEnabled, stages: VersionIdsToStages }
    },
    async read(stage, id) {
      try {
        const { VersionId = '', SecretString = '' } = await client.send(
          new GetSecretValueCommand({ SecretId: arn, VersionStage: stage, VersionId: id }),
        )
        return { id: VersionId, text: SecretString }
      } catch (error) {
        if ((error as Error).name === 'ResourceNotFoundException') return undefined
        throw error
      }
    },
    async putPending({ id, text }) {
      await client.send(
        new PutSecretValueCommand({
          SecretId: arn,
          ClientRequestToken: id,
          SecretString: text,
          VersionStages: ['AWSPENDING' satisfies Stage],
        }),
      )
    },
    async moveCurrent(from, to) {
      await client.send(
        new UpdateSecretVersionStageCommand({
          SecretId: arn,
          VersionStage: 'AWSCURRENT' satisfies Stage,
          RemoveFromVersionId: from,
          MoveToVersionId: to,
        }),
      )
    },
  }
}
