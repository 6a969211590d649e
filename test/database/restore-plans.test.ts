/** What a restore asks for is found by its ids, however much else there is. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'

const COMPANY = 'acme'
const OTHERS = 4_000
const ASKED = 20
/** Of 8 KiB, for one message: all that is looked for of it, and what its row and its indexes take. */
const BLOCKS_EACH = 60

onBothEngines('a restore among many, also where Postgres thinks they are few', (engine) => {
  let database: TestDatabase
  let ids: string[] = []
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'restore_plans')
    // What stays in a new database for a minute: nobody has counted them.
    for (const sql of [
      `insert into archive_segments (company_id, platform, session_id, id, object_key, byte_offset, byte_length, text_bytes,
        messages, first_sequence, last_sequence, sha256, state)
      select '${COMPANY}', 'web', gen_random_uuid(), gen_random_uuid(), 'archive/a', n, 1, 1, 1, 1, 1, '', 'live'
      from generate_series(1, ${OTHERS}) n`,
      `insert into archived_messages (company_id, platform, id, segment_id, session_id)
      select '${COMPANY}', 'web', gen_random_uuid(), c.id, c.session_id from archive_segments c`,
      `insert into chat_messages (id, company_id, platform, session_id, role, content, status, sequence_number)
      select gen_random_uuid(), '${COMPANY}', 'web', gen_random_uuid(), 'user', '물음 ' || n, 'complete', n
      from generate_series(1, ${OTHERS}) n`,
    ])
      await database.inTenant(COMPANY, sql)
    const rows = await database.inTenant<{ id: string }>(
      COMPANY,
      `select id from archived_messages limit ${ASKED}`,
    )
    ids = rows.map(({ id }) => id)
  })
  afterAll(() => database.close())

  /** The second time: a connection reads the catalogue first. */
  async function blocksOf(call: string): Promise<number> {
    await database.app.execute(`select * from turnkeep.${call}`)
    const [row] = await database.app.execute<{ 'QUERY PLAN': string }>(
      `explain (analyze, buffers, format json) select * from turnkeep.${call}`,
    )
    const [{ Plan }] = JSON.parse(row?.['QUERY PLAN'] ?? '[{}]')
    return Plan['Shared Hit Blocks'] + Plan['Shared Read Blocks']
  }

  test('newer copies elsewhere', async () => {
    const blocks = await blocksOf(
      `copies_elsewhere('${COMPANY}', 'web', 'archive/b', '${JSON.stringify(ids)}')`,
    )
    expect(blocks).toBeLessThan(OTHERS)
  })

  test('rows that are there', async () => {
    const at = '2026-01-02T03:04:05.678901+00:00'
    const lines = ids.map((id) => ({
      ...{
        id,
        company_id: COMPANY,
        platform: 'web',
        session_id: randomUUID(),
        thread_id: 'main',
        role: 'user',
      },
      ...{
        content: '말',
        status: 'complete',
        sources: [],
        metadata: {},
        sequence_number: 1,
        is_deleted: false,
      },
      ...{ created_at: at, updated_at: at, saved_at: at, user: 'anon_0' },
    }))
    const call = `restore_messages('${COMPANY}', 'web', '${JSON.stringify(lines)}')`
    expect(await blocksOf(call)).toBeLessThan(BLOCKS_EACH * ASKED)
  })
})
