/**
 * What AWS would put in the place of references, as if a stack had been deployed: names that the local cloud knows,
 * in an account and a region that it has. Anything that is not listed here is refused.
 */
import { type Placed, resourcesOfType, type Stack } from './assembly.ts'
import { resolve, type Scope } from './cloudformation.ts'

export const REGION = 'us-east-1'
export const ACCOUNT = '000000000000'
/** Where queues stand in AWS; the local cloud's take the place of it. */
export const QUEUES = `https://sqs.${REGION}.amazonaws.com`

const arn = (service: string, resource: string): string =>
  `arn:aws:${service}:${REGION}:${ACCOUNT}:${resource}`

const PSEUDO: Record<string, string> = {
  'AWS::AccountId': ACCOUNT,
  'AWS::Partition': 'aws',
  'AWS::Region': REGION,
  'AWS::URLSuffix': 'amazonaws.com',
}

/** What `Ref` and `Fn::GetAtt` give, by the type of the resource. Few have a name of their own. */
const types: Record<string, (name: string, own: Record<string, unknown>) => Record<string, string>> = {
  'AWS::CloudFront::Distribution': (name) => ({ Ref: name, Id: name, DomainName: `${name}.cloudfront.net` }),
  'AWS::CloudFront::Function': (name) => ({
    FunctionARN: `arn:aws:cloudfront::${ACCOUNT}:function/${name}`,
  }),
  'AWS::CloudFront::OriginAccessControl': (name) => ({ Id: name }),
  'AWS::CloudFront::ResponseHeadersPolicy': (name) => ({ Ref: name }),
  'AWS::Cognito::UserPool': (name) => ({
    Ref: `${REGION}_${name}`,
    Arn: arn('cognito-idp', `userpool/${REGION}_${name}`),
    ProviderURL: `https://cognito-idp.${REGION}.amazonaws.com/${REGION}_${name}`,
  }),
  'AWS::Cognito::UserPoolClient': (name) => ({ Ref: name, ClientId: name }),
  'AWS::Cognito::UserPoolDomain': (name) => ({ Ref: name }),
  'AWS::ElastiCache::ServerlessCache': (_, { ServerlessCacheName: name }) => ({
    Ref: String(name),
    ARN: arn('elasticache', `serverlesscache:${name}`),
    'Endpoint.Address': `${name}-0a1b2c.serverless.use1.cache.amazonaws.com`,
    'Endpoint.Port': '6379',
  }),
  'AWS::ElastiCache::User': (_, { UserId: name }) => ({
    Ref: String(name),
    Arn: arn('elasticache', `user:${name}`),
  }),
  'AWS::ElastiCache::UserGroup': (name) => ({ Ref: name }),
  'AWS::IAM::Role': (name) => ({ Ref: name, Arn: `arn:aws:iam::${ACCOUNT}:role/${name}` }),
  'AWS::Lambda::Function': (name) => ({ Ref: name, Arn: arn('lambda', `function:${name}`) }),
  'AWS::Lambda::LayerVersion': (name) => ({ Ref: arn('lambda', `layer:${name}:1`) }),
  'AWS::Lambda::Version': (name) => ({ Ref: arn('lambda', `function:${name}:1`) }),
  'AWS::Lambda::Url': (name) => ({ FunctionUrl: `https://${name}.lambda-url.${REGION}.on.aws/` }),
  'AWS::Logs::LogGroup': (name) => ({ Ref: name, Arn: arn('logs', `log-group:${name}:*`) }),
  'AWS::RDS::DBCluster': (name) => ({
    Ref: name,
    'MasterUserSecret.SecretArn': arn('secretsmanager', `secret:${name}-owner`),
  }),
  'AWS::S3::Bucket': (name) => ({
    Ref: name,
    Arn: `arn:aws:s3:::${name}`,
    RegionalDomainName: `${name}.s3.${REGION}.amazonaws.com`,
  }),
  'AWS::SecretsManager::Secret': (name) => ({ Ref: arn('secretsmanager', `secret:${name}`) }),
  'AWS::SQS::Queue': (name) => ({
    Ref: `${QUEUES}/${ACCOUNT}/${name}`,
    Arn: arn('sqs', name),
    QueueName: name,
  }),
}

/** The local name of a resource, by its place in the tree of constructs. */
export type Name = (path: string) => string

export function scopeOf(stack: Stack, stacks: readonly Stack[], nameOf: Name): Scope {
  const value = (id: string, attribute: string): unknown => {
    const resource = stack.template.Resources[id]
    if (!resource) throw new Error(`${stack.name} has no ${id}`)
    const known = types[resource.Type]?.(nameOf(stack.paths[id] ?? id), resource.Properties ?? {})[attribute]
    if (known === undefined) throw new Error(`${attribute} of a ${resource.Type} (${id}) is not known here`)
    return known
  }
  return {
    ref: (name) => {
      const parameter = stack.template.Parameters?.[name]
      if (parameter && 'Default' in parameter) return parameter.Default
      if (name === 'AWS::StackName') return stack.name
      if (name === 'AWS::StackId') return arn('cloudformation', `stack/${stack.name}/0-0-0-0-0`)
      return PSEUDO[name] ?? value(name, 'Ref')
    },
    attribute: value,
    imported: (name) => imported(name, stacks, nameOf),
    output: (stackName, name) => output(stackName, name, stacks, nameOf),
  }
}

function imported(name: string, stacks: readonly Stack[], nameOf: Name): unknown {
  for (const stack of stacks) {
    const scope = scopeOf(stack, stacks, nameOf)
    for (const { Value, Export } of Object.values(stack.template.Outputs ?? {}))
      if (Export && resolve(Export.Name, scope) === name) return resolve(Value, scope)
  }
  throw new Error(`no stack exports ${name}`)
}

function output(stackName: string, name: string, stacks: readonly Stack[], nameOf: Name): unknown {
  const stack = stacks.find((one) => one.name === stackName)
  const found = stack?.template.Outputs?.[name]
  if (!stack || !found) throw new Error(`${stackName} has no output ${name}`)
  return resolve(found.Value, scopeOf(stack, stacks, nameOf))
}

export interface Resolved extends Placed {
  /** Its local name. */
  name: string
  properties: Record<string, unknown>
}

/** The resources of these types, with their properties as AWS would see them. */
export function resolvedOfType(stacks: readonly Stack[], nameOf: Name, ...types: string[]): Resolved[] {
  return resourcesOfType(stacks, ...types).map((resource) => ({
    ...resource,
    name: nameOf(resource.path),
    properties: resolve(resource.properties, scopeOf(resource.stack, stacks, nameOf)) as Record<
      string,
      unknown
    >,
  }))
}
