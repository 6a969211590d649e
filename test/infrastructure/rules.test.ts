/** cdk-nag's AwsSolutions and CloudFormation's own schemas, which a synthesis is checked against. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type IPolicyValidationPlugin, RemovalPolicy, Validations } from 'aws-cdk-lib'
import * as s3 from 'aws-cdk-lib/aws-s3'
import type * as sqs from 'aws-cdk-lib/aws-sqs'
import { AwsSolutionsChecks } from 'cdk-nag'
import type { IConstruct } from 'constructs'
import { expect, test } from 'vitest'
import { makeEnvironment } from '../harness/environment.ts'
import { synthesise } from '../harness/synthesis.ts'

interface Report {
  pluginReports: {
    violations: { ruleName: string; violatingConstructs: { constructPath: string }[] }[]
  }[]
}

/** The long way, by the app itself; the other environments are made by stacks.test.ts, which a broken rule ends. */
test('an environment keeps every rule, or says why not: not even a warning is left', async () => {
  const { pluginReports }: Report = JSON.parse(
    readFileSync(join(await synthesise(), 'validation-report.json'), 'utf8'),
  )
  const broken = pluginReports.flatMap(({ violations }) =>
    violations.map(({ ruleName, violatingConstructs }) => [
      ruleName,
      violatingConstructs.map(({ constructPath }) => constructPath),
    ]),
  )
  expect(broken).toEqual([])
}, 180_000)

test('every exception has a reason, and something that it excepts', () => {
  const broken: string[] = []
  let exceptions: { place: string; rule: string; reason: string }[] = []
  makeEnvironment('dev', undefined, ({ data }) => {
    Validations.of(data.node.root).addPlugins(withoutExceptions(broken))
    exceptions = exceptionsIn(data.node.root)
  })
  expect(exceptions.length).toBeGreaterThan(10)
  const needless = exceptions.filter(
    ({ place, rule }) => !broken.some((at) => at.startsWith(`${rule} ${place}`)),
  )
  expect(needless).toEqual([])
  for (const { reason } of exceptions) expect(reason.length).toBeGreaterThan(20)
}, 60_000)

/** Finds what is broken, whether it was excepted or not, and lets it pass. */
function withoutExceptions(broken: string[]): IPolicyValidationPlugin {
  const checks = new AwsSolutionsChecks()
  Object.assign(checks, { isAcknowledged: () => false })
  return {
    name: 'without exceptions',
    validate(context) {
      for (const { ruleName, violatingResources } of checks.validate(context).violations)
        broken.push(...violatingResources.map(({ constructPath }) => `${ruleName} ${constructPath}`))
      return { success: true, violations: [] }
    },
  }
}

const exceptionsIn = (root: IConstruct) =>
  root.node.findAll().flatMap(({ node }) =>
    node.metadata
      .filter(({ type }) => type === Validations.ACKNOWLEDGED_RULES_METADATA_KEY)
      .flatMap(({ data }) => Object.entries(data as Record<string, string>))
      .map(([rule, reason]) => ({ place: node.path, rule: rule.replace('Annotation::', ''), reason }))
      .filter(({ rule }) => rule.startsWith('AwsSolutions-')),
  )

test('a construct that breaks a rule ends the synthesis, and is named', () => {
  expect(() =>
    makeEnvironment('dev', undefined, ({ data }) => {
      new s3.Bucket(data, 'Careless', { removalPolicy: RemovalPolicy.DESTROY })
    }),
  ).toThrow(/turnkeep-dev-data\/Careless[\s\S]*AwsSolutions-S10/)
}, 60_000)

test('a property that CloudFormation would refuse ends the synthesis', () => {
  expect(() =>
    makeEnvironment('dev', undefined, ({ data }) => {
      const queue = data.turns.dead.node.defaultChild as sqs.CfnQueue
      queue.addPropertyOverride('VisibilityTimeOut', 30)
    }),
  ).toThrow(/VisibilityTimeOut/)
}, 60_000)
