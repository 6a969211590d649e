import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DefaultStackSynthesizer, Duration, RemovalPolicy, Stack, Token, Validations } from 'aws-cdk-lib'
import * as iam from 'aws-cdk-lib/aws-iam'
import * as s3 from 'aws-cdk-lib/aws-s3'
import { BucketDeployment, CacheControl, Source } from 'aws-cdk-lib/aws-s3-deployment'
import { Construct } from 'constructs'
import type { PageSettings } from '../../lambdas/protocol/page-settings.ts'
import { closed } from '../data/private-bucket.ts'
import type { Settings } from '../settings.ts'
import { logGroup, writeTo } from './product-function.ts'

/** The names below assets/ hold a hash of the content. */
const FOR_EVER = [CacheControl.setPublic(), CacheControl.maxAge(Duration.days(365)), CacheControl.immutable()]
const ASKED_EACH_TIME = [CacheControl.noCache()]

/** The page's files, as they were built, in a bucket of their own that a deployment fills and a tear-down empties. */
export class Page extends Construct {
  readonly bucket: s3.Bucket

  constructor(scope: Construct, id: string) {
    super(scope, id)
    this.bucket = new s3.Bucket(this, 'Bucket', { ...closed, removalPolicy: RemovalPolicy.DESTROY })
    Validations.of(this.bucket).acknowledge({
      id: 'AwsSolutions-S1',
      reason: 'It holds what everybody may see, and only the distribution reads it.',
    })
  }

  /** Uploads `directory` and tells the page what differs between environments. */
  publish(
    directory: string,
    pageSettings: PageSettings,
    settings: Pick<Settings, 'logRetentionDays' | 'dataRemoval'>,
  ): void {
    const log = logGroup(this, settings)
    const role = new iam.Role(this, 'Role', { assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com') })
    role.addToPolicy(writeTo(log))
    // Files of the version before stay: pages that are open still load them.
    const common = {
      destinationBucket: this.bucket as s3.IBucket,
      role,
      logGroup: log,
      prune: false,
      retainOnDelete: false,
    }
    const assets = new BucketDeployment(this, 'Assets', {
      ...common,
      sources: [Source.asset(join(directory, 'assets'))],
      destinationKeyPrefix: 'assets',
      cacheControl: FOR_EVER,
    })
    const index = new BucketDeployment(this, 'Index', {
      ...common,
      sources: [
        Source.data('index.html', readFileSync(join(directory, 'index.html'), 'utf8')),
        Source.jsonData('settings.json', pageSettings),
      ],
      cacheControl: ASKED_EACH_TIME,
    })
    index.node.addDependency(assets) // which it names
    this.acknowledge(role)
  }

  /** The role and the function are CDK's own, and work only while a deployment does. */
  private acknowledge(role: iam.Role): void {
    const stack = Stack.of(this)
    const bucket = stack.getLogicalId(this.bucket.node.defaultChild as s3.CfnBucket)
    // As the rule writes it, which is not the same where settings pin the account.
    const known = (value: string, name: string) => (Token.isUnresolved(value) ? `<AWS::${name}>` : value)
    const place = `${known(stack.account, 'AccountId')}-${known(stack.region, 'Region')}`
    const qualifier = stack.synthesizer.bootstrapQualifier ?? DefaultStackSynthesizer.DEFAULT_QUALIFIER
    const assets = `arn:${known(stack.partition, 'Partition')}:s3:::cdk-${qualifier}-assets-${place}`
    const wildcards = [
      ...['Abort', 'DeleteObject', 'GetBucket', 'GetObject', 'List'].map((action) => `Action::s3:${action}*`),
      `Resource::<${bucket}.Arn>/*`,
      `Resource::${assets}/*`,
    ]
    Validations.of(role).acknowledge(
      ...wildcards.map((finding) => ({
        id: `AwsSolutions-IAM5[${finding}]`,
        reason:
          "CDK's own grants to its uploader: it copies from the assets of deployments to the page's bucket.",
      })),
    )
    const uploader = stack.node.children.find(({ node }) => node.id.startsWith('Custom::CDKBucketDeployment'))
    Validations.of(uploader as Construct).acknowledge({
      id: 'AwsSolutions-L1',
      reason: "CDK's own uploader, on the Python that this version of CDK has tested it with.",
    })
  }
}
