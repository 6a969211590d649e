/** What the product may rely on in the RDS Data API, on both databases that stand behind the local one. */
import {
  BeginTransactionCommand,
  ExecuteStatementCommand,
  type ExecuteStatementCommandInput,
  type Field,
  RDSDataClient,
  type SqlParameter,
} from '@aws-sdk/client-rds-data'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import {
  MAX_REQUEST_BYTES,
  MAX_RESPONSE_BYTES,
  MAX_ROW_BYTES,
  MAX_SQL_CHARACTERS,
  startDataApi,
} from '../../local/cloud/data-api.ts'
import { type Postgres, startPostgres } from '../../local/cloud/postgres.ts'
import { loginSecrets } from '../harness/login-secrets.ts'
import { migratedDump } from '../harness/migrated.ts'
import { createDatabase, startPostgresServer } from '../harness/postgres-server.ts'
import { startTcpProxy } from '../harness/tcp-proxy.ts'

const CLUSTER = 'arn:aws:rds:us-east-1:000000000000:cluster:turnkeep'
const secret = (name: string) => `arn:aws:secretsmanager:us-east-1:000000000000:secret:${name}`
const SHORT_TIMEOUT_MS = 400

const role = (definition: string) =>
  `do $$ begin create role ${definition}; exception when duplicate_object or unique_violation then null; end $$`
const SCHEMA = [
  role('turnkeep_app'),
  role('turnkeep_app_1 login in role turnkeep_app'),
  'create table things (id uuid primary key, count int, note text, data jsonb)',
  'create table secrets (tenant text, body text)',
  'alter table secrets enable row level security',
  'alter table secrets force row level security',
  `create policy tenant on secrets using (tenant = current_setting('turnkeep.tenant', true))`,
  'grant select, insert on things, secrets to turnkeep_app',
  `create function secrets_of(p_tenant text) returns setof secrets language plpgsql as $$
    begin
      perform set_config('turnkeep.tenant', p_tenant, true);
      insert into secrets values (p_tenant, 'kept by ' || p_tenant);
      return query select * from secrets;
    end $$`,
  'create function nothing() returns void language sql as $$ select $$',
]

type Call = Partial<ExecuteStatementCommandInput>

/** Two that are of no use among those that are. */
const secretsOf = (postgres: Postgres) => (arn: string) =>
  ({
    [secret('turnkeep-stranger')]: JSON.stringify({ username: 'turnkeep_nobody', password: 'x' }),
    [secret('turnkeep-placeholder')]: 'not set yet',
  })[arn] ?? loginSecrets(postgres)(arn)

function connect(url: string) {
  const client = new RDSDataClient({
    endpoint: url,
    region: 'us-east-1',
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
    maxAttempts: 1,
  })
  const execute = (sql: string, call: Call = {}) =>
    client.send(
      new ExecuteStatementCommand({
        resourceArn: CLUSTER,
        secretArn: secret('turnkeep-owner'),
        sql,
        ...call,
      }),
    )
  return {
    client,
    execute,
    async json(sql: string, call: Call = {}) {
      const { formattedRecords } = await execute(sql, { formatRecordsAs: 'JSON', ...call })
      return JSON.parse(formattedRecords ?? 'null')
    },
    /** The name and the message of the refusal; not being refused is a failure. */
    async refusal(sql: string, call: Call = {}) {
      return execute(sql, call).then(
        () => expect.fail(`not refused: ${sql.slice(0, 100)}`),
        (error: Error) => ({ name: error.name, message: error.message }),
      )
    },
  }
}

const parameters = (values: Record<string, Field>): SqlParameter[] =>
  Object.entries(values).map(([name, value]) => ({ name, value }))

const backends = {
  'the embedded Postgres': async () => ({
    options: { beginWith: await migratedDump() },
    close: async () => {},
  }),
  'a real Postgres': async () => {
    const server = await startPostgresServer()
    return { options: { databaseUrl: await createDatabase(server.url, 'data_api') }, close: server.close }
  },
}

