/**
 * The hot store of phase 2: Valkey, one round trip an operation. It knows the sessions that are in use; of one that it
 * does not know it asks Postgres, the source. Nothing that was promised stands here alone: the queue has it, too, since
 * a cache may forget. A turn that it has forgotten is `unavailable` to its writer, who goes on without the log.
 * Values: valkey-records.ts. Scripts: valkey-scripts/.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Actor,
  CodedError,
  type Count,
  type ErrorCode,
  type MessageRecord,
  type OnSave,
  type OwnSettings,
  type ReplyEvent,
  type Tenant,
} from '../protocol.ts'
import type {
  ClaimedTurn,
  EventBatch,
  HotStore,
  LapsedTurn,
  OpenedTurn,
  RegenerateRequest,
  TurnLease,
  TurnRequest,
  WatchedTurn,
} from './hot-store.ts'
import { refuse } from './postgres-hot-store.ts'
import type { Claim, LoadedSession, SessionSource, SessionWanted } from './postgres-session-source.ts'
import { type Argument, type Call, type Reply, Unreachable, type Valkey } from './valkey.ts'
import {
  claimKey,
  keysOf,
  type Place,
  pack,
  packBody,
  placeKey,
  RUNNING_SHARDS,
  readEntry,
  readPlace,
  runningKey,
  settingsKey,
  shardOf,
  skipOf,
  unpack,
  writeEntry,
  writePlace,
} from './valkey-records.ts'
import * as keyScripts from './valkey-scripts/keys.ts'
import * as sessionScripts from './valkey-scripts/sessions.ts'
import * as turnScripts from './valkey-scripts/turns.ts'

/** Bytes of a log, as they are stored, that one page may have. */
const PAGE_BYTES = 262_144
/** Text of one history, in whole messages; as much as Postgres gives in one response. */
const HISTORY_BYTES = 400_000
/** Fewest messages that are kept of a thread, so that branches near its end are here, too. */
const LEAST_KEPT = 20
/** As long as a turn that nobody ends: the queue's 14 days and one. */
const KEPT_MS = 15 * 86_400_000
const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000
/** Loading is tried again where the session changed meanwhile. */
const MAX_ATTEMPTS = 8

/** Whoever has claimed a key opens its turn within this, or not at all. */
const OPEN_WITHIN_MS = 5_000
/** After this a claim without a turn is nobody's. */
const CLAIM_ABANDONED_MS = 10_000
/** A claim is looked at again while its turn is being opened. */
const CLAIM_LOOK_MS = 25
const CLAIM_PATIENCE_MS = 2_000
/** Postgres may sleep; a key that it could not be asked about in time is taken for new. */
const KEY_PATIENCE_MS = 1_000

const SETTINGS_FRESH_MS = 10_000
const SETTINGS_PATIENCE_MS = 1_000
/** What an instance remembers of where messages lie, and of settings. */
const REMEMBERED = 10_000
/** Running turns of one shard that a sweep looks at, the oldest first. */
const SWEPT = 1_000
/** The place of a turn is written beside the turn, so for a moment there may be one without the other. */
const SETTLED_MS = 60_000

export interface ValkeyHotStoreOptions {
  leaseSeconds: number
  historyMessages: number
  count?: Count
}

/** A turn that runs here while others of its thread are opened elsewhere. */
export interface LeftTurn {
  messageId: string
  questionId: string
  leaseLeftMs: number
}

export interface ValkeyHotStore extends HotStore {
  /** The turn that a request's key names here, if it names one. Claims nothing. */
  findClaim(request: TurnRequest): Promise<ClaimedTurn | undefined>
  /**
   * Before a turn of this thread is opened elsewhere: settles the session, and forgets what would be old afterwards.
   * Returns the turns of the thread that run here.
   */
  leave(tenant: Tenant, of: Place | { messageId: string }): Promise<LeftTurn[]>
  /** As `unfinished`, with those that are not known here. */
  look(
    watched: readonly WatchedTurn[],
  ): Promise<{ unfinished: (WatchedTurn & { lapsesInSeconds: number })[]; unknown: WatchedTurn[] }>
}

const within = <Result>(ms: number, work: Promise<Result>): Promise<Result> =>
  Promise.race([
    work,
    sleep(ms, undefined, { ref: false }).then(() => {
      throw new CodedError('unavailable', 'The database takes too long to answer.')
    }),
  ])

