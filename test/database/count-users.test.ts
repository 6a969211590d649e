import { afterAll, beforeAll, expect, test } from 'vitest'
import { onBothEngines, startTestDatabase, type TestDatabase } from '../harness/database.ts'

onBothEngines('users', (engine) => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await startTestDatabase(engine, 'count_users')
  })
  afterAll(() => database.close())

  const count = async (limit = 100) => (await database.app.call('count_users', [{ integer: limit }]))[0]
  const session = (company: string, user: string, age: string, changes = 'null') =>
    database.inTenant(
      company,
      `insert into chat_sessions (id, company_id, platform, user_id, last_active_at, deleted_at)
       values (gen_random_uuid(), '${company}', 'web', '${user}', now() - interval '${age}', ${changes})`,
    )

  test('are counted once each, by their newest session, over all tenants', async () => {
    expect(await count()).toEqual({ active: 0, monthly: 0 })
    for (const company of ['acme', 'other'])
      await database.inTenant(
        company,
        `insert into tenants (company_id, platform) values ('${company}', 'web')`,
      )
    await session('acme', 'now', '10 seconds')
    await session('acme', 'now', '4 minutes')
    await session('acme', 'now', '90 days')
    await session('acme', 'today', '6 minutes')
    await session('acme', 'gone', '31 days')
    await session('acme', 'deleted', '1 second', 'now()')
    await session('other', 'now', '29 days')
    expect(await count()).toEqual({ active: 1, monthly: 3 })
  })

  test('are counted up to the limit, and those of this moment all the same', async () => {
    await session('other', 'somebody', '1 second')
    expect(await count(2)).toEqual({ active: 2, monthly: 1 })
  })
})
