import { Validations } from 'aws-cdk-lib'
import * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager'
import { Construct } from 'constructs'
import { allow, type Grant } from '../grant.ts'
import { removalOf } from '../removal.ts'
import type { Settings } from '../settings.ts'

/** Letters and digits only, so that neither JSON nor Postgres nor a header has to escape one; 48 of them are 285 bits. */
const LENGTH = 48

interface Options {
  description: string
  settings: Pick<Settings, 'dataRemoval'>
  /** Absent: the secret is one string. Otherwise JSON, in which a value is made up for `key`. */
  json?: { template: Record<string, string>; key: string }
}

/** A secret whose value AWS makes up, so that no template and no person holds it. */
export function generatedSecret(
  scope: Construct,
  id: string,
  { description, settings, json }: Options,
): secretsmanager.Secret {
  return new secretsmanager.Secret(scope, id, {
    description,
    generateSecretString: {
      passwordLength: LENGTH,
      excludePunctuation: true,
      ...(json && {
        secretStringTemplate: JSON.stringify(json.template),
        generateStringKey: json.key,
      }),
    },
    removalPolicy: removalOf(settings),
  })
}

/** What the functions must know and nobody may read: each is one string. */
export class Secrets extends Construct {
  /** Holds a random string until the operator puts the model's key in its place. */
  readonly modelKey: secretsmanager.Secret
  /** Signs the links by which a client without headers resumes an answer. */
  readonly resume: secretsmanager.Secret
  /** What the distribution shows to the functions, so that they can believe its forwarding headers. */
  readonly origin: secretsmanager.Secret
  /** Hashes users where their ids must not stand. With another value, one user would read as two. */
  readonly pseudonym: secretsmanager.Secret

  constructor(scope: Construct, id: string, settings: Pick<Settings, 'dataRemoval'>) {
    super(scope, id)
    this.modelKey = generatedSecret(this, 'ModelKey', {
      settings,
      description: 'Turnkeep: the key of the model endpoint. Put it here after the first deployment.',
    })
    this.resume = generatedSecret(this, 'Resume', {
      settings,
      description: 'Turnkeep: signs the links that resume an answer.',
    })
    this.origin = generatedSecret(this, 'Origin', {
      settings,
      description: 'Turnkeep: what the distribution shows to the functions.',
    })
    this.pseudonym = generatedSecret(this, 'Pseudonym', {
      settings,
      description: 'Turnkeep: hashes the ids of users in the archive. Never change it.',
    })
    Validations.of(this.pseudonym).acknowledge({
      id: 'AwsSolutions-SMG4',
      reason:
        'What was hashed under it stands in archives for years and is compared with what is hashed now.',
    })
    Validations.of(this.modelKey).acknowledge({
      id: 'AwsSolutions-SMG4',
      reason:
        "The model's provider makes this key; the operator replaces it, and functions see it within minutes.",
    })
    Validations.of(this.resume).acknowledge({
      id: 'AwsSolutions-SMG4',
      reason:
        'A new value ends the links of the last hour, so it is changed on purpose: see docs/runbook.md.',
    })
    Validations.of(this.origin).acknowledge({
      id: 'AwsSolutions-SMG4',
      reason:
        'The distribution takes its value at a deployment; rotating it by itself would lock the two apart.',
    })
  }

  toReadModelKey(): Grant {
    return read('MODEL_KEY_SECRET_ARN', this.modelKey)
  }

  toReadResumeSecret(): Grant {
    return read('RESUME_SECRET_ARN', this.resume)
  }

  toReadPseudonymSecret(): Grant {
    return read('PSEUDONYM_SECRET_ARN', this.pseudonym)
  }

  toReadOriginSecret(): Grant {
    return read('ORIGIN_SECRET_ARN', this.origin)
  }
}

const read = (variable: string, { secretArn }: secretsmanager.Secret): Grant => ({
  variables: { [variable]: secretArn },
  statements: [allow(['secretsmanager:GetSecretValue'], secretArn)],
})
