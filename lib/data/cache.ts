import { Names, RemovalPolicy } from 'aws-cdk-lib'
import * as elasticache from 'aws-cdk-lib/aws-elasticache'
import { Construct } from 'constructs'
import { allow, type Grant } from '../grant.ts'
import type { Settings } from '../settings.ts'

/** Public endpoints are there from this version on. */
const VALKEY_MAJOR_VERSION = '9'

/**
 * Valkey for phase 2. Its endpoint is public, because the functions are in no network: TLS and IAM are the only way
 * in, and it has no password that could leak.
 */
export class Cache extends Construct {
  readonly cache: elasticache.CfnServerlessCache
  readonly user: elasticache.CfnUser

  constructor(scope: Construct, id: string, settings: NonNullable<Settings['cache']>) {
    super(scope, id)
    // These three must be named; the stack's name in them keeps environments apart.
    const name = (part: string): string =>
      Names.uniqueResourceName(this, { maxLength: 40 - part.length, separator: '-' }).toLowerCase() + part
    this.user = new elasticache.CfnUser(this, 'Functions', {
      engine: 'valkey',
      // IAM wants both to be the same.
      userId: name('-functions'),
      userName: name('-functions'),
      authenticationMode: { Type: 'iam' },
      // What walks over all keys, empties or reconfigures is nothing that a function needs.
      accessString: 'on ~* &* +@all -@admin -@dangerous +info',
    })
    const group = new elasticache.CfnUserGroup(this, 'Users', {
      engine: 'valkey',
      userGroupId: name('-users'),
      userIds: [this.user.ref],
    })
    this.cache = new elasticache.CfnServerlessCache(this, 'Valkey', {
      engine: 'valkey',
      majorEngineVersion: VALKEY_MAJOR_VERSION,
      serverlessCacheName: name('-cache'),
      description: 'Turnkeep: recent history, reply logs, leases and limits',
      connectionType: 'public',
      userGroupId: group.ref,
      cacheUsageLimits: {
        dataStorage: { unit: 'GB', maximum: settings.maxGigabytes },
        ecpuPerSecond: { maximum: settings.maxEcpuPerSecond },
      },
      snapshotRetentionLimit: settings.snapshotDays,
    })
    // Everything in it is in Postgres, or will be in seconds.
    this.cache.applyRemovalPolicy(RemovalPolicy.DESTROY)
  }

  /** Logs in with the function's role: there is no password. In phase 1 only what the cache still holds is asked for. */
  toConnect({ phase }: Settings): Grant {
    const { attrEndpointAddress, attrEndpointPort, attrArn, serverlessCacheName } = this.cache
    return {
      variables: {
        HOT_STORE: phase === 2 ? 'valkey' : 'postgres',
        VALKEY_URL: `rediss://${this.user.userName}@${attrEndpointAddress}:${attrEndpointPort}`,
        // Serverless is a cluster behind one address: a client that is told so follows wherever it is sent.
        VALKEY_CLUSTER: 'true',
        VALKEY_CACHE_NAME: serverlessCacheName,
      },
      statements: [allow(['elasticache:Connect'], attrArn, this.user.attrArn)],
    }
  }
}
