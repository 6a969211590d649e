import { Duration, Validations } from 'aws-cdk-lib'
import * as acm from 'aws-cdk-lib/aws-certificatemanager'
import * as cloudfront from 'aws-cdk-lib/aws-cloudfront'
import * as origins from 'aws-cdk-lib/aws-cloudfront-origins'
import type * as lambda from 'aws-cdk-lib/aws-lambda'
import type * as s3 from 'aws-cdk-lib/aws-s3'
import type * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager'
import { Construct } from 'constructs'
import { policyWithOrigins, securityHeaders } from '../page-headers.ts'
import type { Route } from '../resources.ts'
import type { Settings } from '../settings.ts'

/** The most that CloudFront waits without a raised quota. Streams say something every 15 s; the waiting route needs 110 s. */
const READ_TIMEOUT_SECONDS = 120
/** Between requests: a connection that is kept saves a handshake. */
const KEEP_ALIVE_SECONDS = 60
const HSTS_DAYS = 365

/**
 * Runs at the edge, for every request to a function: who the viewer is, over whatever the viewer said. In a header of our
 * own, because a Function URL cuts X-Forwarded-For down to its first entry, which a client can make up, and the policy
 * that keeps the viewer's Host away is not documented to add CloudFront's own headers.
 */
const NAME_VIEWER = `function handler(event) {
  event.request.headers['x-turnkeep-viewer'] = { value: event.viewer.ip }
  return event.request
}`

interface Options {
  settings: Pick<Settings, 'domain' | 'webAclArn'>
  page: s3.Bucket
  routes: readonly Route[]
  urls: Record<string, lambda.IFunctionUrl>
  /** Shown to the functions, so that they know whose word for a viewer's address they may believe. */
  originSecret: secretsmanager.Secret
  /** Origins that the page may call besides its own. */
  pageMayCall: readonly string[]
}

/** One origin for everything that a browser sees: the page at `/`, the functions below `/api`. */
export class Distribution extends Construct {
  readonly distribution: cloudfront.Distribution
  /** Without a slash at its end. */
  readonly url: string

  constructor(
    scope: Construct,
    id: string,
    { settings, page, routes, urls, originSecret, pageMayCall }: Options,
  ) {
    super(scope, id)
    const { domain, webAclArn } = settings
    const nameViewer: cloudfront.FunctionAssociation = {
      function: new cloudfront.Function(this, 'NameViewer', {
        code: cloudfront.FunctionCode.fromInline(NAME_VIEWER),
        runtime: cloudfront.FunctionRuntime.JS_2_0,
        comment: 'Turnkeep: tells the functions who the viewer is',
      }),
      eventType: cloudfront.FunctionEventType.VIEWER_REQUEST,
    }
    const api = (name: string): cloudfront.BehaviorOptions => {
      const url = urls[name]
      if (!url) throw new Error(`lib/resources.ts routes to ${name}, which has no URL`)
      return { origin: functionOrigin(url, originSecret), functionAssociations: [nameViewer], ...untouched }
    }
    const behaviors = new Map(routes.map(({ function: name }) => [name, api(name)]))
    this.distribution = new cloudfront.Distribution(this, 'Distribution', {
      comment: `Turnkeep: ${scope.node.path}`,
      defaultRootObject: 'index.html',
      defaultBehavior: {
        // Listing, so that what is not there is answered with 404; the root is index.html and queries stay outside.
        origin: origins.S3BucketOrigin.withOriginAccessControl(page as s3.IBucket, {
          originAccessLevels: [cloudfront.AccessLevel.READ, cloudfront.AccessLevel.LIST],
        }),
        viewerProtocolPolicy: cloudfront.ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
        responseHeadersPolicy: this.pageHeaders(pageMayCall),
        cachePolicy: cloudfront.CachePolicy.CACHING_OPTIMIZED,
        compress: true,
      },
      additionalBehaviors: Object.fromEntries(
        routes.map((route) => [route.path, behaviors.get(route.function) as cloudfront.BehaviorOptions]),
      ),
      httpVersion: cloudfront.HttpVersion.HTTP2_AND_3,
      ...(domain && {
        minimumProtocolVersion: cloudfront.SecurityPolicyProtocol.TLS_V1_2_2021,
        domainNames: [domain.name],
        certificate: acm.Certificate.fromCertificateArn(this, 'Certificate', domain.certificateArn),
      }),
      ...(webAclArn && { webAclId: webAclArn }),
    })
    this.url = `https://${domain?.name ?? this.distribution.distributionDomainName}`
    this.acknowledge(settings)
  }

  private pageHeaders(pageMayCall: readonly string[]): cloudfront.ResponseHeadersPolicy {
    const opener = 'cross-origin-opener-policy'
    return new cloudfront.ResponseHeadersPolicy(this, 'PageHeaders', {
      securityHeadersBehavior: {
        contentSecurityPolicy: { contentSecurityPolicy: policyWithOrigins(pageMayCall), override: true },
        contentTypeOptions: { override: true },
        frameOptions: { frameOption: cloudfront.HeadersFrameOption.DENY, override: true },
        referrerPolicy: { referrerPolicy: cloudfront.HeadersReferrerPolicy.NO_REFERRER, override: true },
        strictTransportSecurity: { accessControlMaxAge: Duration.days(HSTS_DAYS), override: true },
      },
      customHeadersBehavior: {
        customHeaders: [{ header: opener, value: securityHeaders()[opener], override: true }],
      },
    })
  }

  private acknowledge({ domain, webAclArn }: Options['settings']): void {
    Validations.of(this.distribution).acknowledge(
      {
        id: 'Annotation::@aws-cdk/aws-cloudfront-origins:listBucketSecurityRisk',
        reason: 'There is a default root object, and no query reaches the bucket.',
      },
      { id: 'AwsSolutions-CFR1', reason: 'Where its users are is for an environment to say, in a web ACL.' },
      {
        id: 'AwsSolutions-CFR3',
        reason:
          'An access log would hold the tokens of links that resume an answer, and addresses. The functions log without either.',
      },
    )
    if (!webAclArn)
      Validations.of(this.distribution).acknowledge({
        id: 'AwsSolutions-CFR2',
        reason: 'A web ACL costs 5 USD a month and more; the setting webAclArn puts one in front.',
      })
    if (!domain)
      Validations.of(this.distribution).acknowledge({
        id: 'AwsSolutions-CFR4',
        reason:
          "Without a domain of one's own CloudFront shows its certificate, and sets the oldest protocol itself.",
      })
  }
}

/** To the functions as it came, with who sent it: nothing cached, nothing compressed, nothing held back. */
const untouched = {
  allowedMethods: cloudfront.AllowedMethods.ALLOW_ALL,
  viewerProtocolPolicy: cloudfront.ViewerProtocolPolicy.HTTPS_ONLY, // a redirect would come after the token was sent
  cachePolicy: cloudfront.CachePolicy.CACHING_DISABLED,
  originRequestPolicy: cloudfront.OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
  compress: false,
} satisfies Partial<cloudfront.BehaviorOptions>

const functionOrigin = (url: lambda.IFunctionUrl, secret: secretsmanager.Secret): cloudfront.IOrigin =>
  new origins.FunctionUrlOrigin(url, {
    readTimeout: Duration.seconds(READ_TIMEOUT_SECONDS),
    keepaliveTimeout: Duration.seconds(KEEP_ALIVE_SECONDS),
    // A reference that CloudFormation follows while it deploys: the template holds no value.
    customHeaders: { 'x-turnkeep-origin': secret.secretValue.unsafeUnwrap() },
  })
