/** Who calls, and for which tenant. */

export const roles = ['user', 'agent', 'admin'] as const
export type Role = (typeof roles)[number]

export interface Tenant {
  companyId: string
  platform: string
}

/** A person who does something, as the audit log names them. */
export interface Actor {
  userId: string
  role: Role
}

/** Who is calling, as the verified token says. */
export interface Caller extends Tenant, Actor {}

/** What stands in place of a user's id after a year, as sql/operations/pseudonyms.sql knows it. Nobody has such an id. */
export const isPseudonym = (userId: string): boolean => /^anon_[0-9a-f]{32}$/.test(userId)
