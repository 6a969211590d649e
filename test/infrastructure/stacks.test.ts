/** Facts about the templates that must not change by accident. */
import { beforeAll, describe, expect, test } from 'vitest'
import { resources } from '../../lib/resources.ts'
import { environments } from '../../lib/settings.ts'
import { type Environment, makeEnvironment, ofType } from '../harness/environment.ts'

const NAMES = Object.keys(environments)
const KEPT = NAMES.filter((name) => name !== 'dev')
/** Phase 2, an issuer of one's own, a domain, a web ACL, an account: everything that is optional. */
const OPTIONS = 'options'

const RESTORED = {
  clusterArn: 'arn:aws:rds:ap-northeast-2:111122223333:cluster:turnkeep-restored',
  ownerSecretArn: 'arn:aws:secretsmanager:ap-northeast-2:111122223333:secret:rds!cluster-restored',
}

const made: Record<string, Environment> = {}
beforeAll(() => {
  for (const name of NAMES) made[name] = makeEnvironment(name)
  made[OPTIONS] = makeEnvironment('prod', {
    account: '111122223333',
    region: 'ap-northeast-2',
    phase: 2,
    cache: { maxGigabytes: 1, maxEcpuPerSecond: 1_000, snapshotDays: 1 },
    signIn: {
      issuer: 'https://login.example.com/tenant',
      audience: 'turnkeep',
      claims: { companyId: 'org' },
      page: { clientId: 'page', token: 'access', origins: ['https://tokens.example.com'] },
    },
    alarmEmail: 'on-call@example.com',
    domain: {
      name: 'chat.example.com',
      certificateArn: 'arn:aws:acm:us-east-1:111122223333:certificate/11111111-2222-3333-4444-555555555555',
    },
    webAclArn: 'arn:aws:wafv2:us-east-1:111122223333:global/webacl/all/11111111-2222-3333-4444-555555555555',
    model: { ...environments.prod.model, allowed: ['model-b', 'model-c'] },
    answers: { systemPrompt: 'Be brief.', historyMessages: 10 },
    limits: { userRequestsPerMinute: 20, tenantRequestsPerMinute: 2_000, addressRequestsPerMinute: 0 },
    budgets: { userTokensPerDay: 100_000, tenantTokensPerMonth: 0 },
    watchedWords: [],
    database: { ...environments.prod.database, restored: RESTORED },
  })
}, 180_000)

const environment = (name: string): Environment => made[name] as Environment
const text = (value: unknown): string => JSON.stringify(value)
const one = (name: string, part: 'data' | 'service', type: string) => {
  const [found, ...more] = ofType(environment(name)[part], type)
  if (!found || more.length > 0) throw new Error(`${more.length + (found ? 1 : 0)} of ${type}`)
  return found.properties as Record<string, unknown>
}

/** A new id is a new, empty resource, and the old one is deleted or left behind. */
const STATEFUL: Record<string, string> = {
  DatabaseCluster5B53A178: 'AWS::RDS::DBCluster',
  DatabaseClusterWriterD43085C6: 'AWS::RDS::DBInstance',
  DatabaseLoginD8DAF3B1: 'AWS::SecretsManager::Secret',
  SecretsModelKey0DB4AAD3: 'AWS::SecretsManager::Secret',
  SecretsResumeC5CDD91F: 'AWS::SecretsManager::Secret',
  SecretsOrigin297BAAC6: 'AWS::SecretsManager::Secret',
  SecretsPseudonym09204437: 'AWS::SecretsManager::Secret',
  Queuesturns6CDFEC23: 'AWS::SQS::Queue',
  Queuesturnsdead105F045A: 'AWS::SQS::Queue',
  Queuesjobs5151D1A7: 'AWS::SQS::Queue',
  QueuesjobsdeadA63DFA95: 'AWS::SQS::Queue',
  ContentBucketDD05A3B9: 'AWS::S3::Bucket',
  FilesBucket7C17EE2E: 'AWS::S3::Bucket',
  UsersPoolBFC35D3B: 'AWS::Cognito::UserPool',
}

