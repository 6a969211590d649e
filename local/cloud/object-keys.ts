/** S3 refuses keys above 1,024 bytes, and fauxqs takes them. https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html */
import type { buildApp } from 'fauxqs'

const MAX_KEY_BYTES = 1_024

export function refuseLongKeys(app: ReturnType<typeof buildApp>): void {
  app.addHook('preHandler', async ({ params }, reply) => {
    const { '*': key = '' } = params as { '*'?: string }
    if (Buffer.byteLength(key) <= MAX_KEY_BYTES) return
    return reply
      .code(400)
      .type('application/xml')
      .send(
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>KeyTooLongError</Code><Message>Your key is too long</Message></Error>',
      )
  })
}
