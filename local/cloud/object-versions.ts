/**
 * ListObjectVersions, which fauxqs does not have, as S3 answers it for a bucket that is not versioned: each object is
 * one version, whose id is `null`. https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
 */
import type { buildApp } from 'fauxqs'

export interface ObjectList {
  listObjects(bucket: string, options: { prefix: string }): { objects: { key: string }[] }
}

export function answerVersions(app: ReturnType<typeof buildApp>, store: ObjectList): void {
  app.addHook('preHandler', async ({ method, params, query }, reply) => {
    const { bucket = '', '*': key = '' } = params as { bucket?: string; '*'?: string }
    const { versions, prefix = '' } = query as { versions?: string; prefix?: string }
    if (method !== 'GET' || key || versions === undefined) return
    const found = store.listObjects(bucket, { prefix }).objects.map(version)
    return reply
      .type('application/xml')
      .send(
        `<?xml version="1.0" encoding="UTF-8"?>\n<ListVersionsResult><IsTruncated>false</IsTruncated>${found.join('')}</ListVersionsResult>`,
      )
  })
}

const version = ({ key }: { key: string }): string =>
  `<Version><Key>${escaped(key)}</Key><VersionId>null</VersionId><IsLatest>true</IsLatest></Version>`

const escaped = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