describe.each(Object.entries(backends))('the Data API before %s', (_name, startBackend) => {
  let postgres: Postgres
  let api: ReturnType<typeof connect>
  let hastyApi: ReturnType<typeof connect>
  const cleanups: (() => unknown)[] = []

  beforeAll(async () => {
    const backend = await startBackend()
    cleanups.unshift(backend.close)
    postgres = await startPostgres(backend.options)
    cleanups.unshift(postgres.close)
    for (const statement of SCHEMA) await postgres.query('owner', statement, [])
    const start = async (options: { statementTimeoutMs?: number }) => {
      const server = await startDataApi({ postgres, secretOf: secretsOf(postgres), ...options })
      const connection = connect(server.url)
      cleanups.unshift(() => connection.client.destroy(), server.close)
      return connection
    }
    api = await start({})
    hastyApi = await start({ statementTimeoutMs: SHORT_TIMEOUT_MS })
  }, 60_000)

  afterAll(async () => {
    for (const cleanUp of cleanups) await cleanUp()
  }, 30_000)

  describe('parameters', () => {
    const uuid = '550e8400-e29b-41d4-a716-446655440000'

    test.each<[string, Field, SqlParameter['typeHint'], string, string]>([
      ['a string is text', { stringValue: '배송 "정책"' }, undefined, 'text', '배송 "정책"'],
      ['a long is bigint', { longValue: -42 }, undefined, 'bigint', '-42'],
      ['a double is double precision', { doubleValue: 0.1 }, undefined, 'double precision', '0.1'],
      ['an infinite double arrives', { doubleValue: -Infinity }, undefined, 'double precision', '-Infinity'],
      ['a boolean is boolean', { booleanValue: true }, undefined, 'boolean', 'true'],
      ['a blob is bytea', { blobValue: new Uint8Array([0, 255]) }, undefined, 'bytea', '\\x00ff'],
      ['a UUID hint makes a uuid', { stringValue: uuid }, 'UUID', 'uuid', uuid],
      ['a JSON hint makes json', { stringValue: '{"a": 1}' }, 'JSON', 'json', '{"a": 1}'],
      ['a DATE hint makes a date', { stringValue: '2026-11-20' }, 'DATE', 'date', '2026-11-20'],
      [
        'a TIME hint makes a time',
        { stringValue: '10:20:30.5' },
        'TIME',
        'time without time zone',
        '10:20:30.5',
      ],
      [
        'a TIMESTAMP hint makes a timestamp without a zone',
        { stringValue: '2026-11-20 10:20:30.123' },
        'TIMESTAMP',
        'timestamp without time zone',
        '2026-11-20 10:20:30.123',
      ],
      ['a DECIMAL hint makes a numeric', { stringValue: '1.10' }, 'DECIMAL', 'numeric', '1.10'],
    ])('%s', async (_title, value, typeHint, type, text) => {
      const rows = await api.json('select pg_typeof(:x)::text as type, :x::text as text', {
        parameters: [{ name: 'x', value, ...(typeHint ? { typeHint } : {}) }],
      })
      expect(rows).toEqual([{ type, text }])
    })

    test('a string does not fit a uuid column without a cast or a hint', async () => {
      const insert = 'insert into things (id) values (:id)'
      const value = { stringValue: crypto.randomUUID() }
      expect(await api.refusal(insert, { parameters: [{ name: 'id', value }] })).toEqual({
        name: 'DatabaseErrorException',
        message: expect.stringMatching(
          /^ERROR: column "id" is of type uuid but expression is of type text; Hint: .*; Position: \d+; SQLState: 42804$/,
        ),
      })
      await api.execute(insert, { parameters: [{ name: 'id', value, typeHint: 'UUID' }] })
      await api.execute('insert into things (id) values (:id::uuid) on conflict do nothing', {
        parameters: [{ name: 'id', value }],
      })
    })

    test('NULL takes its type from where it stands, or from its hint', async () => {
      const { records } = await api.execute(
        `insert into things (id, count, note, data) values (gen_random_uuid(), :nothing, :none, :absent::jsonb)
         returning count, note, data, pg_typeof(:id)::text`,
        {
          parameters: [
            ...parameters({ nothing: { isNull: true }, none: { isNull: true }, absent: { isNull: true } }),
            { name: 'id', value: { isNull: true }, typeHint: 'UUID' },
          ],
        },
      )
      expect(records).toEqual([
        [{ isNull: true }, { isNull: true }, { isNull: true }, { stringValue: 'uuid' }],
      ])
    })

    test('a name in quotes, comments and slices is no parameter', async () => {
      const sql = `select ':a' as "x:a", (array[1,2,3])[1:2] as list /* :a */, :a as a -- :a`
      const rows = await api.json(sql, { parameters: parameters({ a: { longValue: 7 } }) })
      expect(rows).toEqual([{ 'x:a': ':a', list: [1, 2], a: 7 }])
    })

    test.each<[string, string, SqlParameter[], string]>([
      [
        'a name without a value',
        'select :a, :b',
        parameters({ a: { longValue: 1 } }),
        'Cannot find parameter: b',
      ],
      ['a value without a place', 'select 1', parameters({ a: { longValue: 1 } }), 'no parameter: a'],
      [
        'a name given twice',
        'select :a',
        [...parameters({ a: { longValue: 1 } }), ...parameters({ a: { longValue: 2 } })],
        'same name',
      ],
      ['an array', 'select :a', parameters({ a: { arrayValue: { longValues: [1] } } }), 'unsupported value'],
      ['a value of no kind', 'select :a', [{ name: 'a' }], 'no field set'],
      ['a fraction as a long', 'select :a', parameters({ a: { longValue: 1.5 } }), 'unsupported value'],
      [
        'a timestamp as JavaScript writes it',
        'select :a',
        [{ name: 'a', value: { stringValue: '2026-11-20T10:20:30.123Z' }, typeHint: 'TIMESTAMP' }],
        'Parse Error for TIMESTAMP',
      ],
    ])('%s is refused', async (_title, sql, given, message) => {
      const refusal = await api.refusal(sql, { parameters: given })
      expect(refusal).toEqual({ name: 'ValidationException', message: expect.stringContaining(message) })
    })
  })

  describe('results', () => {
    const EVERY_TYPE = `select true as bool, 1::int2 as int2, 2::int4 as int4, 9007199254740993::int8 as int8,
      0.1::float4 as float4, 1e20::float8 as float8, 'NaN'::float8 as nan, 12.50::numeric as numeric,
      'a "b"' || chr(10) as text, 'c'::varchar as varchar, 'd'::char(2) as bpchar, 'e'::name as name,
      '{"f": [1]}'::jsonb as jsonb, '2026-11-20'::date as date, '10:20:30'::time as time,
      '2026-11-20 10:20:30'::timestamp as timestamp, '2026-11-20 10:20:30.123456+09'::timestamptz as timestamptz,
      '550e8400-e29b-41d4-a716-446655440000'::uuid as uuid, '\\x00ff'::bytea as bytea, null::int as nothing,
      array[1, null, 3] as ints, array['a,b', 'c"d', null, 'NULL', ''] as texts, array[]::bool[] as bools`

    test('plain records hold one field of the right kind a cell', async () => {
      const { records, formattedRecords, numberOfRecordsUpdated } = await api.execute(EVERY_TYPE)
      expect(formattedRecords).toBeUndefined()
      expect(numberOfRecordsUpdated).toBe(0)
      expect(records).toEqual([
        [
          { booleanValue: true },
          { longValue: 1 },
          { longValue: 2 },
          { longValue: Number('9007199254740993') }, // all that the SDK can hold
          { doubleValue: 0.1 },
          { doubleValue: 1e20 },
          { doubleValue: NaN },
          { stringValue: '12.50' },
          { stringValue: 'a "b"\n' },
          { stringValue: 'c' },
          { stringValue: 'd ' },
          { stringValue: 'e' },
          { stringValue: '{"f": [1]}' },
          { stringValue: '2026-11-20' },
          { stringValue: '10:20:30' },
          { stringValue: '2026-11-20 10:20:30' },
          { stringValue: '2026-11-20 01:20:30.123456' },
          { stringValue: '550e8400-e29b-41d4-a716-446655440000' },
          { blobValue: new Uint8Array([0, 255]) },
          { isNull: true },
          { arrayValue: { longValues: [1, null, 3] } },
          { arrayValue: { stringValues: ['a,b', 'c"d', null, 'NULL', ''] } },
          { arrayValue: { booleanValues: [] } },
        ],
      ])
    })

    test('the JSON format holds numbers, booleans, nulls, arrays, and strings for all else', async () => {
      const { records, columnMetadata, formattedRecords } = await api.execute(EVERY_TYPE, {
        formatRecordsAs: 'JSON',
        includeResultMetadata: true,
      })
      expect({ records, columnMetadata }).toEqual({ records: undefined, columnMetadata: undefined })
      expect(formattedRecords).toContain('"int8":9007199254740993,')
      expect(JSON.parse(formattedRecords ?? '')).toEqual([
        {
          bool: true,
          int2: 1,
          int4: 2,
          int8: Number('9007199254740993'),
          float4: 0.1,
          float8: 1e20,
          nan: 'NaN',
          numeric: '12.50',
          text: 'a "b"\n',
          varchar: 'c',
          bpchar: 'd ',
          name: 'e',
          jsonb: '{"f": [1]}',
          date: '2026-11-20',
          time: '10:20:30',
          timestamp: '2026-11-20 10:20:30',
          timestamptz: '2026-11-20 01:20:30.123456',
          uuid: '550e8400-e29b-41d4-a716-446655440000',
          bytea: 'AP8=',
          nothing: null,
          ints: [1, null, 3],
          texts: ['a,b', 'c"d', null, 'NULL', ''],
          bools: [],
        },
      ])
    })

    test('no rows are an empty list in either format', async () => {
      expect((await api.execute('select 1 as one where false')).records).toEqual([])
      expect(await api.json('select 1 as one where false')).toEqual([])
    })

    test('longs may be asked for as strings, decimals as numbers', async () => {
      const call: Call = {
        resultSetOptions: { longReturnType: 'STRING', decimalReturnType: 'DOUBLE_OR_LONG' },
      }
      const sql = 'select 9007199254740993 as big, 1.5::numeric as half, 2::numeric as two'
      expect((await api.execute(sql, call)).records).toEqual([
        [{ stringValue: '9007199254740993' }, { doubleValue: 1.5 }, { longValue: 2 }],
      ])
      expect(await api.json(sql, call)).toEqual([{ big: '9007199254740993', half: 1.5, two: 2 }])
    })

    test('a change reports how many rows it made; what it returns comes as records in either format', async () => {
      const insert = `insert into things (id, count) select gen_random_uuid(), n from generate_series(1, 3) n`
      expect(await api.execute(insert)).toMatchObject({ numberOfRecordsUpdated: 3, generatedFields: [] })
      const { records, formattedRecords } = await api.execute(`${insert} returning count`, {
        formatRecordsAs: 'JSON',
      })
      expect(records).toEqual([[{ longValue: 1 }], [{ longValue: 2 }], [{ longValue: 3 }]])
      expect(formattedRecords).toBeUndefined()
    })

    test('a definition reports nothing', async () => {
      const { records, numberOfRecordsUpdated } = await api.execute(
        'create table if not exists other (a int)',
      )
      expect({ records, numberOfRecordsUpdated }).toEqual({ records: undefined, numberOfRecordsUpdated: 0 })
    })

    test('metadata names columns and types when it is asked for', async () => {
      const sql = `select 1 as one, 'a'::text as b, array[1] as list`
      expect((await api.execute(sql)).columnMetadata).toBeUndefined()
      const { columnMetadata } = await api.execute(sql, { includeResultMetadata: true })
      expect(
        columnMetadata?.map(({ name, label, typeName, type }) => ({ name, label, typeName, type })),
      ).toEqual([
        { name: 'one', label: 'one', typeName: 'int4', type: 4 },
        { name: 'b', label: 'b', typeName: 'text', type: 12 },
        { name: 'list', label: 'list', typeName: '_int4', type: 2003 },
      ])
    })

    test.each([
      ['void', 'select * from nothing()', 'unsupported data type void'],
      ['an interval', `select interval '1 day'`, 'unsupported data type interval'],
      ['a regtype', `select 'text'::regtype`, 'unsupported data type regtype'],
      ['an array of two dimensions', 'select array[[1], [2]]', 'multidimensional array'],
    ])('%s cannot be returned', async (_title, sql, message) => {
      const refusal = await api.refusal(sql)
      expect(refusal).toEqual({
        name: 'UnsupportedResultException',
        message: expect.stringContaining(message),
      })
    })

    test('two columns of one name cannot be JSON', async () => {
      expect(await api.refusal('select 1 as a, 2 as a', { formatRecordsAs: 'JSON' })).toMatchObject({
        name: 'UnsupportedResultException',
      })
    })
  })

  describe('roles', () => {
    const app = { secretArn: secret('turnkeep-app') }
    const whoami = 'select current_user::text as me'

    test('the login of the secret is who runs the statement', async () => {
      const [owner] = await api.json(whoami)
      expect(await api.json(whoami, app)).toEqual([{ me: 'turnkeep_app_1' }])
      expect(owner.me).not.toBe('turnkeep_app_1')
      expect(await api.json('select rolsuper from pg_roles where rolname = current_user')).toEqual([
        { rolsuper: false },
      ])
    })

    test('statements at the same time keep to their roles', async () => {
      const roles = Array.from({ length: 60 }, (_, index) => (index % 3 === 0 ? 'app' : 'owner'))
      const answers = await Promise.all(
        roles.map((role) => api.json(whoami, { secretArn: secret(`turnkeep-${role}`) })),
      )
      expect(answers.map(([row]) => (row.me === 'turnkeep_app_1' ? 'app' : 'owner'))).toEqual(roles)
    })

    test.each([
      ['RESET ROLE', 'reset role'],
      ['SET ROLE', 'set role none'],
      ['a function', `select set_config('role', 'none', false)`],
      ['a block of code', `do $$ begin perform set_config('role', 'none', false); end $$`],
    ])('the app role does not get out of its role by %s', async (_title, wayOut) => {
      await api.execute(wayOut, app).catch(() => {})
      const answers = await Promise.all(Array.from({ length: 12 }, () => api.json(whoami, app)))
      expect(new Set(answers.map(([row]) => row.me))).toEqual(new Set(['turnkeep_app_1']))
    })

    test('row-level security holds for both roles', async () => {
      for (const name of ['a', 'b']) {
        const call = { ...app, parameters: parameters({ name: { stringValue: name } }) }
        expect(await api.json('select * from secrets_of(:name)', call)).toEqual([
          { tenant: name, body: `kept by ${name}` },
        ])
      }
      for (const call of [app, {}]) expect(await api.json('select * from secrets', call)).toEqual([])
    })

    test('a setting does not stay for the next statement', async () => {
      await api.execute(`set turnkeep.tenant = 'a'`, app)
      const rows = await Promise.all(Array.from({ length: 12 }, () => api.json('select * from secrets', app)))
      expect(rows.flat()).toEqual([])
    })

    test('the app role may not define anything', async () => {
      const { message } = await api.refusal('create table mine (a int)', app)
      expect(message).toMatch(/^ERROR: permission denied .*; SQLState: 42501$/)
    })

    test.each([
      ['a secret that is not there', 'other', 'SecretsErrorException', 'no secret'],
      ['a secret without a login', 'placeholder', 'InvalidSecretException', ''],
      ['an unknown login', 'stranger', 'DatabaseErrorException', 'SQLState: 28P01'],
    ])('%s is refused', async (_title, name, error, words) => {
      expect(await api.refusal('select 1', { secretArn: secret(`turnkeep-${name}`) })).toEqual({
        name: error,
        message: expect.stringContaining(words),
      })
    })
  })

  describe('errors', () => {
    test('a duplicate carries its SQLSTATE, and not the row', async () => {
      const insert = 'insert into things (id) values (:id::uuid)'
      const call = { parameters: parameters({ id: { stringValue: crypto.randomUUID() } }) }
      await api.execute(insert, call)
      expect(await api.refusal(insert, call)).toEqual({
        name: 'DatabaseErrorException',
        message: 'ERROR: duplicate key value violates unique constraint "things_pkey"; SQLState: 23505',
      })
    })

    test('a failed statement leaves nothing behind, and no log line', async () => {
      const log = vi.spyOn(console, 'error')
      await api.refusal('select 1 / 0')
      expect(await api.json('select 1 as one')).toEqual([{ one: 1 }])
      expect(log).not.toHaveBeenCalled()
      log.mockRestore()
    })

    test.each<[string, string, Call, string]>([
      ['two statements', 'select 1; select 2', {}, 'ValidationException'],
      ['a schema', 'select 1', { schema: 'public' }, 'ValidationException'],
      ['another kind of resource', 'select 1', { resourceArn: 'arn:aws:s3:::bucket' }, 'ValidationException'],
      ['a transaction', 'select 1', { transactionId: 'abc' }, 'TransactionNotFoundException'],
      ['BEGIN', 'begin', {}, 'DatabaseErrorException'],
      ['COPY FROM STDIN', 'copy things from stdin', {}, 'DatabaseErrorException'],
      ['a number without a value', 'select $1::int', {}, 'DatabaseErrorException'],
    ])('%s is refused', async (_title, sql, call, name) => {
      expect(await api.refusal(sql, call)).toMatchObject({ name })
      expect(await api.json('select 1 as one')).toEqual([{ one: 1 }])
    })

    test('one statement may end with a semicolon and a comment', async () => {
      expect(await api.json('-- one;\nselect 1 as one; -- two')).toEqual([{ one: 1 }])
    })

    test('the operations for transactions are not here', async () => {
      const begin = new BeginTransactionCommand({ resourceArn: CLUSTER, secretArn: secret('turnkeep-owner') })
      await expect(api.client.send(begin)).rejects.toMatchObject({ name: 'UnknownOperationException' })
    })
  })

  describe('limits', () => {
    const text = (length: number) => parameters({ text: { stringValue: 'x'.repeat(length) } })
    const NOTATION_BYTES = 2_000 // headers, names and JSON around one long parameter

    test('a request of just under 4 MiB is taken, a larger one refused', async () => {
      const sql = 'select length(:text) as length'
      const length = MAX_REQUEST_BYTES - NOTATION_BYTES
      expect(await api.json(sql, { parameters: text(length) })).toEqual([{ length }])
      expect(await api.refusal(sql, { parameters: text(MAX_REQUEST_BYTES) })).toMatchObject({
        name: 'ValidationException',
      })
    })

    test('a row of 64 KB is returned, one of 65 KB is refused', async () => {
      for (const formatRecordsAs of ['JSON', 'NONE'] as const) {
        const sql = 'select repeat(chr(48152), :count::int) as text' // 배, three bytes
        const call = (bytes: number): Call => ({
          formatRecordsAs,
          parameters: parameters({ count: { longValue: Math.floor(bytes / 3) } }),
        })
        await api.execute(sql, call(MAX_ROW_BYTES))
        expect(await api.refusal(sql, call(65 * 1024))).toMatchObject({ name: 'UnsupportedResultException' })
      }
    })

    test('a response of just under 1 MiB is returned, a larger one refused', async () => {
      const sql = `select repeat('x', 50000) as text from generate_series(1, :rows)`
      const rows = Math.floor(MAX_RESPONSE_BYTES / 50_100)
      const call = (count: number) => ({ parameters: parameters({ rows: { longValue: count } }) })
      expect(await api.json(sql, call(rows))).toHaveLength(rows)
      expect(await api.refusal(sql, call(rows + 1))).toEqual({
        name: 'UnsupportedResultException',
        message: 'Database returned more than the allowed response size limit',
      })
    })

    test('a statement of 65,536 characters is taken, a longer one refused', async () => {
      const comment = (length: number) =>
        `select 1 as one --${'-'.repeat(length - 'select 1 as one --'.length)}`
      expect(await api.json(comment(MAX_SQL_CHARACTERS))).toEqual([{ one: 1 }])
      expect(await api.refusal(comment(MAX_SQL_CHARACTERS + 1))).toMatchObject({
        name: 'ValidationException',
      })
    })

    test('a statement over its time is given up, and what comes next is answered', async () => {
      expect(await hastyApi.refusal('select pg_sleep(1)::text')).toMatchObject({
        name: 'StatementTimeoutException',
      })
      expect(await api.json('select 1 as one')).toEqual([{ one: 1 }])
    })

    test('with continueAfterTimeout the statement takes effect after its caller was told', async () => {
      const sql = `insert into things (id, note) select gen_random_uuid(), 'late' from pg_sleep(0.8)`
      expect(await hastyApi.refusal(sql, { continueAfterTimeout: true })).toMatchObject({
        name: 'StatementTimeoutException',
      })
      await vi.waitFor(
        async () => expect(await api.json(`select note from things where note = 'late'`)).toHaveLength(1),
        { timeout: 5_000 },
      )
    })
  })
})

test('a database that is gone is unavailable, and answers again when it is back', async () => {
  const server = await startPostgresServer()
  const proxy = await startTcpProxy(server.url)
  const postgres = await startPostgres({ databaseUrl: proxy.url })
  const dataApi = await startDataApi({ postgres, secretOf: loginSecrets(postgres) })
  const api = connect(dataApi.url)
  try {
    await Promise.all([1, 2, 3].map(() => api.execute('select pg_sleep(0.05)::text')))
    const running = api.refusal('select pg_sleep(30)::text')
    await vi.waitFor(() => expect(proxy.connections()).toBeGreaterThanOrEqual(3))
    await proxy.down()
    expect(await running).toMatchObject({ name: 'DatabaseUnavailableException' })
    expect(await api.refusal('select 1')).toMatchObject({ name: 'DatabaseUnavailableException' })
    await proxy.up()
    expect(await api.json('select 1 as one')).toEqual([{ one: 1 }])
  } finally {
    api.client.destroy()
    await dataApi.close()
    await postgres.close()
    await proxy.close()
    await server.close()
  }
}, 60_000)