describe.each(NAMES)('%s', (name) => {
  test('what holds data has the logical id that it always had', () => {
    const types = new Set(Object.values(STATEFUL))
    const found = Object.entries(environment(name).data.Resources)
      .filter(([id, { Type }]) => types.has(Type) && !/^DatabaseClusterReader/.test(id))
      .map(([id, { Type }]) => [id, Type])
    expect(Object.fromEntries(found)).toEqual(STATEFUL)
  })

  test('is far from the limits of CloudFormation: 1 MB and 500 resources a template', () => {
    const { data, service, sizes } = environment(name)
    for (const template of [data, service]) expect(Object.keys(template.Resources).length).toBeLessThan(200)
    expect(Math.max(sizes.data, sizes.service)).toBeLessThan(300_000)
  })

  test('nothing is open to the world: no address range, no gateway, no public bucket, no public database', () => {
    const { data, service } = environment(name)
    expect(text([data, service])).not.toMatch(/0\.0\.0\.0\/0|::\/0/)
    const gateways = /AWS::EC2::(InternetGateway|NatGateway|EIP|TransitGateway\w*|VPCGatewayAttachment)/
    expect(Object.values(data.Resources).filter(({ Type }) => gateways.test(Type))).toEqual([])
    for (const bucket of [...ofType(data, 'AWS::S3::Bucket'), ...ofType(service, 'AWS::S3::Bucket')])
      expect(bucket.properties.PublicAccessBlockConfiguration).toEqual({
        BlockPublicAcls: true,
        BlockPublicPolicy: true,
        IgnorePublicAcls: true,
        RestrictPublicBuckets: true,
      })
    for (const { properties } of ofType(data, 'AWS::RDS::DBInstance'))
      expect(properties.PubliclyAccessible).toBe(false)
  })

  test('everything is encrypted where it lies', () => {
    const { data, service } = environment(name)
    expect(one(name, 'data', 'AWS::RDS::DBCluster').StorageEncrypted).toBe(true)
    for (const template of [data, service]) {
      for (const { properties } of ofType(template, 'AWS::S3::Bucket'))
        expect(text(properties.BucketEncryption)).toContain('AES256')
      for (const { properties } of ofType(template, 'AWS::SQS::Queue'))
        expect(properties.SqsManagedSseEnabled).toBe(true)
    }
  })

  test('everything takes TLS alone', () => {
    const { data, service } = environment(name)
    const [parameters] = ofType(data, 'AWS::RDS::DBClusterParameterGroup')
    expect(parameters?.properties.Parameters).toMatchObject({ 'rds.force_ssl': '1' })
    for (const [kind, policy] of [
      ['AWS::S3::Bucket', 'AWS::S3::BucketPolicy'],
      ['AWS::SQS::Queue', 'AWS::SQS::QueuePolicy'],
    ] as const)
      for (const template of [data, service]) {
        const refusing = ofType(template, policy).filter(({ properties }) =>
          text(properties.PolicyDocument).includes(
            '{"Bool":{"aws:SecureTransport":"false"}},"Effect":"Deny"',
          ),
        )
        expect(refusing).toHaveLength(ofType(template, kind).length)
      }
  })

  test('no template holds a secret: values are made up by AWS, and referred to', () => {
    const { data, service } = environment(name)
    for (const { properties } of ofType(data, 'AWS::SecretsManager::Secret')) {
      expect(properties).not.toHaveProperty('SecretString')
      expect(properties).toHaveProperty('GenerateSecretString')
    }
    const cluster = one(name, 'data', 'AWS::RDS::DBCluster')
    expect(cluster).not.toHaveProperty('MasterUserPassword')
    expect(cluster.ManageMasterUserPassword).toBe(true)
    expect(
      text(service).match(
        /"HeaderName":"x-turnkeep-origin","HeaderValue":\{"Fn::Join":\["",\["\{\{resolve:secretsmanager:/g,
      ),
    ).toHaveLength(2)
    for (const { properties } of ofType(service, 'AWS::Lambda::Function'))
      expect(text(properties.Environment ?? {})).not.toContain('{{resolve:')
  })

  test("no role has a policy of AWS's or a wildcard among its actions, CDK's own helpers aside", () => {
    const { data, service } = environment(name)
    const helpers = /^(Custom\w*CustomResourceProviderRole|AWSCDKTrigger\w+|PageRole)/
    for (const template of [data, service]) {
      const roles = ofType(template, 'AWS::IAM::Role').filter(({ id }) => !helpers.test(id))
      const policies = ofType(template, 'AWS::IAM::Policy').filter(({ id }) => !helpers.test(id))
      expect(roles.filter(({ properties }) => properties.ManagedPolicyArns)).toEqual([])
      expect(ofType(template, 'AWS::IAM::ManagedPolicy')).toEqual([])
      for (const { properties } of policies) {
        expect(text(properties.PolicyDocument)).not.toMatch(/"Action":("[^"]*\*|\[[^\]]*\*)/)
        expect(text(properties.PolicyDocument)).not.toContain('"Resource":"*"')
      }
    }
  })

  test('nothing has a name that two environments or accounts could fight for', () => {
    const { data, service } = environment(name)
    const names = [
      'BucketName',
      'QueueName',
      'FunctionName',
      'RoleName',
      'LogGroupName',
      'DBClusterIdentifier',
      'DomainName',
      'UserPoolName',
    ]
    const makers =
      /^AWS::(S3::Bucket|SQS::Queue|Lambda::Function|IAM::Role|Logs::LogGroup|RDS::DBCluster|Cognito::UserPool)$/
    for (const { Resources } of [data, service])
      for (const { Type, Properties = {} } of Object.values(Resources))
        if (makers.test(Type)) for (const property of names) expect(Properties).not.toHaveProperty(property)
    for (const output of Object.values(data.Outputs ?? {}))
      expect(text(output.Export?.Name ?? '')).toMatch(new RegExp(`^"turnkeep-${name}-data:`))
  })

  test('the functions are as lib/resources.ts says, on the newest runtime, with logs that end', () => {
    const { service } = environment(name)
    for (const [id, { memoryMb, timeoutSeconds }] of Object.entries(resources.functions)) {
      const found = ofType(service, 'AWS::Lambda::Function').filter(
        ({ properties }) => properties.Description === `Turnkeep: ${id}`,
      )
      expect(found.map(({ properties }) => properties)).toEqual([
        expect.objectContaining({
          Runtime: 'nodejs24.x',
          Architectures: ['arm64'],
          Handler: 'index.handler',
          MemorySize: memoryMb,
          Timeout: timeoutSeconds,
          LoggingConfig: expect.objectContaining({ LogFormat: 'JSON' }),
        }),
      ])
    }
    const groups = ofType(service, 'AWS::Logs::LogGroup')
    expect(groups.length).toBeGreaterThanOrEqual(Object.keys(resources.functions).length)
    const { logRetentionDays } = environments[name as keyof typeof environments]
    for (const { properties } of groups) expect(properties.RetentionInDays).toBe(logRetentionDays)
  })

  test('the schema is brought up to date before any function that needs it', () => {
    const { service } = environment(name)
    const [run] = ofType(service, 'Custom::Trigger')
    const waiting = ofType(service, 'AWS::Lambda::Function')
      .filter(({ resource }) => (resource.DependsOn ?? []).includes(run?.id ?? ''))
      .map(({ properties }) => properties.Description)
    expect(waiting).toEqual(
      ['chat', 'api', 'persist', 'maintain', 'archive', 'jobs'].map((id) => `Turnkeep: ${id}`),
    )
    // A version of the function, so that it runs again when code or SQL changed.
    expect(text(run?.properties.HandlerArn)).toMatch(/migrateFunctionCurrentVersion/)
  })

  test('the queues feed persist and jobs, the clock maintain, each with its limits', () => {
    const sources = ofType(environment(name).service, 'AWS::Lambda::EventSourceMapping')
    const common = {
      FunctionResponseTypes: ['ReportBatchItemFailures'],
      ScalingConfig: { MaximumConcurrency: 2 },
    }
    expect(sources.map(({ properties }) => properties)).toMatchObject([
      { ...common, BatchSize: 1000, MaximumBatchingWindowInSeconds: 1 },
      { ...common, BatchSize: 1, MaximumBatchingWindowInSeconds: 0 },
    ])
    const schedule = (expression: string, eventAge: number) => ({
      ScheduleExpression: expression,
      Target: {
        RetryPolicy: { MaximumEventAgeInSeconds: eventAge, MaximumRetryAttempts: 3 },
        DeadLetterConfig: { Arn: expect.anything() },
      },
    })
    const propertiesOf = (type: string) =>
      ofType(environment(name).service, type).map(({ properties }) => properties)
    // Lambda keeps what it cannot run for six hours at most.
    expect(propertiesOf('AWS::Scheduler::Schedule')).toMatchObject([
      schedule('rate(5 minutes)', 300),
      schedule('rate(1 day)', 6 * 3600),
    ])
    for (const { MaximumRetryAttempts } of propertiesOf('AWS::Lambda::EventInvokeConfig'))
      expect(MaximumRetryAttempts).toBe(0)
  })

  test('persist and jobs may put a message back into their queues as often as it takes, and nobody else may', () => {
    const allowed = ofType(environment(name).service, 'AWS::Lambda::Function')
      .filter(({ properties }) => properties.RecursiveLoop === 'Allow')
      .map(({ properties }) => properties.Description)
    expect(allowed).toEqual(['Turnkeep: persist', 'Turnkeep: jobs'])
  })

  test('the login of the functions is rotated every month', () => {
    expect(one(name, 'service', 'AWS::SecretsManager::RotationSchedule')).toMatchObject({
      RotationRules: { AutomaticallyAfterDays: 30 },
      SecretId: { 'Fn::ImportValue': expect.stringContaining('DatabaseLogin') },
    })
  })

  test('answers pass the distribution as they come: not cached, not compressed, waited for', () => {
    const { DistributionConfig } = one(name, 'service', 'AWS::CloudFront::Distribution') as {
      DistributionConfig: {
        CacheBehaviors: Record<string, unknown>[]
        Origins: { Id: string; CustomOriginConfig?: Record<string, unknown> }[]
      }
    }
    expect(DistributionConfig.CacheBehaviors.map(({ PathPattern }) => PathPattern)).toEqual(
      resources.routes.map(({ path }) => path),
    )
    for (const behavior of DistributionConfig.CacheBehaviors)
      expect(behavior).toMatchObject({
        Compress: false,
        CachePolicyId: '4135ea2d-6df8-44a3-9df3-4b5a84be39ad', // AWS's CachingDisabled
        OriginRequestPolicyId: 'b689b0a8-53d0-40ab-baf2-68738e2966ac', // AllViewerExceptHostHeader
        ViewerProtocolPolicy: 'https-only',
        FunctionAssociations: [{ EventType: 'viewer-request' }],
      })
    const functions = DistributionConfig.Origins.filter(({ CustomOriginConfig }) => CustomOriginConfig)
    expect(functions).toHaveLength(2)
    for (const { CustomOriginConfig } of functions)
      expect(CustomOriginConfig).toMatchObject({ OriginReadTimeout: 120, OriginProtocolPolicy: 'https-only' })
  })

  test('the functions are told who the viewer is, over whatever it says itself', () => {
    const { FunctionCode, FunctionConfig } = one(name, 'service', 'AWS::CloudFront::Function') as {
      FunctionCode: string
      FunctionConfig: { Runtime: string }
    }
    expect(FunctionConfig.Runtime).toBe('cloudfront-js-2.0')
    const run = new Function('event', `${FunctionCode}; return handler(event)`)
    const headers = {
      'x-turnkeep-viewer': { value: '203.0.113.1', multiValue: [{ value: '203.0.113.1' }] },
      authorization: { value: 'Bearer a' },
    }
    expect(run({ viewer: { ip: '198.51.100.7' }, request: { uri: '/api/sessions', headers } })).toEqual({
      uri: '/api/sessions',
      headers: { 'x-turnkeep-viewer': { value: '198.51.100.7' }, authorization: { value: 'Bearer a' } },
    })
  })

  test('users of the pool are invited, and cannot say themselves which tenant they belong to', () => {
    expect(one(name, 'data', 'AWS::Cognito::UserPool').AdminCreateUserConfig).toEqual({
      AllowAdminCreateUserOnly: true,
    })
    const client = one(name, 'service', 'AWS::Cognito::UserPoolClient')
    expect(client.WriteAttributes).toEqual(['name'])
    expect(client.ReadAttributes).toEqual(
      expect.arrayContaining(['custom:company_id', 'custom:platform', 'custom:role']),
    )
    // The call that lets people come back to the page says all of it again: what it left out would be reset.
    const again = one(name, 'service', 'Custom::AWS').Update as { 'Fn::Join': [string, unknown[]] }
    const parts = again['Fn::Join'][1].map((part) => (typeof part === 'string' ? part : 'deployed'))
    const { UserPoolId, GenerateSecret, ...said } = client
    expect(JSON.parse(parts.join('')).parameters).toMatchObject({
      ...said,
      CallbackURLs: ['https://deployed/'],
      LogoutURLs: ['https://deployed/'],
      AllowedOAuthFlows: ['code'],
    })
  })

  test('phase 1 has no cache', () => {
    expect(
      Object.values(environment(name).data.Resources).filter(({ Type }) => /ElastiCache/.test(Type)),
    ).toEqual([])
  })

  test('the outputs that a client and an operator need are there', () => {
    expect(Object.keys(environment(name).service.Outputs ?? {})).toEqual(
      expect.arrayContaining([
        'Url',
        'ChatUrl',
        'ApiUrl',
        'UserPoolId',
        'UserPoolClientId',
        'ModelKeySecretArn',
        'ResumeSecretArn',
        'DatabaseSecretArn',
        'TurnsQueueUrl',
        'TurnsDeadQueueUrl',
        'DashboardUrl',
      ]),
    )
  })
})

describe('dev', () => {
  test('is one small instance that pauses, with a week of backups', () => {
    expect(one('dev', 'data', 'AWS::RDS::DBCluster')).toMatchObject({
      BackupRetentionPeriod: 7,
      ServerlessV2ScalingConfiguration: { MinCapacity: 0, SecondsUntilAutoPause: 600 },
    })
    expect(ofType(environment('dev').data, 'AWS::RDS::DBInstance')).toHaveLength(1)
  })

  test('goes away as a whole', () => {
    for (const { id, resource } of ofType(environment('dev').data, 'AWS::RDS::DBCluster'))
      expect([id, resource.DeletionPolicy]).toEqual([id, 'Delete'])
    const { data } = environment('dev')
    expect(ofType(data, 'Custom::S3AutoDeleteObjects')).toHaveLength(ofType(data, 'AWS::S3::Bucket').length)
  })
})

describe.each(KEPT)('%s', (name) => {
  test('keeps what holds data when a stack is deleted, and refuses that', () => {
    const { data, protectedFromDeletion } = environment(name)
    expect(protectedFromDeletion.data).toBe(true)
    expect(one(name, 'data', 'AWS::RDS::DBCluster').DeletionProtection).toBe(true)
    expect(one(name, 'data', 'AWS::Cognito::UserPool').DeletionProtection).toBe('ACTIVE')
    for (const type of new Set(Object.values(STATEFUL)))
      for (const { id, resource } of ofType(data, type))
        expect([id, resource.DeletionPolicy, resource.UpdateReplacePolicy]).toEqual([id, 'Retain', 'Retain'])
    expect(ofType(data, 'Custom::S3AutoDeleteObjects')).toEqual([])
  })

  test('never pauses', () => {
    const { ServerlessV2ScalingConfiguration } = one(name, 'data', 'AWS::RDS::DBCluster')
    expect(ServerlessV2ScalingConfiguration).not.toHaveProperty('SecondsUntilAutoPause')
    expect(ServerlessV2ScalingConfiguration).not.toMatchObject({ MinCapacity: 0 })
  })

  test('deleted objects can be brought back for as long as the database can', () => {
    const { backupDays } = environments[name as keyof typeof environments].database
    expect(one(name, 'data', 'AWS::RDS::DBCluster').BackupRetentionPeriod).toBe(backupDays)
    for (const { properties } of ofType(environment(name).data, 'AWS::S3::Bucket')) {
      expect(properties.VersioningConfiguration).toEqual({ Status: 'Enabled' })
      expect(text(properties.LifecycleConfiguration)).toContain(
        `"NoncurrentVersionExpiration":{"NoncurrentDays":${backupDays}}`,
      )
    }
  })
})

test('prod has an instance in each of two zones, a month of backups and Database Insights', () => {
  expect(one('prod', 'data', 'AWS::RDS::DBCluster')).toMatchObject({
    BackupRetentionPeriod: 30,
    DatabaseInsightsMode: 'advanced',
  })
  const zones = ofType(environment('prod').data, 'AWS::RDS::DBInstance').map(({ properties }) =>
    text(properties.AvailabilityZone),
  )
  expect(new Set(zones).size).toBe(2)
})

describe('everything that is optional', () => {
  test('phase 2 has a cache whose public endpoint takes IAM alone', () => {
    expect(one(OPTIONS, 'data', 'AWS::ElastiCache::ServerlessCache')).toMatchObject({
      Engine: 'valkey',
      ConnectionType: 'public',
      UserGroupId: expect.anything(),
    })
    expect(one(OPTIONS, 'data', 'AWS::ElastiCache::User')).toMatchObject({
      AuthenticationMode: { Type: 'iam' },
    })
    expect(text(one(OPTIONS, 'data', 'AWS::ElastiCache::User'))).not.toContain('Passwords')
  })

  test('in phase 2 those who open, read, save and rescue turns are told of the cache, and may connect to it', () => {
    const { service } = environment(OPTIONS)
    const told = ofType(service, 'AWS::Lambda::Function').flatMap(({ properties }) => {
      const { Variables = {} } = (properties.Environment ?? {}) as { Variables?: Record<string, unknown> }
      return 'VALKEY_URL' in Variables ? [Variables] : []
    })
    expect(told).toHaveLength(5)
    for (const variables of told)
      expect(variables).toMatchObject({
        HOT_STORE: 'valkey',
        VALKEY_CLUSTER: 'true',
        VALKEY_CACHE_NAME: expect.anything(),
      })
    const statements = ofType(service, 'AWS::IAM::Policy').flatMap(
      ({ properties }) => (properties.PolicyDocument as unknown as { Statement: object[] }).Statement,
    )
    const connects = statements.filter((one) => text(one).includes('elasticache:'))
    expect(connects).toHaveLength(5)
    for (const statement of connects)
      expect(statement).toMatchObject({
        Effect: 'Allow',
        Action: 'elasticache:Connect',
        Resource: [expect.anything(), expect.anything()],
      })
  })

  test('a restored cluster takes the place of the stack’s own for every function, and the old one stays', () => {
    const { data, service } = environment(OPTIONS)
    const clusters = ofType(service, 'AWS::Lambda::Function').flatMap(({ properties }) => {
      const { Variables = {} } = (properties.Environment ?? {}) as { Variables?: Record<string, unknown> }
      return 'DATABASE_CLUSTER_ARN' in Variables ? [Variables.DATABASE_CLUSTER_ARN] : []
    })
    expect(clusters).toEqual(Object.keys(resources.functions).map(() => RESTORED.clusterArn))
    const statements = ofType(service, 'AWS::IAM::Policy').flatMap(
      ({ properties }) =>
        (properties.PolicyDocument as unknown as { Statement: { Action: string; Resource: unknown }[] })
          .Statement,
    )
    const calls = statements.filter(({ Action }) => Action === 'rds-data:ExecuteStatement')
    expect(calls.map(({ Resource }) => Resource)).toEqual(clusters)
    expect(text(statements)).toContain(RESTORED.ownerSecretArn)
    expect(ofType(data, 'AWS::RDS::DBCluster')).toHaveLength(1)
  })

  test("an issuer of one's own takes the place of the user pool, for the functions and for the page", () => {
    const { data, service } = environment(OPTIONS)
    for (const template of [data, service])
      expect(
        Object.values(template.Resources).filter(({ Type }) => /Cognito|Custom::AWS/.test(Type)),
      ).toEqual([])
    for (const id of ['chat', 'api']) {
      const [found] = ofType(service, 'AWS::Lambda::Function').filter(
        ({ properties }) => properties.Description === `Turnkeep: ${id}`,
      )
      expect(found?.properties.Environment).toMatchObject({
        Variables: {
          AUTH_ISSUER: 'https://login.example.com/tenant',
          AUTH_AUDIENCE: 'turnkeep',
          CLAIM_COMPANY_ID: 'org',
        },
      })
    }
    expect(text(ofType(service, 'AWS::CloudFront::ResponseHeadersPolicy'))).toContain(
      "connect-src 'self' https://login.example.com https://tokens.example.com;",
    )
  })

  test('the domain, its certificate and the web ACL stand in the distribution', () => {
    expect(one(OPTIONS, 'service', 'AWS::CloudFront::Distribution')).toMatchObject({
      DistributionConfig: {
        Aliases: ['chat.example.com'],
        ViewerCertificate: { MinimumProtocolVersion: 'TLSv1.2_2021', SslSupportMethod: 'sni-only' },
        WebACLId: expect.stringContaining('global/webacl/all'),
      },
    })
    expect(environment(OPTIONS).service.Outputs?.Url?.Value).toBe('https://chat.example.com')
  })

  test('what the settings say of answers reaches the function that gives them, and the one that tells admins', () => {
    for (const name of ['chat', 'api']) {
      const [found] = ofType(environment(OPTIONS).service, 'AWS::Lambda::Function').filter(
        ({ properties }) => properties.Description === `Turnkeep: ${name}`,
      )
      expect(found?.properties.Environment).toMatchObject({
        Variables: {
          CHAT_MODEL: environments.prod.model.name,
          ALLOWED_MODELS: 'model-b,model-c',
          SYSTEM_PROMPT: 'Be brief.',
          HISTORY_MESSAGES: '10',
          WATCHED_WORDS: ',',
          RATE_LIMIT_USER: '20',
          RATE_LIMIT_TENANT: '2000',
          RATE_LIMIT_ADDRESS: '0',
          TOKENS_USER_DAY: '100000',
          TOKENS_TENANT_MONTH: '0',
        },
      })
    }
  })
})
