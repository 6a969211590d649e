import { describe, expect, test } from 'vitest'
import type { Call } from '../../local/cloud/calls.ts'
import { decide, type Policies, readStatements, unused } from '../harness/policies.ts'

const QUEUE = 'arn:aws:sqs:us-east-1:000000000000:turns'
const BUCKET = 'arn:aws:s3:::content'
const ROLE = 'arn:aws:iam::000000000000:role/chat'

const statement = (Action: string | string[], Resource: string | string[], more: object = {}) => ({
  Effect: 'Allow',
  Action,
  Resource,
  ...more,
})
const policies = (Statement: object[], onResource: object[] = []): Policies => ({
  roles: { chat: readStatements('ChatPolicy', { Statement }) },
  roleArns: { chat: ROLE },
  resources: readStatements('BucketPolicy', { Statement: onResource }),
})
const call = (action: string, resource: string, conditions = {}): Call => ({
  function: 'chat',
  action,
  resource,
  conditions,
})
const insecure = {
  Effect: 'Deny',
  Principal: { AWS: '*' },
  Action: 's3:*',
  Resource: [BUCKET, `${BUCKET}/*`],
}

describe('a call', () => {
  const chat = policies(
    [
      statement('sqs:SendMessage', QUEUE),
      statement(['s3:GetObject', 's3:Put*'], `${BUCKET}/content/*`),
      statement('s3:ListBucket', BUCKET, { Condition: { StringLike: { 's3:prefix': 'spool/*' } } }),
    ],
    [
      { ...insecure, Condition: { Bool: { 'aws:SecureTransport': 'false' } } },
      { ...insecure, Condition: { NumericLessThan: { 's3:TlsVersion': 1.2 } } },
      {
        Effect: 'Allow',
        Principal: { Service: 'events.amazonaws.com' },
        Action: 'sqs:ReceiveMessage',
        Resource: QUEUE,
      },
      { Effect: 'Allow', Principal: { AWS: ROLE }, Action: 'sqs:PurgeQueue', Resource: QUEUE },
    ],
  )

  test.each([
    ['as it is written', call('sqs:SendMessage', QUEUE)],
    ['below a folder', call('s3:GetObject', `${BUCKET}/content/acme/web/1`)],
    ['by the beginning of its name', call('s3:PutObject', `${BUCKET}/content/1`)],
    ['whatever the case of its name', call('SQS:sendmessage', QUEUE)],
    ['under its condition', call('s3:ListBucket', BUCKET, { 's3:prefix': 'spool/2026' })],
    ['by the resource’s own policy', call('sqs:PurgeQueue', QUEUE)],
  ])('is allowed %s', (_, allowed) => {
    expect(decide(chat, allowed)).toMatchObject({ allowed: true })
  })

  test.each([
    ['of another action', call('sqs:DeleteMessage', QUEUE)],
    ['on another resource', call('sqs:SendMessage', `${QUEUE}-dead`)],
    ['outside the folder', call('s3:GetObject', `${BUCKET}/spool/1`)],
    ['on the bucket instead of its objects', call('s3:GetObject', BUCKET)],
    ['outside its condition', call('s3:ListBucket', BUCKET, { 's3:prefix': 'content/' })],
    ['without what its condition asks for', call('s3:ListBucket', BUCKET)],
    ['that a policy allows to a service', call('sqs:ReceiveMessage', QUEUE)],
    ['of a function without a role', { ...call('sqs:SendMessage', QUEUE), function: 'api' }],
  ])('%s is denied', (_, denied) => {
    expect(decide(chat, denied)).toMatchObject({ allowed: false })
  })

  test('that is denied anywhere is denied, whatever allows it', () => {
    const both = policies([statement('s3:GetObject', `${BUCKET}/*`)], [insecure])
    expect(decide(both, call('s3:GetObject', `${BUCKET}/content/1`))).toEqual({
      allowed: false,
      why: 'denied by BucketPolicy',
    })
  })

  test.each([
    ['a condition', { Condition: { IpAddress: { 'aws:SourceIp': '10.0.0.0/8' } } }],
    ['a key', { Condition: { StringEquals: { 'aws:PrincipalTag/a': 'b' } } }],
    ['a policy variable', { Resource: `${BUCKET}/$\{aws:username}/*` }],
    ['an element', { NotAction: 's3:GetObject' }],
  ])('is not judged by %s that is not known', (_, more) => {
    const judge = () =>
      decide(policies([statement('s3:GetObject', `${BUCKET}/*`, more)]), call('s3:GetObject', `${BUCKET}/1`))
    expect(judge).toThrow('not known here')
  })
})

describe('a permission', () => {
  const needs = [call('sqs:SendMessage', QUEUE), call('s3:GetObject', `${BUCKET}/content/1`)]

  test('that is used for each of its actions and resources is fine', () => {
    const used = readStatements('P', {
      Statement: [statement('sqs:SendMessage', QUEUE), statement('s3:GetObject', `${BUCKET}/content/*`)],
    })
    expect(unused(used, needs)).toEqual([])
  })

  test('is named for each action and each resource that nothing uses', () => {
    const Statement = statement(['sqs:SendMessage', 'sqs:DeleteMessage'], [QUEUE, `${QUEUE}-dead`])
    expect(unused(readStatements('P', { Statement }), needs)).toEqual([
      `P: sqs:SendMessage on ${QUEUE}-dead`,
      `P: sqs:DeleteMessage on ${QUEUE}`,
      `P: sqs:DeleteMessage on ${QUEUE}-dead`,
    ])
  })

  test('for actions that are not named one by one counts as unused', () => {
    expect(unused(readStatements('P', { Statement: statement('sqs:Send*', QUEUE) }), needs)).toHaveLength(1)
  })

  test('to deny is never unused', () => {
    const Statement = { ...statement('s3:*', '*'), Effect: 'Deny' }
    expect(unused(readStatements('P', { Statement }), needs)).toEqual([])
  })
})
