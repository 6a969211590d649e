/**
 * What functions ask of the local cloud, in IAM's words: an action, on a resource. Names of actions are those of the
 * Service Authorization Reference (https://docs.aws.amazon.com/service-authorization/latest/reference/): where one
 * action stands for several operations, as SendMessage does for SendMessageBatch, it is the action that is told.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { FUNCTION_HEADER } from '../function-header.ts'

/** One permission that a call needs. */
export type Need = {
  action: string
  /** An ARN. */
  resource: string
  /** What the call says beyond that, by the names of IAM's condition keys. */
  conditions?: Record<string, string>
}
export type Call = Need & { function: string }
/** Told of everything that a function asks for, before it is done. False: it is answered with AccessDenied. */
export type Gate = (call: Call) => boolean

/** The first need that the gate refuses. Calls without a mark are nobody's, and never refused. */
export function refused(gate: Gate, headers: IncomingHttpHeaders, needs: () => Need[]): Need | undefined {
  const name = headers[FUNCTION_HEADER]
  if (typeof name !== 'string') return undefined
  return needs().find((need) => !gate({ function: name, ...need }))
}

/** As AWS words it. */
export function denial({ action, resource }: Need): string {
  return `User is not authorized to perform: ${action} on resource: ${resource}`
}

/**
 * "Data API transparently calls Secrets Manager, which allows (or denies) the user's request for the secret."
 * https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/data-api.access.html
 */
export function needsOfStatement({ resourceArn = '', secretArn = '' }): Need[] {
  return [
    { action: 'rds-data:ExecuteStatement', resource: resourceArn },
    { action: 'secretsmanager:GetSecretValue', resource: secretArn },
  ]
}

/**
 * "Specifying SendMessage, DeleteMessage, or ChangeMessageVisibility … also grants permissions for the corresponding
 * batch versions of those actions": there is no IAM action for a batch.
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_AddPermission.html
 */
export function needsOfQueueCall(operation: string, queueArn: string): Need[] {
  return [{ action: `sqs:${operation.replace(/Batch$/, '')}`, resource: queueArn }]
}

export type BucketCall = {
  method: string
  bucket: string
  /** Empty: the call is about the bucket itself. */
  key: string
  query: Record<string, string>
}

// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
const OBJECT_ACTIONS: Record<string, string> = {
  GET: 's3:GetObject',
  HEAD: 's3:GetObject',
  PUT: 's3:PutObject',
  DELETE: 's3:DeleteObject',
}

/** Multipart uploads are begun, filled and completed as objects are written: there is no action of their own. */
const UPLOAD_QUERIES = new Set(['x-id', 'uploads', 'uploadId', 'partNumber'])

/** Throws for what no function has asked for yet: copies, deletion of many. */
export function needsOfBucketCall({ method, bucket, key, query }: BucketCall): Need[] {
  const resource = `arn:aws:s3:::${bucket}/${key}`
  const action = OBJECT_ACTIONS[method]
  const names = Object.keys(query).filter((name) => name !== 'x-id')
  if (key && action && names.length === 0) return [{ action, resource }]
  if (key && names.every((name) => UPLOAD_QUERIES.has(name))) {
    if (method === 'DELETE') return [{ action: 's3:AbortMultipartUpload', resource }]
    if (method === 'POST' || method === 'PUT') return [{ action: 's3:PutObject', resource }]
  }
  if (key && method === 'DELETE' && names.join() === 'versionId')
    return [{ action: 's3:DeleteObjectVersion', resource }]
  if (!key && 'versions' in query)
    return [{ action: 's3:ListBucketVersions', resource: `arn:aws:s3:::${bucket}` }]
  if (!key && method === 'HEAD') return [needOfList(bucket)]
  if (!key && query['list-type'] === '2') return [needOfList(bucket, { 's3:prefix': query.prefix ?? '' })]
  throw new Error(
    `local/cloud/calls.ts does not know which permission ${method} ${Object.keys(query)} needs.`,
  )
}

/**
 * "If the object you request doesn't exist, the error that Amazon S3 returns depends on whether you also have the
 * s3:ListBucket permission": without, it is AccessDenied and not NoSuchKey.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
 */
export function needOfList(bucket: string, conditions: Record<string, string> = {}): Need {
  return { action: 's3:ListBucket', resource: `arn:aws:s3:::${bucket}`, conditions }
}
