/** Saves finished turns: batches of the turns queue, with partial failures. */

import middy from '@middy/core'
import type { SQSBatchResponse, SQSEvent } from 'aws-lambda'
import { saveItems } from '../messages/save.ts'
import { readConfig } from '../runtime/config.ts'
import { openLogger } from '../runtime/logger.ts'
import { openDatabase } from '../services/database.ts'

const config = readConfig(['databaseClusterArn', 'databaseSecretArn', 'databaseName'])
const log = openLogger('persist')
const database = openDatabase({
  clusterArn: config.databaseClusterArn,
  secretArn: config.databaseSecretArn,
  databaseName: config.databaseName,
})

/** An error here (Postgres cannot be reached) brings the whole batch back; refused records come back alone. */
export const handler = middy<SQSEvent, SQSBatchResponse>().handler(async (event) => {
  const refused = await saveItems(
    database,
    event.Records.map(({ messageId, body }) => ({ id: messageId, body })),
  )
  if (refused.length > 0) log.error('records refused', { messageIds: refused })
  log.info('batch saved', { saved: event.Records.length - refused.length, refused: refused.length })
  return { batchItemFailures: refused.map((itemIdentifier) => ({ itemIdentifier })) }
})
