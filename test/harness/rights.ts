/** Exports and erasures in tests: asked for, waited for, read. */
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import type { ErasureReceipt, ExportAnswer } from '../../lambdas/protocol/rights.ts'
import type { ApiClient } from './client.ts'

const WITHIN_MS = 20_000
/** Deployed limits allow a hundred a minute. */
const LOOK_MS = 300

type Waited<Body> = { status: number; body: Body }

async function settled<Body extends { status: string }>(
  client: ApiClient,
  path: string,
  withinMs: number,
): Promise<Body> {
  for (const until = Date.now() + withinMs; ; await sleep(LOOK_MS)) {
    const { status, body }: Waited<Body> = await client.call<Body>('GET', path)
    if (status !== 200) throw new Error(`${path} answered ${status} ${JSON.stringify(body)}`)
    if (!['queued', 'running'].includes(body.status)) return body
    if (Date.now() > until) throw new Error(`${path} is ${body.status} after ${withinMs} ms`)
  }
}

export const exportEnded = (client: ApiClient, id: string, withinMs = WITHIN_MS): Promise<ExportAnswer> =>
  settled<ExportAnswer>(client, `/api/exports/${id}`, withinMs)

export const erasureEnded = (client: ApiClient, id: string, withinMs = WITHIN_MS): Promise<ErasureReceipt> =>
  settled<ErasureReceipt>(client, `/api/erasures/${id}`, withinMs)

export type Line = Record<string, unknown> & { kind: string }

/** The lines of an export, as whoever has its link gets them. */
export async function download({ download: link }: Pick<ExportAnswer, 'download'>): Promise<Line[]> {
  const response = await fetch(link?.url ?? '')
  if (response.status !== 200) throw new Error(`the download answered ${response.status}`)
  const text = gunzipSync(Buffer.from(await response.arrayBuffer())).toString()
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

export async function exported(
  client: ApiClient,
  userId: string,
): Promise<{ answer: ExportAnswer; lines: Line[] }> {
  const { status, body } = await client.call<{ exportId: string }>(
    'POST',
    `/api/users/${encodeURIComponent(userId)}/export`,
  )
  if (status !== 202) throw new Error(`the export answered ${status}`)
  const answer = await exportEnded(client, body.exportId)
  return { answer, lines: answer.download ? await download(answer) : [] }
}

export async function erased(
  client: ApiClient,
  userId: string,
  withinMs = WITHIN_MS,
): Promise<ErasureReceipt> {
  const { status, body } = await client.call<{ erasureId: string }>(
    'DELETE',
    `/api/users/${encodeURIComponent(userId)}`,
  )
  if (status !== 202) throw new Error(`the erasure answered ${status}`)
  return erasureEnded(client, body.erasureId, withinMs)
}
