import { Duration, Fn, Stack, type StackProps, Validations } from 'aws-cdk-lib'
import * as s3 from 'aws-cdk-lib/aws-s3'
import type { Construct } from 'constructs'
import { Cache } from './data/cache.ts'
import { Database } from './data/database.ts'
import { PrivateBucket } from './data/private-bucket.ts'
import { Secrets } from './data/secrets.ts'
import { TurnQueues } from './data/turn-queues.ts'
import { UserDirectory } from './data/user-directory.ts'
import type { Settings } from './settings.ts'

/** Smaller objects are billed as if they had this size in the cheaper classes. */
const CHEAPER_FROM_BYTES = 128 * 1024

/** Everything that must survive a deployment, and mistakes. The service stack can be deleted and made again. */
export class DataStack extends Stack {
  readonly database: Database
  readonly turns: TurnQueues
  /** Large texts below `content/`, the spool below `spool/`, the archive below `archive/`. */
  readonly content: PrivateBucket
  readonly secrets: Secrets
  /** In phase 2, and while the phase is being switched. */
  readonly cache: Cache | undefined
  /** Absent where the environment has an issuer of its own. */
  readonly users: UserDirectory | undefined

  constructor(scope: Construct, id: string, { settings, ...props }: StackProps & { settings: Settings }) {
    super(scope, id, { ...props, terminationProtection: settings.dataRemoval === 'retain' })
    this.database = new Database(this, 'Database', settings)
    this.turns = new TurnQueues(this, 'Queues', settings)
    this.content = new PrivateBucket(this, 'Content', { settings, lifecycle: [...coolingDown, ending] })
    Validations.of(this.content).acknowledge({
      id: 'CloudFormation-Validate::W9003',
      reason: 'CDK writes ObjectSizeGreaterThan as a number, and CloudFormation takes it.',
    })
    new PrivateBucket(this, 'Files', { settings })
    this.secrets = new Secrets(this, 'Secrets', settings)
    if (settings.cache) this.cache = new Cache(this, 'Cache', settings.cache)
    if (settings.signIn === 'cognito') this.users = new UserDirectory(this, 'Users', settings)
  }

  /** Of whatever region it is deployed to; the account is not asked, so that a synthesis needs none. */
  override get availabilityZones(): string[] {
    return [0, 1].map((index) => Fn.select(index, Fn.getAzs()))
  }
}

/** A link to an export ends after minutes, and the export itself a week after it was made. */
const EXPORT_DAYS = 7
const ending: s3.LifecycleRule = {
  prefix: 'exports/',
  expiration: Duration.days(EXPORT_DAYS),
  noncurrentVersionExpiration: Duration.days(1), // no backup is wanted of what can be made again
}

/** Archives are read seldom and at once. */
const coolingDown: s3.LifecycleRule[] = [
  {
    prefix: 'archive/',
    objectSizeGreaterThan: CHEAPER_FROM_BYTES,
    transitions: [
      { storageClass: s3.StorageClass.INFREQUENT_ACCESS, transitionAfter: Duration.days(30) },
      { storageClass: s3.StorageClass.GLACIER_INSTANT_RETRIEVAL, transitionAfter: Duration.days(90) },
    ],
  },
]
