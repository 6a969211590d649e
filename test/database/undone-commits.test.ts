/** Messages leave without waiting for the disk. The machine of Postgres is lost before it has the commit: nothing has happened. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Database } from '../../lambdas/services/database.ts'
import { oldConversation, startTestArchive, type TestArchive } from '../harness/archive.ts'
import { type CrashablePostgres, startEmbeddedServer } from '../harness/postgres-server.ts'

const COMPANY = 'company'

let postgres: CrashablePostgres
let archive: TestArchive
beforeAll(async () => {
  postgres = await startEmbeddedServer()
  archive = await startTestArchive('real', 'undone', { empty: true, server: postgres })
})
afterAll(() => archive.close())

const rows = async () =>
  (await archive.database.inTenant<{ id: string }>(COMPANY, 'select id from chat_messages')).map(
    ({ id }) => id,
  )
const copies = async () => (await archive.copies(COMPANY)).map(({ id }) => id)

test('messages whose removal a crash undoes are rows as before, and leave in the next run', async () => {
  const messages = [1, 2, 3].flatMap(() => oldConversation(60, 80, { company_id: COMPANY }))
  const ids = messages.map(({ id }) => id).sort()
  await archive.save(messages)
  await postgres.stopWalWriter()
  const { app } = archive.database
  let copiesBefore: string[] = []
  const crashing: Database = {
    ...app,
    callFor: async (tenant, operation, args) => {
      if (operation !== 'settle_archive') return app.callFor(tenant, operation, args)
      expect(await rows()).toEqual([])
      copiesBefore = await copies()
      await postgres.crash()
      throw new Error('the machine is lost')
    },
  }

  await archive.run(COMPANY, { database: crashing })
  await postgres.restart()

  expect(copiesBefore.sort()).toEqual(ids)
  expect((await rows()).sort()).toEqual(ids)
  expect(await copies()).toEqual([])
  expect(await archive.run(COMPANY)).toMatchObject({ messages: ids.length, failed: 0, isFinished: true })
  expect(await rows()).toEqual([])
  expect((await copies()).sort()).toEqual(ids)
})
