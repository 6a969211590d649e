import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'

const COMPANY = 'acme'
const MESSAGES = 4_000
const LIMIT = 20

onBothEngines('pages of a long conversation', (engine) => {
  const session = uuidv7()
  let database: TestDatabase

  beforeAll(async () => {
    database = await startTestDatabase(engine, 'pages')
    await database.inTenant(
      COMPANY,
      `insert into public.chat_sessions (id, company_id, platform, user_id) values ('${session}', '${COMPANY}', 'web', 'u1')`,
    )
    await database.inTenant(
      COMPANY,
      `insert into public.chat_messages (id, company_id, platform, session_id, role, content, status, sequence_number)
      select gen_random_uuid(), '${COMPANY}', 'web', '${session}', 'user', '물음 ' || n, 'complete', n
      from generate_series(1, ${MESSAGES}) n`,
    )
    await database.owner.execute('analyze public.chat_messages')
  })
  afterAll(() => database.close())

  const page = (descending: boolean, after: number | null): string =>
    `select * from turnkeep.read_messages('${COMPANY}', 'web', '{"user_id": "u1", "role": "user"}', '${session}', null,
      ${descending}, ${after}, null, ${LIMIT}, 800000)`

  /** Of 8 KiB, in memory or not. */
  async function blocksOf(sql: string): Promise<number> {
    const [row] = await database.app.execute<{ 'QUERY PLAN': string }>(
      `explain (analyze, buffers, format json) ${sql}`,
    )
    const [{ Plan }] = JSON.parse(row?.['QUERY PLAN'] ?? '[{}]')
    return Plan['Shared Hit Blocks'] + Plan['Shared Read Blocks']
  }

  test.each([
    ['oldest first', false, MESSAGES - 100],
    ['newest first', true, 100],
  ])('a late one touches as few blocks as the first, %s', async (_, descending, late) => {
    const blocks = async (after: number | null): Promise<number> => {
      await database.app.execute(page(descending, after)) // What is looked up once is known then.
      return blocksOf(page(descending, after))
    }
    const [first, later] = [await blocks(null), await blocks(late)]
    expect(first).toBeGreaterThan(0)
    expect(later).toBeLessThanOrEqual(first + 10)
  })
})
