import { Duration, Fn, Stack, Validations } from 'aws-cdk-lib'
import * as cognito from 'aws-cdk-lib/aws-cognito'
import { Construct } from 'constructs'
import { removalOf } from '../removal.ts'
import type { Settings } from '../settings.ts'

/** Names of the attributes that make a tenant's member of a user; in a token they begin with `custom:`. */
export const tenantAttributes = { companyId: 'company_id', platform: 'platform', role: 'role' }

/**
 * A Cognito user pool for environments without an identity provider of their own. People are invited; what they are
 * in which tenant is set by whoever invites them, and by nobody else.
 */
export class UserDirectory extends Construct {
  readonly pool: cognito.UserPool
  readonly domain: cognito.UserPoolDomain

  constructor(scope: Construct, id: string, settings: Pick<Settings, 'dataRemoval'>) {
    super(scope, id)
    this.pool = new cognito.UserPool(this, 'Pool', {
      featurePlan: cognito.FeaturePlan.LITE, // all that is used of it
      selfSignUpEnabled: false,
      signInAliases: { email: true },
      signInCaseSensitive: false,
      accountRecovery: cognito.AccountRecovery.EMAIL_ONLY,
      customAttributes: Object.fromEntries(
        Object.values(tenantAttributes).map((name) => [
          name,
          new cognito.StringAttribute({ minLen: 1, maxLen: 200, mutable: true }),
        ]),
      ),
      passwordPolicy: {
        minLength: 12,
        requireLowercase: true,
        requireUppercase: true,
        requireDigits: true,
        requireSymbols: true,
        tempPasswordValidity: Duration.days(7),
      },
      mfa: cognito.Mfa.OPTIONAL,
      mfaSecondFactor: { sms: false, otp: true },
      deletionProtection: settings.dataRemoval === 'retain',
      removalPolicy: removalOf(settings),
    })
    this.domain = this.pool.addDomain('Domain', { cognitoDomain: { domainPrefix: uniquePrefix(this) } })
    Validations.of(this.pool).acknowledge(
      {
        id: 'AwsSolutions-COG2',
        reason:
          'Each user may switch it on; requiring it would end sign-in by password alone, which a first curl and the smoke test use.',
      },
      {
        id: 'AwsSolutions-COG8',
        reason:
          'The Plus plan is billed for each user. An environment that wants more than this brings its own issuer.',
      },
    )
  }
}

/** Prefixes are shared by all accounts of a region; the stack's own id is nobody else's. */
function uniquePrefix(scope: Construct): string {
  return `turnkeep-${Fn.select(2, Fn.split('/', Stack.of(scope).stackId))}`
}
