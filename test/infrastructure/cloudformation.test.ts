import { describe, expect, test } from 'vitest'
import { resolve, type Scope } from '../harness/cloudformation.ts'

const scope: Scope = {
  ref: (name) => {
    if (name === 'AWS::Region') return 'us-east-1'
    if (name === 'Turns') return 'https://queue/turns'
    throw new Error(`nothing is named ${name}`)
  },
  attribute: (resource, attribute) => `${resource}!${attribute}`,
  imported: (name) => `imported ${name}`,
  output: (stack, name) => `${stack}: ${name}`,
}

/** With CloudFormation's own brackets, which look like a template literal's. */
const sub = (text: string): string => text.replaceAll('<', '${').replaceAll('>', '}')

describe('what a template says', () => {
  test.each([
    ['a resource', { Ref: 'Turns' }, 'https://queue/turns'],
    ['an attribute', { 'Fn::GetAtt': ['Turns', 'Arn'] }, 'Turns!Arn'],
    ['an attribute of an attribute', { 'Fn::GetAtt': 'Db.Secret.Arn' }, 'Db!Secret.Arn'],
    ['another stack’s export', { 'Fn::ImportValue': { 'Fn::Join': ['-', ['a', 'b']] } }, 'imported a-b'],
    [
      'another stack’s output',
      { 'Fn::GetStackOutput': { StackName: 'data', OutputName: 'Url' } },
      'data: Url',
    ],
    ['a join', { 'Fn::Join': ['/', ['x', { Ref: 'AWS::Region' }, 3]] }, 'x/us-east-1/3'],
    ['a part', { 'Fn::Select': [2, { 'Fn::Split': ['/', { Ref: 'Turns' }] }] }, 'queue'],
    [
      'a substitution',
      { 'Fn::Sub': sub('a <Turns> <Db.Arn> <!kept>') },
      sub('a https://queue/turns Db!Arn <kept>'),
    ],
    ['its own values', { 'Fn::Sub': [sub('<One>'), { One: { Ref: 'AWS::Region' } }] }, 'us-east-1'],
    ['what stands deeper', { a: [{ b: { Ref: 'Turns' } }] }, { a: [{ b: 'https://queue/turns' }] }],
  ])('%s is resolved', (_, value, expected) => {
    expect(resolve(value, scope)).toEqual(expected)
  })

  test.each([
    ['a function that nobody knows', { 'Fn::Cidr': ['10.0.0.0/8', 1, 8] }],
    ['a name that is not there', { Ref: 'Gone' }],
    ['a part that is not there', { 'Fn::Select': [9, ['one']] }],
    ['a list where text is wanted', { 'Fn::Join': ['', [['a']]] }],
  ])('%s is refused', (_, value) => {
    expect(() => resolve(value, scope)).toThrow()
  })
})
