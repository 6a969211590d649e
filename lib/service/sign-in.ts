import { Aws, Duration } from 'aws-cdk-lib'
import * as cognito from 'aws-cdk-lib/aws-cognito'
import * as iam from 'aws-cdk-lib/aws-iam'
import { AwsCustomResource, PhysicalResourceId } from 'aws-cdk-lib/custom-resources'
import { Construct } from 'constructs'
import type { OidcSignIn } from '../../lambdas/protocol/page-settings.ts'
import { tenantAttributes, type UserDirectory } from '../data/user-directory.ts'
import { allow, type Grant, told } from '../grant.ts'
import type { Issuer, Settings } from '../settings.ts'
import { logGroup, writeTo } from './product-function.ts'

/** Who may call, for the functions, and how people sign in to the page. */
export interface SignIn {
  /** For the functions that check tokens. */
  toCheckTokens(): Grant
  /** For the page; absent where it is told nothing, and a person pastes a token. */
  readonly page: OidcSignIn | undefined
  /** Origins that the page calls for it. */
  readonly origins: readonly string[]
}

export function issuerSignIn({ issuer, audience, jwksUrl, claims = {}, page }: Issuer): SignIn {
  return {
    toCheckTokens: () => variables({ issuer, audience, jwksUrl, claims }),
    page: page && { kind: 'oidc', issuer, ...page },
    origins: page ? [...new Set([new URL(issuer).origin, ...page.origins])] : [],
  }
}

const variables = ({ issuer, audience, jwksUrl, claims = {} }: Omit<Issuer, 'page'>): Grant =>
  told({
    AUTH_ISSUER: issuer,
    AUTH_AUDIENCE: audience,
    AUTH_JWKS_URL: jwksUrl,
    CLAIM_USER_ID: claims.userId,
    CLAIM_COMPANY_ID: claims.companyId,
    CLAIM_PLATFORM: claims.platform,
    CLAIM_ROLE: claims.role,
  })

/**
 * As the API of Cognito names it, because it is said twice: when the client is made, and with the page's address when
 * that is known. A call that left a part out would reset it.
 */
const client = {
  ExplicitAuthFlows: [
    'ALLOW_USER_PASSWORD_AUTH',
    'ALLOW_ADMIN_USER_PASSWORD_AUTH',
    'ALLOW_REFRESH_TOKEN_AUTH',
  ],
  PreventUserExistenceErrors: 'ENABLED',
  EnableTokenRevocation: true,
  // Its ID tokens say which tenant a user belongs to, and its users cannot say so themselves.
  ReadAttributes: ['email', 'name', ...Object.values(tenantAttributes).map((name) => `custom:${name}`)],
  WriteAttributes: ['name'],
  IdTokenValidity: 60,
  AccessTokenValidity: 60,
  RefreshTokenValidity: 30,
  TokenValidityUnits: { IdToken: 'minutes', AccessToken: 'minutes', RefreshToken: 'days' },
}
const SCOPES = ['openid', 'email', 'profile']

/** A client of the user pool, for the page, for a first curl and for the smoke test. */
export class CognitoSignIn extends Construct implements SignIn {
  readonly page: OidcSignIn
  readonly origins: readonly string[]
  private readonly users: UserDirectory
  private readonly client: cognito.CfnUserPoolClient

  constructor(scope: Construct, id: string, users: UserDirectory) {
    super(scope, id)
    this.users = users
    this.client = new cognito.CfnUserPoolClient(this, 'Client', {
      userPoolId: users.pool.userPoolId,
      generateSecret: false, // the page could not keep it
      explicitAuthFlows: client.ExplicitAuthFlows,
      preventUserExistenceErrors: client.PreventUserExistenceErrors,
      enableTokenRevocation: client.EnableTokenRevocation,
      readAttributes: client.ReadAttributes,
      writeAttributes: client.WriteAttributes,
      idTokenValidity: client.IdTokenValidity,
      accessTokenValidity: client.AccessTokenValidity,
      refreshTokenValidity: client.RefreshTokenValidity,
      tokenValidityUnits: {
        idToken: client.TokenValidityUnits.IdToken,
        accessToken: client.TokenValidityUnits.AccessToken,
        refreshToken: client.TokenValidityUnits.RefreshToken,
      },
    })
    this.origins = [`https://cognito-idp.${Aws.REGION}.${Aws.URL_SUFFIX}`, users.domain.baseUrl()]
    this.page = {
      kind: 'oidc',
      issuer: users.pool.userPoolProviderUrl,
      clientId: this.client.ref,
      scope: SCOPES.join(' '),
      token: 'id', // access tokens of Cognito hold no attributes
      origins: [users.domain.baseUrl()],
    }
  }

  get clientId(): string {
    return this.client.ref
  }

  toCheckTokens(): Grant {
    const { companyId, platform, role } = tenantAttributes
    return variables({
      issuer: this.users.pool.userPoolProviderUrl,
      audience: this.client.ref,
      claims: { companyId: `custom:${companyId}`, platform: `custom:${platform}`, role: `custom:${role}` },
    })
  }

  /**
   * Lets people come back to the page. By a call after the distribution was made, and not by a property of the client:
   * the functions know the client, the distribution knows the functions, so the client cannot know the distribution.
   */
  returnTo(url: string, settings: Pick<Settings, 'logRetentionDays' | 'dataRemoval'>): void {
    const log = logGroup(this, settings)
    const role = new iam.Role(this, 'Role', { assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com') })
    role.addToPolicy(writeTo(log))
    role.addToPolicy(allow(['cognito-idp:UpdateUserPoolClient'], this.users.pool.userPoolArn))
    const call = {
      service: '@aws-sdk/client-cognito-identity-provider',
      action: 'UpdateUserPoolClient',
      parameters: {
        UserPoolId: this.users.pool.userPoolId,
        ClientId: this.client.ref,
        ...client,
        SupportedIdentityProviders: ['COGNITO'],
        AllowedOAuthFlowsUserPoolClient: true,
        AllowedOAuthFlows: ['code'],
        AllowedOAuthScopes: SCOPES,
        CallbackURLs: [`${url}/`],
        LogoutURLs: [`${url}/`],
      },
      physicalResourceId: PhysicalResourceId.of('page'),
      outputPaths: ['UserPoolClient.ClientId'], // the whole answer would be kept otherwise
    }
    const resource = new AwsCustomResource(this, 'Return', {
      onUpdate: call, // and on creation
      role,
      logGroup: log,
      timeout: Duration.minutes(1),
      installLatestAwsSdk: false,
    })
    resource.node.addDependency(role)
  }
}