/** A map that forgets what was put into it first. */
function bounded<Value>() {
  const values = new Map<string, Value>()
  return {
    get: (key: string) => values.get(key),
    has: (key: string) => values.has(key),
    delete: (key: string) => values.delete(key),
    set: (key: string, value: Value) => {
      values.delete(key)
      values.set(key, value)
      const [oldest] = values.keys()
      if (values.size > REMEMBERED && oldest !== undefined) values.delete(oldest)
    },
  }
}

const owned = (ownedBy: string | null): string => (ownedBy === null ? '-' : `=${encodeURIComponent(ownedBy)}`)
const isText = (reply: Reply | undefined, text: string): boolean => String(reply) === text

const toArgs = (batches: readonly EventBatch[]): Argument[] =>
  batches
    .filter(({ events }) => events.length > 0)
    .flatMap(({ first, events }) => [first, events.length, pack(events)])

/**
 * Whether a key may have been used before the day that the cache remembers. A UUID of version 7, as the page makes them,
 * says when it was made; any other may be of any age.
 */
function mayBeOld(key: string): boolean {
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i.test(key)) return true
  const age = Date.now() - Number.parseInt(key.slice(0, 8) + key.slice(9, 13), 16)
  // A clock that is wrong by hours does not count.
  return age < -HOUR_MS || age > DAY_MS - HOUR_MS
}

/** Users may act on their own only; what others do in their sessions is recorded. */
const auditOf = (asker: Actor | undefined, action: string): Pick<OnSave, 'audit'> =>
  asker === undefined || asker.role === 'user'
    ? {}
    : { audit: { user_id: asker.userId, role: asker.role, action } }

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

const columnsOf = (message: MessageRecord): MessageRecord => ({
  company_id: message.company_id,
  platform: message.platform,
  id: message.id,
  session_id: message.session_id,
  thread_id: message.thread_id,
  role: message.role,
  content: message.content,
  content_key: message.content_key,
  status: message.status,
  token_count: message.token_count,
  response_time_ms: message.response_time_ms,
  model: message.model,
  sources: message.sources,
  metadata: message.metadata,
  parent_message_id: message.parent_message_id,
  sequence_number: message.sequence_number,
  created_at: message.created_at,
  user_id: message.user_id,
})

interface Opening {
  tenant: Tenant
  place: Place
  messageId: string
  ownedBy: string | null
  make: SessionWanted['make']
  /** The message that must be here. */
  from: string | null
  named: boolean
  count: number
  /** What the client is told where it is refused for what it named. */
  refusal: { field?: string; what?: string }
  run(final: boolean): Call
  /** Written beside the first try. */
  beside: Call[]
}

