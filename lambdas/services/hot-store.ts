/**
 * The hot store: what an answer needs at once. A port, because it has two implementations: Postgres (phase 1) and
 * Valkey (phase 2). See docs/protocol.md for the life of a turn.
 */
import type { MessageRecord, Tenant } from '../protocol.ts'

/** A message as it is stored: a record plus what became of it since. */
export interface StoredMessage extends MessageRecord {
  is_deleted: boolean
  inquiry_category: string | null
  satisfaction_score: number | null
  resolution_status: string | null
  priority: string | null
  follow_up_needed: boolean | null
  business_impact: string | null
}

/** A question that has no place in a conversation yet: opening the turn gives it one. */
export type UnplacedQuestion = Omit<
  MessageRecord,
  'session_id' | 'user_id' | 'parent_message_id' | 'sequence_number' | 'created_at'
>

export interface TurnRequest {
  tenant: Tenant
  /** The session, or the id of the one to make. */
  sessionId: string
  threadId: string
  /** Who owns the session if it has to be made. */
  owner: string
  /** The only user whose session will do; null: anybody's in the tenant. */
  ownedBy: string | null
  channel: string | null
  title: string
  /** The answer's id. */
  messageId: string
  question: UnplacedQuestion
  /** Undefined: the newest answer of the thread. Null: none, a new root. */
  parentMessageId: string | null | undefined
  /** Names the turn for ever among the caller's turns. */
  idempotency: { caller: string; key: string; bodyHash: string } | undefined
}

export interface OpenedTurn {
  outcome: 'opened'
  sessionId: string
  created: boolean
  epoch: number
  question: MessageRecord
  answerSequenceNumber: number
  openedAt: string
  /** Oldest first. */
  history: StoredMessage[]
  /** Records that somebody else's turn has left behind; they must reach the queue. */
  rescued: MessageRecord[]
}

/** The key names a turn that is there already. */
export interface ClaimedTurn {
  outcome: 'claimed'
  bodyMatches: boolean
  sessionId: string
  userMessageId: string
  messageId: string
}

export interface TurnLease {
  tenant: Tenant
  messageId: string
  epoch: number
}

export interface FinishedTurn {
  question: StoredMessage
  /** Undefined while it is running. */
  answer: StoredMessage | undefined
  sessionMessageCount: number
}

export interface HotStore {
  readonly leaseSeconds: number
  /**
   * The one conditional write that opens a turn, before any other effect. Refusals are CodedErrors and leave
   * nothing behind: `not_found`, `ended`, `reply_in_progress`, `invalid_request`, `unavailable`.
   */
  openTurn(request: TurnRequest): Promise<OpenedTurn | ClaimedTurn>
  /** False: the turn has been taken over, and the writer must stop. */
  renewLease(lease: TurnLease): Promise<boolean>
  /** Ends the turn with its answer. Returns the session's message count; undefined: it has been taken over. */
  finishTurn(lease: TurnLease, answer: MessageRecord): Promise<number | undefined>
  /** Undefined: no such turn. */
  readTurn(tenant: Tenant, questionId: string, answerId: string): Promise<FinishedTurn | undefined>
}
