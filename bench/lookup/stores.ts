/** The hot stores that are compared, each with a Postgres of its own behind the Data API. */
import { backEnds, type StartedBackEnd } from '../../test/harness/hot-store.ts'

/** Of the contract's, by their names there: phase 1, and phase 2 both ways. */
export const STORES = {
  Postgres: 'real Postgres',
  Valkey: 'a single Valkey',
  'Valkey cluster, TLS': 'a Valkey cluster with TLS and logins',
} as const

export type HotStore = ReturnType<StartedBackEnd['open']>
export type StoreName = keyof typeof STORES

export interface Subject {
  name: StoreName
  backEnd: StartedBackEnd
  /** Gives a history of at most so many messages. */
  open(historyMessages: number): HotStore
}

const LEASE_SECONDS = 60

/** Throws where one of them cannot be had on this machine. */
export async function startStores(): Promise<Subject[]> {
  const subjects: Subject[] = []
  for (const [name, contractName] of Object.entries(STORES)) {
    const found = backEnds.find((one) => one.name === contractName)
    if (found === undefined || found.skip) throw new Error(`${name}: ${found?.skip ?? 'not there'}`)
    const backEnd = await found.start()
    const open = (historyMessages: number) => backEnd.open({ leaseSeconds: LEASE_SECONDS, historyMessages })
    subjects.push({ name: name as StoreName, backEnd, open })
  }
  return subjects
}
