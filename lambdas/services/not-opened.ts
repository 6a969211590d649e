/** Why a turn is not opened, for the client: the same in both phases. */
import { CodedError, type ErrorCode, invalidField } from '../protocol/errors.ts'
import type { QuotaDetails } from '../protocol/limits.ts'

const refusals: Partial<Record<ErrorCode, string>> = {
  not_found: 'There is no such session.',
  ended: 'This session has ended.',
  reply_in_progress: 'An answer is being written in this thread.',
}

const whose = { user: 'a user', tenant: 'all users of a tenant together' }

export function notOpened(
  body: { code: ErrorCode; field?: string; message_id?: string; what?: string } & Partial<QuotaDetails>,
): CodedError {
  if (body.code === 'quota_exceeded') {
    const { budget, period, limit, used, resetsAt } = body as QuotaDetails
    return new CodedError(
      body.code,
      `At most ${limit} tokens a ${period} are allowed for ${whose[budget]}, and this would be more.`,
      {
        details: { budget, period, limit, used, resetsAt: new Date(resetsAt).toISOString() },
      },
    )
  }
  if (body.field) return invalidField(body.field, 'must name a finished answer in this thread')
  const message = body.what ? `There is no such ${body.what}.` : refusals[body.code]
  return new CodedError(body.code, message ?? 'The turn was refused.', {
    ...(body.message_id ? { details: { messageId: body.message_id } } : {}),
  })
}
