/** Runs a script that opens a turn until it has all that it needs. */
import { CodedError, type ErrorCode } from '../../protocol/errors.ts'
import type { MessageRecord, OnSave } from '../../protocol/queue.ts'
import type { Archived, LapsedTurn, OpenedTurn } from '../hot-store.ts'
import { notOpened } from '../not-opened.ts'
import type { LoadedSession, SessionWanted } from '../postgres-session-source.ts'
import { type Call, Unreachable } from '../valkey.ts'
import { kept, load } from './loading.ts'
import { type Marked, mark, unmark } from './marks.ts'
import type { Means } from './means.ts'
import { placeKey } from './names.ts'
import { isText, readEntry } from './values.ts'

/** Text of one history, in whole messages; as much as Postgres gives in one response. */
const HISTORY_BYTES = 800_000
/** Loading is tried again where the session changed meanwhile. */
const MAX_ATTEMPTS = 8

export interface Opening extends Marked {
  /** What Postgres is asked for where the script misses something. */
  wanted: Pick<SessionWanted, 'ownedBy' | 'from' | 'named' | 'make' | 'withoutArchived'>
  /** What the client named, for when it is not found. */
  what?: string
  onSave: OnSave
  /** The script, for a history of so many messages; final: what is not here is nowhere. */
  call(count: number, final: boolean): Call
}

type Opener = Pick<Means, 'valkey' | 'source' | 'places' | 'settingsOf' | 'historyMessages'>

/** The newest messages that fit, oldest first. */
function fitHistory(sessionId: string, entries: readonly Buffer[], count: number): MessageRecord[] {
  const history: MessageRecord[] = []
  let bytes = 0
  for (const entry of entries.slice(0, count)) {
    const record = readEntry(sessionId, entry)
    bytes += Buffer.byteLength(record.content)
    if (bytes > HISTORY_BYTES) break
    history.unshift(record)
  }
  return history
}

const refusal = ({ what }: Opening, code: ErrorCode, messageId: string | undefined): CodedError =>
  notOpened({
    code,
    ...(messageId && { message_id: messageId }),
    ...(code === 'invalid_request' && { field: 'parentMessageId' }),
    ...(code === 'not_found' && what !== undefined && { what }),
  })

/** Where it lies is known now, whatever became of what was written beside it. */
function lapsed({ places }: Opener, { tenant, place }: Opening, messageId: string): LapsedTurn {
  places.remember(tenant, messageId, place)
  return { outcome: 'lapsed', messageId }
}

/** Its history is as it stands here, with more than anybody looks at. */
export type OpenedFromHere = OpenedTurn & { history: MessageRecord[] }

/** The turn, as far as the script and what was loaded tell it. */
type Attempted = Omit<OpenedFromHere, 'settings' | 'onSave'>

async function attemptAll(
  means: Opener,
  opening: Opening,
  count: number,
): Promise<Attempted | LapsedTurn | Archived> {
  const { tenant, place, messageId } = opening
  const { sessionId, threadId } = place
  let { from } = opening.wanted
  let loaded: LoadedSession | undefined
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    const calls = [opening.call(count, loaded !== undefined), ...(attempt === 0 ? mark(opening) : [])]
    const [[kind, ...rest]] = (await means.valkey.pipeline(calls)) as [Buffer[]]
    const [first = '', second = ''] = rest.slice(0, 2).map(String)
    if (isText(kind, 'miss')) {
      if (second !== '') from = second
      const wanted = { ...opening.wanted, sessionId, threadId, from, count: kept(count) }
      const result = await load(means, tenant, wanted, first)
      if (result?.outcome === 'lapsed') return lapsed(means, opening, result.messageId)
      if (result?.outcome === 'archived') return result
      if (result?.outcome === 'refused') throw refusal(opening, result.code, result.messageId)
      loaded = result && { ...result, created: result.created || (loaded?.created ?? false) }
      continue
    }
    if (isText(kind, 'late')) throw new CodedError('unavailable', 'The turn was not opened in time.')
    if (isText(kind, 'lapsed')) return lapsed(means, opening, first)
    if (isText(kind, 'refused')) throw refusal(opening, first as ErrorCode, second)
    const [, created, , sequence, at, question, ...entries] = rest
    if (question === undefined) throw new Error('opening returned neither a turn nor a reason')
    const isCreated = isText(created, '1') || (loaded?.created ?? false)
    means.places.writing.set(placeKey(tenant, messageId), place)
    return {
      outcome: 'opened',
      sessionId,
      created: isCreated,
      known: !isCreated && (loaded?.known ?? true),
      epoch: 1,
      question: readEntry(sessionId, question),
      answerSequenceNumber: Number(sequence) + 1,
      openedAt: new Date(Number(at)).toISOString(),
      history: fitHistory(sessionId, entries, count),
    }
  }
  throw new CodedError('unavailable', 'The session is changing too quickly.')
}

/**
 * The turn is opened, with its marks beside it, or nothing is left of the attempt; where Valkey cannot be reached, that is
 * not known. Loads from Postgres what is not here. Throws refusals as the client is told of them.
 */
export async function open(means: Opener, opening: Opening): Promise<OpenedFromHere | LapsedTurn | Archived> {
  const settings = await means.settingsOf(opening.tenant)
  const forget = (): void => {
    means.valkey.pipeline(unmark(opening)).catch(() => undefined)
  }
  try {
    const turn = await attemptAll(means, opening, settings.historyMessages ?? means.historyMessages)
    if (turn.outcome === 'opened') return { ...turn, settings, onSave: opening.onSave }
    forget()
    return turn
  } catch (error) {
    if (!(error instanceof Unreachable)) forget()
    throw error
  }
}
