/**
 * The hot store: what an answer needs at once. It opens turns, holds their leases and reply logs, and knows recent
 * history. A port, because it has two implementations: Postgres (phase 1) and Valkey (phase 2). The life of a turn
 * is specified in docs/protocol.md.
 */
import type { Actor, Tenant } from '../protocol/callers.ts'
import type { NumberedEvent, ReplyEvent } from '../protocol/chat.ts'
import type { Admission } from '../protocol/limits.ts'
import type { MessageRecord, OnSave } from '../protocol/queue.ts'
import type { Budgets, OwnSettings } from '../protocol/tenants.ts'

/** A message as it is stored: a record plus what became of it since. Whose it is, its session knows. */
export interface StoredMessage extends Omit<MessageRecord, 'user_id'> {
  is_deleted: boolean
  inquiry_category: string | null
  satisfaction_score: number | null
  feedback_comment?: string | null
  resolution_status: string | null
  priority: string | null
  follow_up_needed: boolean | null
  business_impact: string | null
}

/** What a model is given of an earlier message, and where it stands. */
export type HistoryMessage = Pick<
  StoredMessage,
  'id' | 'role' | 'content' | 'content_key' | 'parent_message_id' | 'sequence_number'
>

/** A question that has no place in a conversation yet: opening the turn gives it one. */
export type UnplacedQuestion = Omit<
  MessageRecord,
  'session_id' | 'user_id' | 'parent_message_id' | 'sequence_number' | 'created_at'
>

/**
 * What a turn may use until it is known what it has used, where the model sets no limit to its answer. Less than a long
 * answer and more than most: a budget is overrun by what the turns that run at once use above it.
 */
export const RESERVED_ANSWER_TOKENS = 1_000

/**
 * What the environment says about tokens. What the tenant has set stands in its place: of the budgets of all its users
 * together only what is less.
 */
export interface Spending {
  budgets: Budgets
  /** Of the environment's system prompt, estimated. */
  systemPromptTokens: number
  /** As in TenantSettings. */
  answerTokens: number
  historyTokens: number
}

export interface TurnRequest {
  tenant: Tenant
  /** Limits to check in the same round trip: a turn that they refuse is not opened. Absent: checked elsewhere. */
  admission?: Admission
  /** Token budgets are asked, and what the turn may use is held against them. Absent: they are not. */
  spending?: Spending
  /** The session, or the id of the one to make. */
  sessionId: string
  /** The id was made for this request: no such session is anywhere. */
  sessionIsNew?: boolean
  threadId: string
  /** Who owns the session if it has to be made. */
  owner: string
  /** The only user whose session will do; null: anybody's in the tenant. */
  ownedBy: string | null
  /** Who asks: recorded in the audit log, with the opening, where the session is another user's. */
  asker?: Actor
  channel: string | null
  title: string
  /** The answer's id. */
  messageId: string
  question: UnplacedQuestion
  /** Undefined: the newest answer of the thread. Null: none, a new root. */
  parentMessageId: string | null | undefined
  /** Names the turn for ever among the caller's turns. */
  idempotency: { caller: string; key: string; bodyHash: string } | undefined
  /**
   * Of what is before the question only what is not in the archive, which could not be read. What the client names itself is
   * `archived` all the same.
   */
  withoutArchived?: boolean
}

/** A new answer to a question that is there already. */
export interface RegenerateRequest {
  tenant: Tenant
  /** As in TurnRequest. */
  admission?: Admission
  /** As in TurnRequest. */
  spending?: Spending
  ownedBy: string | null
  /** As in TurnRequest. */
  asker?: Actor
  /** The question, or one of its answers. */
  target: string
  /** The new answer's id. */
  messageId: string
  /** As in TurnRequest. */
  withoutArchived?: boolean
}

export interface OpenedTurn {
  outcome: 'opened'
  sessionId: string
  created: boolean
  /** The session was there and had been used within a day: a cache would have held it. */
  known: boolean
  epoch: number
  question: MessageRecord
  answerSequenceNumber: number
  openedAt: string
  /** What the tenant has set, as of now. */
  settings: OwnSettings
  /** Oldest first, as many as the tenant wants. */
  history: HistoryMessage[]
  /** For the answer's record. */
  onSave?: OnSave | undefined
}

/** The key names a turn that is there already. */
export interface ClaimedTurn {
  outcome: 'claimed'
  bodyMatches: boolean
  sessionId: string
  userMessageId: string
  messageId: string
}

/** A turn in the way has lost its writer: rescue it, then ask again. */
export interface LapsedTurn {
  outcome: 'lapsed'
  messageId: string
}

/** Where a part of a session lies that has left for the archive. */
export interface ArchivedSegment {
  id: string
  object_key: string
  byte_offset: number
  byte_length: number
  text_bytes: number
  messages: number
  /** Of the lines, in hexadecimal. */
  sha256: string
  first_sequence: number
  last_sequence: number
  /** Of two copies of a message the one that was recorded later counts. */
  recorded_at: number
}

/** A message that has left for the archive and is needed, with as many as are wanted of those that lead to it. */
export interface ArchivedMessages {
  session_id: string
  message_id: string
  wanted: number
  /** Its own first, then others in which those may be that lead to it. */
  segments: ArchivedSegment[]
}

/** The newest answer of a thread that had left is deleted: only the archive knows which is the next. */
export interface ArchivedThread {
  session_id: string
  thread_id: string
  newest_answer_id: string
}

/** What is needed has left for the archive: bring it back (lambdas/ageing/thaw.ts), then ask again. Nothing was changed. */
export interface Archived {
  outcome: 'archived'
  archived: (ArchivedMessages | ArchivedThread)[]
}

