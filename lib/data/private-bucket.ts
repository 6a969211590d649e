import { Duration, Stack, Validations } from 'aws-cdk-lib'
import * as s3 from 'aws-cdk-lib/aws-s3'
import { Construct } from 'constructs'
import { allow, type Grant } from '../grant.ts'
import { removalOf } from '../removal.ts'
import type { Settings } from '../settings.ts'

/** Half of an upload that was given up costs like a whole one and can be seen by nobody. */
const ABANDONED_UPLOAD_DAYS = 7

interface Options {
  settings: Pick<Settings, 'dataRemoval' | 'database'>
  lifecycle?: s3.LifecycleRule[]
}

/**
 * A bucket for the functions alone: encrypted, TLS only, closed to the public.
 *
 * Where data is kept, it is versioned, and the versions are its backup: what is deleted can be brought back for as
 * long as the database can be, and not longer, so that an erased text is gone from the bucket's versions when it is
 * gone from the database's backups. No live read sees a version.
 */
export class PrivateBucket extends Construct {
  readonly bucket: s3.Bucket

  constructor(scope: Construct, id: string, { settings, lifecycle = [] }: Options) {
    super(scope, id)
    const isKept = settings.dataRemoval === 'retain'
    this.bucket = new s3.Bucket(this, 'Bucket', {
      ...closed,
      versioned: isKept,
      lifecycleRules: [
        {
          abortIncompleteMultipartUploadAfter: Duration.days(ABANDONED_UPLOAD_DAYS),
          ...(isKept && {
            noncurrentVersionExpiration: Duration.days(settings.database.backupDays),
            expiredObjectDeleteMarker: true,
          }),
        },
        ...lifecycle,
      ],
      removalPolicy: removalOf(settings),
      autoDeleteObjects: !isKept,
    })
    Validations.of(this.bucket).acknowledge({
      id: 'AwsSolutions-S1',
      reason:
        'Keys name tenants, and the log would outlive them. Only functions with a role of their own get in; CloudTrail data events can be switched on for an audit.',
    })
  }

  /**
   * Objects below a prefix. Listing goes with it: without, S3 answers 403 for an object that is not there, and the
   * functions must tell what is gone from what they may not see. A condition on the prefix would bring the 403 back,
   * since a read names none.
   */
  toRead(prefix: string): Grant {
    return this.grant(prefix, 's3:GetObject', allow(['s3:ListBucket'], this.bucket.bucketArn))
  }

  toWrite(prefix: string): Grant {
    return this.grant(prefix, 's3:PutObject')
  }

  /** Throws away the parts of an upload that died. */
  toAbortUploads(prefix: string): Grant {
    return this.grant(prefix, 's3:AbortMultipartUpload')
  }

  /** So that nothing is left of an object; finding its versions can be allowed for a whole bucket only. */
  toDeleteVersions(prefix: string): Grant {
    return this.grant(
      prefix,
      's3:DeleteObjectVersion',
      allow(['s3:ListBucketVersions'], this.bucket.bucketArn),
    )
  }

  toDelete(prefix: string): Grant {
    return this.grant(prefix, 's3:DeleteObject')
  }

  private grant(prefix: string, action: string, ...more: Grant['statements']): Grant {
    const objects = `${prefix}*`
    return {
      variables: { CONTENT_BUCKET: this.bucket.bucketName },
      statements: [allow([action], this.bucket.arnForObjects(objects)), ...more],
      accepted: [
        {
          id: `AwsSolutions-IAM5[Resource::${exportName(this.bucket.bucketArn, this)}/${objects}]`,
          reason: 'All objects below one prefix of one bucket: their names are made while the functions run.',
        },
      ],
    }
  }
}

/** By which the other stack knows a value of this one, and the rules know it. */
function exportName(value: string, scope: Construct): string {
  const stack = Stack.of(scope)
  return stack.resolve(stack.exportValue(value))['Fn::ImportValue']
}

/** Of every bucket. */
export const closed: s3.BucketProps = {
  encryption: s3.BucketEncryption.S3_MANAGED,
  blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
  objectOwnership: s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
  enforceSSL: true,
  minimumTLSVersion: 1.2,
}