export function openValkeyHotStore(
  valkey: Valkey,
  source: SessionSource,
  { leaseSeconds, historyMessages, count: countMetric = () => undefined }: ValkeyHotStoreOptions,
): ValkeyHotStore {
  const leaseMs = Math.round(leaseSeconds * 1_000)
  const places = bounded<Place>()
  const settings = bounded<{ own: OwnSettings; at: number }>()
  /** Turns that this instance writes. Of these it knows that they were there. */
  const writing = bounded<Place>()

  // ------------------------------------------------------------ places

  const remember = (tenant: Tenant, messageId: string, place: Place): void =>
    places.set(placeKey(tenant, messageId), place)

  async function placeOf(tenant: Tenant, messageId: string): Promise<Place | undefined> {
    const key = placeKey(tenant, messageId)
    const known = writing.get(key) ?? places.get(key)
    if (known) return known
    const text = await valkey.command<string | null>('GET', key)
    if (text === null) return undefined
    const place = readPlace(text)
    places.set(key, place)
    return place
  }

  const vanished = (): CodedError => new CodedError('unavailable', 'The cache has forgotten this turn.')

  /** Runs a script about a turn whose lease is held. Undefined: there is no such turn, and there never was. */
  async function write(lease: TurnLease, call: (place: Place) => Call): Promise<Reply | undefined> {
    const key = placeKey(lease.tenant, lease.messageId)
    const place = await placeOf(lease.tenant, lease.messageId)
    const [reply] = place ? await valkey.pipeline([call(place)]) : ['unknown']
    if (isText(reply, 'lost')) writing.delete(key)
    if (!isText(reply, 'unknown')) return reply
    if (writing.has(key)) throw vanished()
    return undefined
  }

  // ------------------------------------------------------------ settings

  async function refreshSettings(tenant: Tenant): Promise<OwnSettings> {
    const own = await source.settings(tenant)
    settings.set(settingsKey(tenant), { own, at: Date.now() })
    await valkey.command('SET', settingsKey(tenant), [pack(own), 'PX', DAY_MS]).catch(() => undefined)
    return own
  }

  /** As of a few seconds ago; older ones where Postgres cannot be reached, and none where nobody knows any. */
  async function settingsOf(tenant: Tenant): Promise<OwnSettings> {
    const known = settings.get(settingsKey(tenant))
    if (known && Date.now() - known.at < SETTINGS_FRESH_MS) return known.own
    const kept =
      known?.own ??
      (await valkey
        .command<Buffer | null>('GET', settingsKey(tenant), [], { bytes: true })
        .then((bytes) => (bytes === null ? undefined : unpack<OwnSettings>(bytes))))
    const refreshed = refreshSettings(tenant)
    refreshed.catch(() => undefined)
    if (kept) {
      // Asked once, and not by every request, while Postgres does not answer.
      settings.set(settingsKey(tenant), { own: kept, at: Date.now() })
      return kept
    }
    const own = await within(SETTINGS_PATIENCE_MS, refreshed).catch(() => ({}))
    settings.set(settingsKey(tenant), { own, at: Date.now() })
    return own
  }

  // ------------------------------------------------------------ loading

  async function unsavedOf(tenant: Tenant, place: Place): Promise<MessageRecord[]> {
    const all = await valkey.command<Buffer[]>('HGETALL', keysOf(tenant, place).unsaved, [], { bytes: true })
    return all.flatMap((bytes, index) => (index % 2 === 1 ? [readEntry(place.sessionId, bytes)] : []))
  }

  async function settle(tenant: Tenant, place: Place): Promise<void> {
    const records = await unsavedOf(tenant, place)
    if (records.length === 0) return
    await source.save(records)
    await valkey.command(
      'HDEL',
      keysOf(tenant, place).unsaved,
      records.map(({ id }) => id),
    )
  }

  const kept = (count: number): number => Math.max(2 * count, LEAST_KEPT)

  /** Undefined: the session has changed meanwhile. */
  async function load(
    { tenant, place, ownedBy, make, named, count, refusal }: Opening,
    from: string | null,
    version: string,
  ): Promise<LoadedSession | LapsedTurn | undefined> {
    await settle(tenant, place)
    const loaded = await source.load(tenant, {
      ...place,
      ownedBy,
      from,
      named,
      make,
      count: kept(count),
    })
    if (loaded.outcome === 'lapsed') return loaded
    if (loaded.outcome === 'refused')
      throw refuse({
        code: loaded.code,
        ...(loaded.messageId ? { message_id: loaded.messageId } : {}),
        ...(loaded.code === 'invalid_request' || loaded.code === 'not_found'
          ? refusalFor(loaded.code, refusal)
          : {}),
      })
    const { session, history, order } = keysOf(tenant, place)
    const messages = [...new Map(loaded.messages.map((message) => [message.id, message])).values()]
    messages.sort((a, b) => a.sequence_number - b.sequence_number)
    const entries = messages.flatMap((message) => [
      message.id,
      writeEntry(columnsOf(message), message.is_deleted ? 2 : skipOf(message)),
    ])
    const newest = loaded.newest ? `${loaded.newest.id} ${loaded.newest.at}` : '-'
    const user = encodeURIComponent(loaded.userId)
    const args = [version, user, loaded.messageCount, newest, kept(count) * 2, ...entries]
    const done = await valkey.run(sessionScripts.put, [session, history, order], args)
    return done === 1 ? loaded : undefined
  }

  const refusalFor = (
    code: ErrorCode,
    { field, what }: Opening['refusal'],
  ): { field?: string; what?: string } => {
    if (code === 'invalid_request') return { field: field ?? 'parentMessageId' }
    return what === undefined ? {} : { what }
  }

  interface Opened {
    outcome: 'opened'
    userId: string
    created: boolean
    known: boolean
    /** The question's. */
    sequence: number
    at: number
    question: MessageRecord
    entries: Buffer[]
  }

  /** Runs a script that opens, and loads what it misses. */
  async function open(opening: Opening): Promise<Opened | LapsedTurn> {
    const { tenant, place, messageId, refusal } = opening
    let loaded: LoadedSession | undefined
    let from = opening.from
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      const calls = [opening.run(loaded !== undefined), ...(attempt === 0 ? opening.beside : [])]
      const [reply] = (await valkey.pipeline(calls)) as [Buffer[]]
      const [kind, ...rest] = reply
      const words = rest.slice(0, 2).map(String)
      if (isText(kind, 'miss')) {
        const [version = '0', missing = ''] = words
        if (missing !== '') from = missing
        const result = await load(opening, from, version)
        if (result?.outcome === 'lapsed') return lapsed(tenant, place, result.messageId)
        loaded = result && { ...result, created: result.created || (loaded?.created ?? false) }
        continue
      }
      if (isText(kind, 'late')) throw new CodedError('unavailable', 'The turn was not opened in time.')
      if (isText(kind, 'lapsed')) return lapsed(tenant, place, words[0] ?? '')
      if (isText(kind, 'refused')) {
        const code = words[0] as ErrorCode
        throw refuse({
          code,
          ...(words[1] ? { message_id: words[1] } : {}),
          ...refusalFor(code, code === 'invalid_request' || code === 'not_found' ? refusal : {}),
        })
      }
      const [user, created, , sequence, at, question, ...entries] = rest
      if (question === undefined) throw new Error('opening returned neither a turn nor a reason')
      const isCreated = isText(created, '1') || (loaded?.created ?? false)
      writing.set(placeKey(tenant, messageId), place)
      return {
        outcome: 'opened',
        userId: decodeURIComponent(String(user)),
        created: isCreated,
        known: !isCreated && (loaded?.known ?? true),
        sequence: Number(sequence),
        at: Number(at),
        question: readEntry(place.sessionId, question),
        entries,
      }
    }
    throw new CodedError('unavailable', 'The session is changing too quickly.')
  }

  /** Where it lies is known now, whatever became of what was written beside it. */
  function lapsed(tenant: Tenant, place: Place, messageId: string): LapsedTurn {
    remember(tenant, messageId, place)
    return { outcome: 'lapsed', messageId }
  }

  /** How a turn is found by its id, and by those who look after all of them. */
  const marks = (tenant: Tenant, place: Place, messageId: string, questionId: string | undefined): Call[] => [
    ...[messageId, ...(questionId ? [questionId] : [])].map((id) => ({
      command: 'SET',
      key: placeKey(tenant, id),
      args: [writePlace(place), 'PX', KEPT_MS],
    })),
    {
      command: 'ZADD',
      key: runningKey(shardOf(messageId)),
      args: [Date.now(), memberOf(tenant, place, messageId)],
    },
  ]
  const memberOf = ({ companyId, platform }: Tenant, { sessionId, threadId }: Place, messageId: string) =>
    JSON.stringify([companyId, platform, sessionId, threadId, messageId])

  /** Of a turn that was not opened. It only saves room. */
  const unmark = (tenant: Tenant, place: Place, messageId: string, questionId: string | undefined): void => {
    valkey
      .pipeline([
        { command: 'UNLINK', key: placeKey(tenant, messageId) },
        ...(questionId ? [{ command: 'UNLINK', key: placeKey(tenant, questionId) }] : []),
        unlist(tenant, place, messageId),
      ])
      .catch(() => undefined)
  }
  const unlist = (tenant: Tenant, place: Place, messageId: string): Call => ({
    command: 'ZREM',
    key: runningKey(shardOf(messageId)),
    args: [memberOf(tenant, place, messageId)],
  })

  // ------------------------------------------------------------ idempotency keys

  const toClaimed = (claim: Claim, bodyHash: string): ClaimedTurn => ({
    outcome: 'claimed',
    bodyMatches: claim.bodyHash === bodyHash,
    sessionId: claim.sessionId,
    userMessageId: claim.userMessageId,
    messageId: claim.messageId,
  })

  /** Whether the turn of somebody's claim was opened. */
  async function isOpen(tenant: Tenant, { sessionId, messageId }: Claim): Promise<boolean> {
    const { turn } = keysOf(tenant, { sessionId, threadId: '' })
    return (await valkey.command('EXISTS', turn(messageId))) === 1
  }

  async function olderClaim(tenant: Tenant, caller: string, key: string): Promise<Claim | undefined> {
    return mayBeOld(key) ? savedClaim(tenant, caller, key) : undefined
  }

  async function savedClaim(tenant: Tenant, caller: string, key: string): Promise<Claim | undefined> {
    try {
      return await within(KEY_PATIENCE_MS, source.findClaim(tenant, caller, key))
    } catch {
      // A retry comes within a day, and of that the cache knows. Without Postgres the chat goes on.
      countMetric('IdempotencyUnchecked')
      return undefined
    }
  }

  /** The claim that stands, or ours and the server's time by which its turn must be open. */
  async function claim(
    request: TurnRequest,
    { caller, key, bodyHash }: NonNullable<TurnRequest['idempotency']>,
  ): Promise<ClaimedTurn | { text: string; deadline: number }> {
    const { tenant } = request
    const name = claimKey(tenant, caller, key)
    const mine: Claim = {
      bodyHash,
      sessionId: request.sessionId,
      userMessageId: request.question.id,
      messageId: request.messageId,
    }
    const text = JSON.stringify(mine)
    const givenUpAt = Date.now() + CLAIM_PATIENCE_MS
    while (Date.now() < givenUpAt) {
      const [standing, age, now] = await valkey.run<[string, number, string]>(
        keyScripts.claim,
        [name],
        [text],
      )
      if (standing === text) {
        const older = await olderClaim(tenant, caller, key)
        if (older === undefined) return { text, deadline: Number(now) + OPEN_WITHIN_MS }
        await valkey.run(keyScripts.release, [name], [text])
        return toClaimed(older, bodyHash)
      }
      const other: Claim = JSON.parse(standing)
      if (await isOpen(tenant, other)) return toClaimed(other, bodyHash)
      if (age > CLAIM_ABANDONED_MS) {
        // The cache may have forgotten the turn, and not the claim.
        const older = await savedClaim(tenant, caller, key)
        if (older) return toClaimed(older, bodyHash)
        await valkey.run(keyScripts.release, [name], [standing])
      } else await sleep(CLAIM_LOOK_MS)
    }
    throw new CodedError('unavailable', 'The turn that this Idempotency-Key names is being opened.')
  }

  // ------------------------------------------------------------ opening

  async function openQuestion(request: TurnRequest, deadline: number): Promise<OpenedTurn | LapsedTurn> {
    const { tenant, sessionId, threadId, messageId, owner, channel, title, parentMessageId } = request
    const place = { sessionId, threadId }
    const keys = keysOf(tenant, place)
    const own = await settingsOf(tenant)
    const count = own.historyMessages ?? historyMessages
    const onSave: OnSave = { count: true }
    const question = {
      ...request.question,
      on_save: {
        ...onSave,
        title,
        ...(channel !== null && { channel }),
        ...(request.idempotency && {
          claim: {
            caller: request.idempotency.caller,
            key: request.idempotency.key,
            body_hash: request.idempotency.bodyHash,
            message_id: messageId,
          },
        }),
        ...auditOf(request.asker, 'question.asked'),
      },
    }
    const wanted =
      parentMessageId === undefined ? 'newest' : parentMessageId === null ? '-' : `=${parentMessageId}`
    const forget = (): void => unmark(tenant, place, messageId, question.id)
    try {
      const turn = await open({
        tenant,
        place,
        messageId,
        ownedBy: request.ownedBy,
        make: { owner, channel, title },
        from: parentMessageId ?? null,
        named: parentMessageId !== undefined,
        count,
        refusal: { field: 'parentMessageId' },
        beside: marks(tenant, place, messageId, question.id),
        run: (final) => ({
          script: turnScripts.open,
          keys: [keys.session, keys.history, keys.order, keys.running, keys.unsaved, keys.turn(messageId)],
          args: [
            messageId,
            question.id,
            owned(request.ownedBy),
            wanted,
            leaseMs,
            count,
            kept(count),
            deadline,
            request.sessionIsNew ? encodeURIComponent(owner) : '',
            final ? '1' : '0',
            skipOf(question),
            packBody(question),
            JSON.stringify(onSave),
          ],
          bytes: true,
        }),
      })
      if (turn.outcome === 'lapsed') {
        forget()
        return turn
      }
      if (turn.created && request.sessionIsNew) makeRow(request)
      return toOpened(sessionId, turn, own, count, onSave)
    } catch (error) {
      if (!(error instanceof Unreachable)) forget()
      throw error
    }
  }

  /** Beside the answer, so that the session can be read at once. Where that fails, saving makes it. */
  function makeRow({ tenant, sessionId, threadId, owner, channel, title }: TurnRequest): void {
    const make = { owner, channel, title }
    source
      .load(tenant, { sessionId, threadId, ownedBy: null, from: null, named: false, make, count: 0 })
      .catch(() => undefined)
  }

  const toOpened = (
    sessionId: string,
    turn: Opened,
    own: OwnSettings,
    count: number,
    onSave: OnSave,
  ): OpenedTurn => ({
    outcome: 'opened',
    sessionId,
    created: turn.created,
    known: turn.known,
    epoch: 1,
    question: turn.question,
    answerSequenceNumber: turn.sequence + 1,
    openedAt: new Date(turn.at).toISOString(),
    settings: own,
    history: fitHistory(sessionId, turn.entries, count),
    onSave,
  })

  async function placeOfTarget(tenant: Tenant, target: string): Promise<Place> {
    const known = await placeOf(tenant, target)
    if (known) return known
    const message = await source.findMessage(tenant, target)
    if (message === undefined) throw refuse({ code: 'not_found', what: 'message' })
    return { sessionId: message.session_id, threadId: message.thread_id }
  }

  async function reopen({
    tenant,
    ownedBy,
    asker,
    target,
    messageId,
  }: RegenerateRequest): Promise<OpenedTurn | LapsedTurn> {
    const place = await placeOfTarget(tenant, target)
    const keys = keysOf(tenant, place)
    const own = await settingsOf(tenant)
    const count = own.historyMessages ?? historyMessages
    const onSave: OnSave = { count: true, ...auditOf(asker, 'answer.regenerated') }
    const forget = (): void => unmark(tenant, place, messageId, undefined)
    try {
      const turn = await open({
        tenant,
        place,
        messageId,
        ownedBy,
        make: undefined,
        from: target,
        named: true,
        count,
        refusal: { what: 'message' },
        beside: marks(tenant, place, messageId, undefined),
        run: (final) => ({
          script: turnScripts.reopen,
          keys: [keys.session, keys.history, keys.order, keys.running, keys.turn(messageId)],
          args: [
            messageId,
            target,
            owned(ownedBy),
            leaseMs,
            count,
            final ? '1' : '0',
            JSON.stringify(onSave),
          ],
          bytes: true,
        }),
      })
      if (turn.outcome === 'lapsed') {
        forget()
        return turn
      }
      return toOpened(place.sessionId, turn, own, count, onSave)
    } catch (error) {
      if (!(error instanceof Unreachable)) forget()
      throw error
    }
  }

  // ------------------------------------------------------------ looking

  async function look(watched: readonly WatchedTurn[]) {
    const found = await Promise.all(watched.map((turn) => placeOf(turn, turn.messageId)))
    const known = watched.flatMap((turn, index) => {
      const place = found[index]
      return place ? [{ turn, place }] : []
    })
    const replies = await valkey.pipeline(
      known.map(({ turn, place }): Call => {
        const { turn: key, running } = keysOf(turn, place)
        return {
          script: turnScripts.look,
          keys: [key(turn.messageId), running],
          args: [turn.messageId, '-', '0'],
        }
      }),
    )
    const unknown = watched.filter((_, index) => found[index] === undefined)
    const unfinished: (WatchedTurn & { lapsesInSeconds: number })[] = []
    for (const [index, { turn }] of known.entries()) {
      const [state, left] = replies[index] as [string?, string?]
      if (state === undefined) unknown.push(turn)
      else if (state !== 'f') {
        const { companyId, platform, messageId } = turn
        unfinished.push({ companyId, platform, messageId, lapsesInSeconds: Number(left) / 1_000 })
      }
    }
    return { unfinished, unknown }
  }

  interface Listed extends WatchedTurn {
    place: Place
    since: number
  }

  async function listed(shard: number): Promise<Listed[]> {
    const flat = await valkey.command<string[]>('ZRANGE', runningKey(shard), [0, SWEPT - 1, 'WITHSCORES'])
    return flat.flatMap((member, index) => {
      if (index % 2 === 1) return []
      const [companyId, platform, sessionId, threadId, messageId] = JSON.parse(member)
      return [
        { companyId, platform, messageId, place: { sessionId, threadId }, since: Number(flat[index + 1]) },
      ]
    })
  }

  async function sweep(shard: number): Promise<WatchedTurn[]> {
    const all = await listed(shard)
    for (const turn of all) remember(turn, turn.messageId, turn.place)
    const { unfinished, unknown } = await look(all)
    const running = new Map(unfinished.map((turn) => [placeKey(turn, turn.messageId), turn.lapsesInSeconds]))
    const strangers = new Set(unknown.map((turn) => placeKey(turn, turn.messageId)))
    const over = all.filter((turn) => {
      const key = placeKey(turn, turn.messageId)
      return !running.has(key) && (!strangers.has(key) || Date.now() - turn.since > SETTLED_MS)
    })
    await valkey.pipeline(over.map((turn) => unlist(turn, turn.place, turn.messageId)))
    return all.filter((turn) => (running.get(placeKey(turn, turn.messageId)) ?? 1) <= 0)
  }

  return {
    leaseSeconds,
    paceMs: 0,

    async openTurn(request) {
      if (request.idempotency === undefined) return openQuestion(request, 0)
      const claimed = await claim(request, request.idempotency)
      if ('outcome' in claimed) return claimed
      const { caller, key } = request.idempotency
      const release = () =>
        valkey
          .run(keyScripts.release, [claimKey(request.tenant, caller, key)], [claimed.text])
          .catch(() => undefined)
      try {
        const turn = await openQuestion(request, claimed.deadline)
        if (turn.outcome === 'lapsed') await release()
        return turn
      } catch (error) {
        // Where it is not known whether the turn was opened, the turn itself will tell.
        if (!(error instanceof Unreachable && error.mayHaveRun)) await release()
        throw error
      }
    },

    async findClaim({ tenant, idempotency }) {
      if (idempotency === undefined) return undefined
      const { caller, key, bodyHash } = idempotency
      const text = await valkey.command<string | null>('GET', claimKey(tenant, caller, key))
      if (text === null) return undefined
      const standing: Claim = JSON.parse(text)
      return (await isOpen(tenant, standing)) ? toClaimed(standing, bodyHash) : undefined
    },

    async leave(tenant, of) {
      const place = 'messageId' in of ? await placeOf(tenant, of.messageId) : of
      if (place === undefined) return []
      const { session, history, order, running } = keysOf(tenant, place)
      await settle(tenant, place)
      const flat = await valkey.run<string[]>(sessionScripts.leave, [session, history, order, running])
      return flat.flatMap((messageId, index): LeftTurn[] => {
        if (index % 3 !== 0) return []
        remember(tenant, messageId, place)
        return [{ messageId, leaseLeftMs: Number(flat[index + 1]), questionId: String(flat[index + 2]) }]
      })
    },

    reopenTurn: reopen,

    async append(lease, batches) {
      const reply = await write(lease, (place) => {
        const { turn, running, log } = keysOf(lease.tenant, place)
        return {
          script: turnScripts.append,
          keys: [turn(lease.messageId), running, log(lease.messageId)],
          args: [lease.messageId, lease.epoch, leaseMs, ...toArgs(batches)],
        }
      })
      return { held: reply === 'held' || reply === 'stop', stopRequested: reply === 'stop' }
    },

    async close(lease, batches, answer) {
      const reply = await write(lease, (place) => {
        const { turn, running, log, session } = keysOf(lease.tenant, place)
        return {
          script: turnScripts.close,
          keys: [turn(lease.messageId), running, log(lease.messageId), session],
          args: [lease.messageId, lease.epoch, leaseMs, writeEntry(answer), ...toArgs(batches)],
        }
      })
      return reply === undefined || reply === 'lost' ? undefined : Number(reply)
    },

    async finish(lease, terminal) {
      const { tenant, messageId } = lease
      const reply = await write(lease, (place) => {
        const { turn, running, log, session, history, order, unsaved } = keysOf(tenant, place)
        return {
          script: turnScripts.finish,
          keys: [turn(messageId), running, log(messageId), session, history, order, unsaved],
          args: [messageId, lease.epoch, terminal.id, pack([terminal.event]), kept(historyMessages)],
        }
      })
      if (reply !== 'finished') return false
      const place = await placeOf(tenant, messageId)
      writing.delete(placeKey(tenant, messageId))
      // The next sweep would do it.
      if (place) {
        remember(tenant, messageId, place)
        valkey.pipeline([unlist(tenant, place, messageId)]).catch(() => undefined)
      }
      return true
    },

    async takeOver(tenant, messageId) {
      const place = await placeOf(tenant, messageId)
      if (place === undefined) return undefined
      const { turn, running } = keysOf(tenant, place)
      const flat = await valkey.run<Buffer[]>(
        turnScripts.takeOver,
        [turn(messageId), running],
        [messageId, leaseMs],
        { bytes: true },
      )
      if (flat.length === 0) return undefined
      const fields = new Map(
        flat.flatMap((name, index) => (index % 2 === 0 ? [[String(name), flat[index + 1]] as const] : [])),
      )
      const record = (name: string): MessageRecord | undefined => {
        const entry = fields.get(name)
        return entry && readEntry(place.sessionId, entry)
      }
      writing.set(placeKey(tenant, messageId), place)
      return {
        saved: record('saved'),
        turn: {
          lease: { tenant, messageId, epoch: Number(fields.get('epoch')) },
          state: isText(fields.get('state'), 'c') ? 'closing' : 'running',
          sessionId: place.sessionId,
          threadId: place.threadId,
          userId: decodeURIComponent(String(fields.get('user'))),
          questionId: String(fields.get('question_id')),
          question: record('question'),
          answer: record('answer'),
          answerSequenceNumber: Number(fields.get('sequence')),
          openedAt: new Date(Number(fields.get('opened_at'))).toISOString(),
          onSave: JSON.parse(String(fields.get('on_save'))),
        },
      }
    },

    async readLog(tenant, ownedBy, messageId, after) {
      const place = await placeOf(tenant, messageId)
      if (place === undefined) return undefined
      const { turn, running, log, session } = keysOf(tenant, place)
      const [state, lapsed, user, erased, ...batches] = await valkey.run<Buffer[]>(
        turnScripts.readLog,
        [turn(messageId), running, log(messageId), session],
        [messageId, owned(ownedBy), after, PAGE_BYTES],
        { bytes: true },
      )
      if (state === undefined) return undefined
      const events = batches.flatMap((next, index) => {
        const body = batches[index + 1]
        if (index % 2 === 1 || body === undefined) return []
        const batch = unpack<ReplyEvent[]>(body)
        const first = Number(next) - batch.length
        return batch.map((event, offset) => ({ id: first + offset, event }))
      })
      return {
        finished: isText(state, 'f'),
        lapsed: isText(lapsed, '1'),
        erased: isText(erased, '1'),
        userId: decodeURIComponent(String(user)),
        events: events.filter(({ id }) => id > after),
      }
    },

    async requestStop(tenant, ownedBy, messageId) {
      const place = await placeOf(tenant, messageId)
      if (place === undefined) return undefined
      const { turn, running } = keysOf(tenant, place)
      const [state, left] = await valkey.run<[string?, string?]>(
        turnScripts.look,
        [turn(messageId), running],
        [messageId, owned(ownedBy), '1'],
      )
      if (state === undefined) return undefined
      return { finished: state !== 'r', lapsed: state !== 'f' && Number(left) <= 0 }
    },

    look,

    unfinished: async (watched) => (await look(watched)).unfinished,

    async lapsed(limit) {
      const found = await Promise.all(Array.from({ length: RUNNING_SHARDS }, (_, shard) => sweep(shard)))
      const counts = new Map<string, number>()
      return found.flat().flatMap(({ companyId, platform, messageId }) => {
        const tenant = settingsKey({ companyId, platform })
        const count = (counts.get(tenant) ?? 0) + 1
        counts.set(tenant, count)
        return count <= limit ? [{ companyId, platform, messageId }] : []
      })
    },

    /** Its messages are Postgres's to read, once they are there. */
    async readTurn(tenant, questionId, answerId) {
      for (const id of [questionId, answerId]) {
        const place = await placeOf(tenant, id)
        if (place) await settle(tenant, place)
      }
      return undefined
    },

    async settle(tenant, of) {
      const place =
        'sessionId' in of ? { sessionId: of.sessionId, threadId: '' } : await placeOf(tenant, of.messageId)
      if (place) await settle(tenant, place)
    },

    async saved(records) {
      await valkey.pipeline(
        records.map((record): Call => {
          const tenant = { companyId: record.company_id, platform: record.platform }
          const keys = keysOf(tenant, { sessionId: record.session_id, threadId: record.thread_id })
          const isAnswer = record.role === 'assistant'
          return {
            script: sessionScripts.saved,
            keys: [keys.session, keys.history, keys.order, keys.running, keys.unsaved, keys.turn(record.id)],
            args: [
              record.id,
              Date.parse(record.created_at),
              isAnswer && record.status !== 'interrupted' ? writeEntry(record) : '',
              isAnswer ? '1' : '0',
            ],
          }
        }),
      )
    },

    async sessionEnded(tenant, sessionId, { purge }) {
      const { session } = keysOf(tenant, { sessionId, threadId: '' })
      await valkey.run(sessionScripts.end, [session], [purge ? 'deleted' : 'ended'])
    },

    async messageDeleted(tenant, messageId) {
      const message = (await placeOf(tenant, messageId))
        ? undefined
        : await source.findMessage(tenant, messageId)
      const place = message
        ? { sessionId: message.session_id, threadId: message.thread_id }
        : await placeOf(tenant, messageId)
      if (place === undefined) return
      const { session, history, order, unsaved, turn } = keysOf(tenant, place)
      await valkey.run(sessionScripts.erase, [session, history, order, unsaved, turn(messageId)], [messageId])
    },
  }
}