export interface TurnLease {
  tenant: Tenant
  messageId: string
  epoch: number
}

/** Events that follow each other, the first with this id. A batch that was sent once is sent again unchanged. */
export interface EventBatch {
  first: number
  events: ReplyEvent[]
}

export interface LeaseState {
  /** False: the turn has been taken over; nothing was written, and the writer must stop. */
  held: boolean
  stopRequested: boolean
}

/** A turn whose lease ran out, now held by the caller at a new epoch. */
export interface TakenTurn {
  lease: TurnLease
  state: 'running' | 'closing'
  sessionId: string
  threadId: string
  userId: string
  questionId: string
  /** Absent when the question was saved before the turn was opened. */
  question: MessageRecord | undefined
  /** The answer it will end with, where its writer came that far. */
  answer: MessageRecord | undefined
  answerSequenceNumber: number
  openedAt: string
  /** For the answer's record. */
  onSave?: OnSave | undefined
}

export interface ReplyLogPage {
  finished: boolean
  /** The writer's lease has run out. */
  lapsed: boolean
  erased: boolean
  userId: string
  /** Those after the given id, in order; more may follow. */
  events: NumberedEvent[]
}

export interface WatchedTurn extends Tenant {
  messageId: string
}

export interface ErasedSession {
  /** Those of which somebody else knows. */
  messages: readonly { messageId: string; threadId: string }[]
  /** Whatever is still written. */
  force: boolean
}

export interface Forgotten {
  /** Answers that still have a writer. */
  running: number
  /** Entries that are gone. */
  removed: number
}

export interface FinishedTurn {
  question: StoredMessage
  /** Undefined while it is running. */
  answer: StoredMessage | undefined
  sessionMessageCount: number
}

export interface HotStore {
  readonly leaseSeconds: number
  /** Least milliseconds between two appends of one answer: in phase 1 each is a paid call. */
  readonly paceMs: number
  /**
   * The one conditional write that opens a turn, before any other effect. Refusals are CodedErrors and leave
   * nothing behind: `rate_limited`, `quota_exceeded` (with QuotaDetails), `not_found`, `ended`, `reply_in_progress`,
   * `invalid_request`, `unavailable`. A repeated request finds its turn whatever the budgets say.
   */
  openTurn(request: TurnRequest): Promise<OpenedTurn | ClaimedTurn | LapsedTurn | Archived>
  /** The same for a question that is there already. */
  reopenTurn(request: RegenerateRequest): Promise<OpenedTurn | LapsedTurn | Archived>
  /** Writes events to the log and renews the lease; with no batches only that. Repeating it changes nothing. */
  append(lease: TurnLease, batches: readonly EventBatch[]): Promise<LeaseState>
  /**
   * Writes the log's tail and the whole answer: from here on the turn ends with this answer, whoever ends it. Returns
   * the session's message count; undefined: taken over.
   */
  close(lease: TurnLease, batches: readonly EventBatch[], answer: MessageRecord): Promise<number | undefined>
  /** Writes the terminal event, frees the thread, shows the answer to every reader. False: taken over. */
  finish(lease: TurnLease, terminal: NumberedEvent): Promise<boolean>
  /** Undefined: finished, unknown, or its writer still holds it. `saved` is the answer where its writer saved it. */
  takeOver(
    tenant: Tenant,
    messageId: string,
  ): Promise<{ turn: TakenTurn; saved: MessageRecord | undefined } | undefined>
  /** What follows `after` (-1: everything). Undefined: unknown here, or not a turn of `ownedBy`. */
  readLog(
    tenant: Tenant,
    ownedBy: string | null,
    messageId: string,
    after: number,
  ): Promise<ReplyLogPage | undefined>
  /** Asks the writer to stop. Undefined: unknown, or not a turn of `ownedBy`. */
  requestStop(
    tenant: Tenant,
    ownedBy: string | null,
    messageId: string,
  ): Promise<{ finished: boolean; lapsed: boolean } | undefined>
  /** Those of the watched turns that have not ended; a lease that lapses in no time has run out. */
  unfinished(watched: readonly WatchedTurn[]): Promise<(WatchedTurn & { lapsesInSeconds: number })[]>
  /** Turns of any tenant that have lost their writers, at most so many for each tenant. */
  lapsed(limit: number): Promise<WatchedTurn[]>
  /** Undefined: no such turn. */
  readTurn(tenant: Tenant, questionId: string, answerId: string): Promise<FinishedTurn | Archived | undefined>
  // What happens to sessions and messages beside their turns, in Postgres first. Where the hot store is Postgres, none of
  // these has anything to do. Repeating them changes nothing.

  /** Brings to Postgres what of a session, or of a message's session, stands here alone. Before Postgres is asked. */
  settle(tenant: Tenant, of: { sessionId: string } | { messageId: string }): Promise<void>
  /** These records stand in Postgres. */
  saved(records: readonly MessageRecord[]): Promise<void>
  sessionEnded(tenant: Tenant, sessionId: string, options: { purge: boolean }): Promise<void>
  messageDeleted(tenant: Tenant, messageId: string): Promise<void>
  /** The tenant has these settings now. */
  tenantChanged(tenant: Tenant, own: OwnSettings): Promise<void>
  /**
   * No turn is opened in the session any more, and its answers that are written are asked to stop. Once none is, or with
   * `force`, nothing of it stands here; before, all does. Of Postgres' own rows others take care.
   */
  sessionErased(tenant: Tenant, sessionId: string, session: ErasedSession): Promise<Forgotten>
}
