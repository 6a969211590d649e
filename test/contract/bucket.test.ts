/** The bucket's service against the local cloud's S3: what handlers rely on, whatever size an object has. */
import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Bucket, openBucket } from '../../lambdas/services/bucket.ts'
import { resources } from '../../lib/resources.ts'
import { type QueueAndBucket, startQueueAndBucket } from '../../local/cloud/queue-and-bucket.ts'

let cloud: QueueAndBucket
let bucket: Bucket
beforeAll(async () => {
  cloud = await startQueueAndBucket(resources)
  Object.assign(process.env, {
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_ENDPOINT_URL_S3: cloud.address,
  })
  bucket = openBucket('content')
})
afterAll(() => cloud.stop())

const MEGABYTE = 1024 * 1024
const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** In pieces whose borders are not those of the parts. Returns the ids of uploads that were begun. */
async function upload(key: string, bytes: Buffer, pieceBytes = 700_001): Promise<string[]> {
  const begun: string[] = []
  const target = bucket.upload(key, {
    contentType: 'application/gzip',
    onBegun: async (id) => void begun.push(id),
  })
  for (let from = 0; from < bytes.length; from += pieceBytes)
    await target.write(bytes.subarray(from, from + pieceBytes))
  await target.close()
  return begun
}

async function whole(key: string): Promise<Buffer | undefined> {
  const stream = await bucket.getStream(key)
  return stream && Buffer.concat(await Array.fromAsync(stream))
}

test.each([
  ['nothing', 0, 0],
  ['one byte', 1, 0],
  ['a part', 8 * MEGABYTE, 0],
  ['a part and a byte', 8 * MEGABYTE + 1, 1],
  ['three parts', 24 * MEGABYTE, 1],
  ['more than three parts', 25 * MEGABYTE + 17, 1],
])('an upload of %s is read back as it was written', async (name, size, uploads) => {
  const bytes = randomBytes(size)
  expect(await upload(name, bytes)).toHaveLength(uploads)
  expect(hashOf((await whole(name)) ?? randomBytes(1))).toBe(hashOf(bytes))
})

test('one write that is larger than several parts is no different', async () => {
  const bytes = randomBytes(20 * MEGABYTE)
  await upload('one write', bytes, bytes.length)
  expect(hashOf((await whole('one write')) ?? randomBytes(1))).toBe(hashOf(bytes))
})

test('a range is exactly the bytes that were asked for, and what there is of them at the end', async () => {
  await upload('가 나.gz', Buffer.from('0123456789'))
  const range = async (offset: number, length: number) =>
    (await bucket.getRange('가 나.gz', { offset, length }))?.toString()
  expect(await range(3, 4)).toBe('3456')
  expect(await range(8, 4)).toBe('89')
  expect(await range(10, 1)).toBe('')
  expect(await range(99, 1)).toBe('')
})

test('what is not there is undefined, not a failure', async () => {
  expect(await bucket.getRange('nowhere', { offset: 0, length: 1 })).toBeUndefined()
  expect(await bucket.getStream('nowhere')).toBeUndefined()
})

test('an upload that is given up leaves no object, and giving it up again is no failure', async () => {
  let id = ''
  const abandoned = bucket.upload('abandoned', {
    contentType: 'application/gzip',
    onBegun: async (begun) => {
      id = begun
    },
  })
  await abandoned.write(randomBytes(9 * MEGABYTE))
  await bucket.abortUpload('abandoned', id)
  await expect(abandoned.close()).rejects.toMatchObject({ code: 'unavailable' })
  expect(await bucket.getStream('abandoned')).toBeUndefined()
  await bucket.abortUpload('abandoned', id)
})

test('deleting all versions removes that object alone, and again nothing', async () => {
  await bucket.put('a/<one> & "more"', 'text')
  await bucket.put('a/<one> & "more" of it', 'text')
  await bucket.deleteVersions('a/<one> & "more"')
  await bucket.deleteVersions('a/<one> & "more"')
  expect(await bucket.get('a/<one> & "more"')).toBeUndefined()
  expect(await bucket.get('a/<one> & "more" of it')).toBe('text')
})

test('a key above 1,024 bytes is refused, as S3 refuses it', async () => {
  await bucket.put('가'.repeat(341), 'fits')
  expect(await bucket.get('가'.repeat(341))).toBe('fits')
  await expect(bucket.put('가'.repeat(342), 'does not')).rejects.toMatchObject({ code: 'unavailable' })
})

test('a bucket that does not exist is unavailable to all of it', async () => {
  const other = openBucket('another-bucket')
  const refused = { code: 'unavailable' }
  await expect(other.getRange('key', { offset: 0, length: 1 })).rejects.toMatchObject(refused)
  await expect(other.getStream('key')).rejects.toMatchObject(refused)
  await expect(other.deleteVersions('key')).rejects.toMatchObject(refused)
  const target = other.upload('key', { contentType: 'application/gzip', onBegun: async () => undefined })
  await target.write(Buffer.from('x'))
  await expect(target.close()).rejects.toMatchObject(refused)
})
