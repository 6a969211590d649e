import { expect, test } from 'vitest'
import { manifestKeyOf, newObjectKey } from '../../lambdas/ageing/archive-object.ts'
import { pointerTo } from '../../lambdas/messages/large-text.ts'
import { exportKey } from '../../lambdas/rights/user-jobs.ts'
import { tenantIn, tenantPath } from '../../lambdas/tenants/tenant-path.ts'
import { record } from '../harness/records.ts'

const TENANTS = [
  { companyId: 'acme', platform: 'web' },
  { companyId: '=', platform: 'a/b % 하늘' },
  { companyId: '회'.repeat(52), platform: '사'.repeat(52) },
]
const LONG = [
  { companyId: '회'.repeat(53), platform: '사'.repeat(53) },
  { companyId: '회'.repeat(200), platform: 'web' },
  { companyId: 'acme', platform: '회'.repeat(200) },
]

test.each(TENANTS)('the path of $companyId says whose it is', (tenant) => {
  expect(tenantPath(tenant)).toBe(Object.values(tenant).map(encodeURIComponent).join('/'))
  expect(tenantIn(tenantPath(tenant))).toEqual(tenant)
})

test.each(['.', '..'])('a link to an object of the tenant %s leads there', (dots) => {
  const tenant = { companyId: dots, platform: dots }
  const path = tenantPath(tenant)
  expect(tenantIn(path)).toEqual(tenant)
  // As a link to an object has its key.
  const link = path.split('/').map(encodeURIComponent).join('/')
  expect(new URL(`https://bucket/${link}`).pathname).toBe(`/${link}`)
})

test('names that are too long are hashed, each tenant’s to another path, which says nothing', () => {
  const paths = LONG.map(tenantPath)
  expect(new Set(paths).size).toBe(LONG.length)
  for (const path of paths) {
    expect(path).toMatch(/^=[0-9a-f]{64}\/=[0-9a-f]{64}$/)
    expect(tenantIn(path)).toBeUndefined()
  }
})

test('no key is longer than S3 takes one, whatever a tenant is called', () => {
  for (let letters = 90; letters <= 400; letters += 1) {
    const tenant = {
      companyId: '회'.repeat(Math.min(letters, 200)),
      platform: '사'.repeat(Math.max(letters - 200, 1)),
    }
    const key = newObjectKey(tenant)
    const text = pointerTo(record({ company_id: tenant.companyId, platform: tenant.platform, content: 'x' }))
    for (const one of [
      key,
      manifestKeyOf(key),
      `${exportKey(tenant, record().id)}.rest`,
      text.content_key ?? '',
    ])
      expect(one.length).toBeLessThanOrEqual(1_024)
  }
})
