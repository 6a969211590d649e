/** What a business notes of a session, and of a message: columns of the same names in both tables. */
import type { BusinessFields } from '../protocol/sessions.ts'
import type { StoredMessage } from '../services/hot-store.ts'

export type BusinessColumns = Pick<
  StoredMessage,
  | 'inquiry_category'
  | 'satisfaction_score'
  | 'resolution_status'
  | 'priority'
  | 'follow_up_needed'
  | 'business_impact'
>

export const toBusinessFields = (row: BusinessColumns): BusinessFields => ({
  inquiryCategory: row.inquiry_category,
  satisfactionScore: row.satisfaction_score,
  resolutionStatus: row.resolution_status,
  priority: row.priority,
  followUpNeeded: row.follow_up_needed,
  businessImpact: row.business_impact,
})
