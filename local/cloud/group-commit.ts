/** The part of node:sqlite that is used here. */
type Statement = { run(...values: unknown[]): unknown }
export type Persistence = {
  db: { exec(sql: string): void }
  stmts: Record<string, Statement>
  transaction(work: () => void): void
}

/**
 * Makes one commit, and so one wait for the disk, of everything that is written in one turn of the event loop:
 * fauxqs commits each message by itself, which makes a batch of ten cost ten waits. Whoever answers a request
 * awaits `committed` first, so that nothing is acknowledged that a crash could take back.
 */
export function groupCommits(persistence: Persistence): { committed(): Promise<void> } {
  const { db, stmts } = persistence
  let isOpen = false
  let nextCommit: Promise<void> | undefined
  const begin = (): void => {
    if (!isOpen) db.exec('BEGIN')
    isOpen = true
  }
  for (const [name, statement] of Object.entries(stmts)) {
    if (name.startsWith('load') || name.startsWith('read')) continue
    const run = statement.run.bind(statement)
    statement.run = (...values) => {
      begin()
      return run(...values)
    }
  }
  persistence.transaction = (work) => {
    begin()
    db.exec('SAVEPOINT part')
    try {
      work()
    } catch (error) {
      db.exec('ROLLBACK TO part')
      throw error
    } finally {
      db.exec('RELEASE part')
    }
  }
  const commit = (resolve: () => void, reject: (error: unknown) => void): void => {
    nextCommit = undefined
    try {
      db.exec('COMMIT')
      isOpen = false
      resolve()
    } catch (error) {
      reject(error)
    }
  }
  return {
    committed: async () => {
      if (!isOpen) return
      nextCommit ??= new Promise((resolve, reject) => setImmediate(commit, resolve, reject))
      await nextCommit
    },
  }
}
