/** Which queues a command works on. */
import { Failure, UsageError } from '../failures.ts'
import { isOnThisMachine, readLocal, type Variables } from '../local.ts'

export interface Place {
  deadUrl: string
  /** Where dead letters go back to. */
  turnsUrl: string | undefined
  endpoint: string
  /** Absent: the SDK looks for it, as for credentials. */
  region: string | undefined
  credentials: { accessKeyId: string; secretAccessKey: string } | undefined
}

export interface WhereOptions {
  queue?: string | undefined
  source?: string | undefined
  local?: boolean | undefined
}

/**
 * The options first, then the environment, then the Turnkeep that runs on this machine. The two queues always come
 * from one of them: a mixture could send one environment's turns to another.
 */
export function where({ queue, source, local }: WhereOptions, environment: Variables): Place {
  if (local && (queue || source)) throw new UsageError('Either --local or --queue and --source.')
  if (source && !queue) throw new UsageError('--source needs --queue.')
  if (queue) return place(queue, source, environment)
  const { TURNS_DEAD_QUEUE_URL, TURNS_QUEUE_URL } = environment
  if (TURNS_DEAD_QUEUE_URL && !local) return place(TURNS_DEAD_QUEUE_URL, TURNS_QUEUE_URL, environment)
  return localPlace(environment)
}

function place(deadUrl: string, turnsUrl: string | undefined, environment: Variables): Place {
  for (const url of [deadUrl, turnsUrl])
    if (url !== undefined && !/^https?:\/\/[^/]+\/./.test(url))
      throw new UsageError(`${url} is not the URL of a queue.`)
  // Said outright, because the SDK prefers the queue's host to the variable.
  const endpoint = environment.AWS_ENDPOINT_URL_SQS || new URL(deadUrl).origin
  const onThisMachine = isOnThisMachine(endpoint)
  const ofUrl = /^sqs\.([\w-]+)\.amazonaws\./.exec(new URL(deadUrl).hostname)?.[1]
  return {
    deadUrl,
    turnsUrl: turnsUrl || undefined,
    endpoint,
    region: ofUrl ?? (environment.AWS_REGION || (onThisMachine ? 'us-east-1' : undefined)),
    // The local queue takes any, and a developer's own are no business of it.
    credentials: onThisMachine ? { accessKeyId: 'local', secretAccessKey: 'local' } : undefined,
  }
}

function localPlace(environment: Variables): Place {
  const { file, found } = readLocal(environment)
  if (found === undefined)
    throw new Failure(
      `No Turnkeep runs on this machine (there is no ${file}). Start it, or name the queues with --queue and --source.`,
    )
  return place(found.TURNS_DEAD_QUEUE_URL ?? '', found.TURNS_QUEUE_URL, {})
}
