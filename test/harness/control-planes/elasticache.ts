/** Serverless caches and their snapshots, in XML. */
import type { Answered, Refusal } from './control-planes.ts'

export interface KeptCache {
  status: 'creating' | 'available' | 'modifying' | 'deleting' | 'create-failed'
  /** Absent while it is being made. */
  endpoint?: { address: string; port: number }
  maxGigabytes: number
  maxEcpuPerSecond: number
  snapshotDays: number
}
export interface KeptSnapshot {
  cache: string
  status: string
  type: 'automated' | 'manual'
  at: Date
  expiresAt?: Date
  bytes?: number
}

export interface ElastiCache {
  caches: Map<string, KeptCache>
  snapshots: Map<string, KeptSnapshot>
  answer(action: string, input: Record<string, unknown>): Answered
  refused(refusal: Refusal): Answered
}

const NAMESPACE = 'http://elasticache.amazonaws.com/doc/2015-02-02/'
const PAGE = 50 // the most, and the default

export function createElastiCache(): ElastiCache {
  const caches = new Map<string, KeptCache>()
  const snapshots = new Map<string, KeptSnapshot>()
  const refused = ({ status, code, message }: Refusal): Answered =>
    xml(status, 'ErrorResponse', [
      element(
        'Error',
        element('Type', 'Sender') + element('Code', code) + element('Message', escaped(message)),
      ),
      element('RequestId', 'a5f0c0de-0000-4000-8000-000000000000'),
    ])
  const notFound = (name: unknown): Answered =>
    refused({
      status: 404,
      code: 'ServerlessCacheNotFoundFault',
      message: `Serverless Cache ${name} not found.`,
    })

  const actions: Record<string, (input: Record<string, unknown>) => Answered> = {
    DescribeServerlessCaches({ ServerlessCacheName: name }) {
      if (name !== undefined && !caches.has(String(name))) return notFound(name)
      const found = [...caches].filter(([known]) => name === undefined || known === name)
      const members = found.map(([known, cache]) => element('member', cacheXml(known, cache)))
      return result('DescribeServerlessCaches', element('ServerlessCaches', members.join('')))
    },
    DescribeServerlessCacheSnapshots({ ServerlessCacheName: name, NextToken = '0' }) {
      const found = [...snapshots].filter(([, { cache }]) => name === undefined || cache === name)
      const from = Number(NextToken)
      const page = found.slice(from, from + PAGE)
      const listed = page.map(([known, kept]) => element('ServerlessCacheSnapshot', snapshotXml(known, kept)))
      const more = from + PAGE < found.length ? element('NextToken', String(from + PAGE)) : ''
      return result(
        'DescribeServerlessCacheSnapshots',
        element('ServerlessCacheSnapshots', listed.join('')) + more,
      )
    },
    CreateServerlessCacheSnapshot({ ServerlessCacheName: cache, ServerlessCacheSnapshotName }) {
      const name = String(ServerlessCacheSnapshotName).toLowerCase()
      const kept = caches.get(String(cache))
      if (kept === undefined) return notFound(cache)
      if (kept.status !== 'available')
        return refused({
          status: 400,
          code: 'InvalidServerlessCacheStateFault',
          message: `Serverless cache ${cache} is not in a valid state to be snapshotted.`,
        })
      if (snapshots.has(name))
        return refused({
          status: 400,
          code: 'ServerlessCacheSnapshotAlreadyExistsFault',
          message: `A serverless cache snapshot named ${name} already exists.`,
        })
      const snapshot: KeptSnapshot = {
        cache: String(cache),
        status: 'creating',
        type: 'manual',
        at: new Date(),
      }
      snapshots.set(name, snapshot)
      return result(
        'CreateServerlessCacheSnapshot',
        element('ServerlessCacheSnapshot', snapshotXml(name, snapshot)),
      )
    },
  }
  return {
    caches,
    snapshots,
    refused,
    answer: (action, input) =>
      actions[action]?.(input) ??
      refused({ status: 400, code: 'InvalidAction', message: `Could not find operation ${action}` }),
  }
}

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
const element = (name: string, content: string | number): string => `<${name}>${content}</${name}>`
const xml = (status: number, root: string, parts: string[]): Answered => ({
  status,
  headers: { 'content-type': 'text/xml' },
  body: `<${root} xmlns="${NAMESPACE}">${parts.join('')}</${root}>`,
})
const result = (action: string, content: string): Answered =>
  xml(200, `${action}Response`, [
    element(`${action}Result`, content),
    element('ResponseMetadata', element('RequestId', 'a5f0c0de-0000-4000-8000-000000000000')),
  ])

function cacheXml(name: string, { status, endpoint, ...kept }: KeptCache): string {
  const limits =
    element('DataStorage', element('Maximum', kept.maxGigabytes) + element('Unit', 'GB')) +
    element('ECPUPerSecond', element('Maximum', kept.maxEcpuPerSecond))
  return [
    element('ServerlessCacheName', name),
    element('ARN', `arn:aws:elasticache:eu-west-1:111122223333:serverlesscache:${name}`),
    element('Status', status),
    element('Engine', 'valkey'),
    element('MajorEngineVersion', '9'),
    element('FullEngineVersion', '9.0'),
    element('CacheUsageLimits', limits),
    ...(endpoint
      ? [element('Endpoint', element('Address', endpoint.address) + element('Port', endpoint.port))]
      : []),
    element('SnapshotRetentionLimit', kept.snapshotDays),
    element('CreateTime', '2026-11-01T00:00:00.000Z'),
  ].join('')
}

function snapshotXml(name: string, { cache, status, type, at, expiresAt, bytes }: KeptSnapshot): string {
  const configuration =
    element('ServerlessCacheName', cache) + element('Engine', 'valkey') + element('MajorEngineVersion', '9')
  return [
    element('ServerlessCacheSnapshotName', name),
    element('ARN', `arn:aws:elasticache:eu-west-1:111122223333:serverlesscachesnapshot:${name}`),
    element('SnapshotType', type),
    element('Status', status),
    element('CreateTime', at.toISOString()),
    ...(expiresAt ? [element('ExpiryTime', expiresAt.toISOString())] : []),
    ...(bytes === undefined ? [] : [element('BytesUsedForCache', bytes)]),
    element('ServerlessCacheConfiguration', configuration),
  ].join('')
}
