import { describe, expect, test } from 'vitest'
import type { Stack } from '../harness/assembly.ts'
import { resolve } from '../harness/cloudformation.ts'
import { scopeOf } from '../harness/physical-values.ts'
import { localName, variablesOf } from '../harness/template.ts'

const data: Stack = {
  name: 'data',
  paths: { Turns: 'Queues/turns', Login: 'Database/Login', Table: 'Table' },
  assets: {},
  template: {
    Resources: {
      Turns: { Type: 'AWS::SQS::Queue' },
      Login: { Type: 'AWS::SecretsManager::Secret' },
      Table: { Type: 'AWS::DynamoDB::Table' },
    },
    Outputs: {
      Login: { Value: { Ref: 'Login' } },
      Turns: { Value: { Ref: 'Turns' }, Export: { Name: 'turns' } },
    },
  },
}
const service: Stack = {
  name: 'service',
  paths: { Chat: 'chat/Function' },
  assets: {},
  template: {
    Resources: { Chat: { Type: 'AWS::Lambda::Function' } },
    Parameters: { Version: { Type: 'String', Default: '6' } },
  },
}
const value = (said: unknown, stack = service) => resolve(said, scopeOf(stack, [data, service], localName))

describe('a reference', () => {
  test.each([
    ['a queue', { Ref: 'Turns' }, data, 'https://sqs.us-east-1.amazonaws.com/000000000000/turns'],
    [
      'a function',
      { 'Fn::GetAtt': ['Chat', 'Arn'] },
      service,
      'arn:aws:lambda:us-east-1:000000000000:function:chat',
    ],
    [
      'another stack’s output',
      { 'Fn::GetStackOutput': { StackName: 'data', OutputName: 'Login' } },
      service,
      'arn:aws:secretsmanager:us-east-1:000000000000:secret:turnkeep-app',
    ],
    ['another stack’s export', { 'Fn::ImportValue': 'turns' }, service, expect.stringContaining('/turns')],
    ['a parameter', { Ref: 'Version' }, service, '6'],
    ['the stack', { Ref: 'AWS::StackName' }, service, 'service'],
  ])('to %s becomes what the local cloud knows', (_, said, stack, expected) => {
    expect(value(said, stack)).toEqual(expected)
  })

  test.each([
    ['a resource that is not there', { Ref: 'Turns' }, service],
    ['a kind of resource that nobody knows here', { Ref: 'Table' }, data],
    ['an attribute that nobody knows here', { 'Fn::GetAtt': ['Turns', 'Color'] }, data],
    [
      'an output that is not there',
      { 'Fn::GetStackOutput': { StackName: 'data', OutputName: 'x' } },
      service,
    ],
    ['a stack that is not there', { 'Fn::GetStackOutput': { StackName: 'x', OutputName: 'Login' } }, service],
    ['an export that is not there', { 'Fn::ImportValue': 'x' }, service],
    ['a pseudo parameter that nobody knows here', { Ref: 'AWS::NotificationARNs' }, service],
  ])('to %s is refused', (_, said, stack) => {
    expect(() => value(said, stack)).toThrow()
  })
})

test('a variable that would hold a secret is refused', () => {
  const variables = { KEY: '{{resolve:secretsmanager:arn:aws:secretsmanager:x:SecretString:::}}' }
  const one = { variables } as never
  expect(() => variablesOf(one, 'http://127.0.0.1:1')).toThrow('KEY would hold a secret')
})
