/** Connections to a database of the product, beside it. */
import pg from 'pg'

/** From 16 on, making a role does not include that one may become it. */
const MAY_BECOME_IT = `do $$ begin
  if current_setting('server_version_num')::integer >= 160000 then
    grant turnkeep_app to current_user with inherit false, set true;
  end if;
end $$`

/** As its owner, with a tenant set for all of the session: '' for none. */
export async function connect(url: string, companyId = ''): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(
    `select set_config('turnkeep.company_id', $1, false), set_config('turnkeep.platform', 'web', false)`,
    [companyId],
  )
  return client
}

/** With the rights of the functions, which own nothing. */
export async function connectAsFunction(url: string, companyId: string): Promise<pg.Client> {
  const client = await connect(url, companyId)
  await client.query(MAY_BECOME_IT)
  await client.query('set role turnkeep_app')
  return client
}
