import { Duration, Validations } from 'aws-cdk-lib'
import * as ec2 from 'aws-cdk-lib/aws-ec2'
import * as rds from 'aws-cdk-lib/aws-rds'
import type * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager'
import { Construct } from 'constructs'
import { allow, type Grant } from '../grant.ts'
import { removalOf } from '../removal.ts'
import type { Settings } from '../settings.ts'
import { generatedSecret } from './secrets.ts'

const DATABASE_NAME = 'turnkeep'
/** The first of the two logins that rotation alternates between. */
const FIRST_LOGIN = 'turnkeep_app_1'

/**
 * Aurora PostgreSQL, Serverless v2, in subnets that lead nowhere. The functions reach it through the Data API alone;
 * nothing has a route to its port.
 */
export class Database extends Construct {
  readonly cluster: rds.DatabaseCluster
  /** {"username","password"} of the login that the functions use: a member of a role that owns nothing. */
  readonly login: secretsmanager.Secret
  /** What the functions use: the cluster, or the restored one that the settings name. */
  private readonly inUse: { clusterArn: string; ownerSecretArn: string }

  constructor(scope: Construct, id: string, settings: Pick<Settings, 'database' | 'dataRemoval'>) {
    super(scope, id)
    const vpc = isolatedNetwork(this)
    const { database } = settings
    const insights = sampling[database.insights]
    const engine = rds.DatabaseClusterEngine.auroraPostgres({
      version: rds.AuroraPostgresEngineVersion.VER_18_6,
    })
    const [writer, ...readers] = Array.from({ length: database.instances }, (_, index) =>
      rds.ClusterInstance.serverlessV2(index === 0 ? 'Writer' : `Reader${index}`, {
        availabilityZone: vpc.availabilityZones[index % vpc.availabilityZones.length] as string,
        publiclyAccessible: false,
        ...insights, // of the cluster, said once more: CDK compares them
        // A reader is there to take over, and must be as large as what it takes over from.
        ...(index > 0 && { scaleWithWriter: true }),
      }),
    )
    this.cluster = new rds.DatabaseCluster(this, 'Cluster', {
      engine,
      vpc,
      vpcSubnets: { subnetType: ec2.SubnetType.PRIVATE_ISOLATED },
      securityGroups: [
        new ec2.SecurityGroup(this, 'Closed', {
          vpc,
          description: 'Nothing in, nothing out: the Data API does not come through the network',
          allowAllOutbound: false,
        }),
      ],
      writer: writer as rds.IClusterInstance,
      readers,
      serverlessV2MinCapacity: database.minAcu,
      serverlessV2MaxCapacity: database.maxAcu,
      ...(database.pauseAfterMinutes !== undefined && {
        serverlessV2AutoPauseDuration: Duration.minutes(database.pauseAfterMinutes),
      }),
      enableDataApi: true,
      defaultDatabaseName: DATABASE_NAME,
      // Not the name of the schema, which would then stand first in this role's search path.
      credentials: rds.Credentials.fromUsername('turnkeep_owner'),
      manageMasterUserPassword: true,
      storageEncrypted: true,
      parameters: {
        'rds.force_ssl': '1',
        // Without DETAIL, which quotes the row that was refused: no log may hold message content.
        log_error_verbosity: 'terse',
      },
      backup: { retention: Duration.days(database.backupDays) },
      copyTagsToSnapshot: true,
      deletionProtection: database.deletionProtection,
      removalPolicy: removalOf(settings),
      ...insights,
      ...(database.insights === 'advanced' && { databaseInsightsMode: rds.DatabaseInsightsMode.ADVANCED }),
    })
    this.inUse = database.restored ?? {
      clusterArn: this.cluster.clusterArn,
      ownerSecretArn: (this.cluster.secret as secretsmanager.ISecret).secretArn,
    }
    this.login = generatedSecret(this, 'Login', {
      description: 'Turnkeep: the login of the functions. Rotated by itself.',
      settings,
      json: { template: { username: FIRST_LOGIN }, key: 'password' },
    })
    this.acknowledge(settings)
  }

  /** The operations of the product. */
  toCall(): Grant {
    return {
      variables: { ...this.place(), DATABASE_SECRET_ARN: this.login.secretArn },
      statements: [
        allow(['rds-data:ExecuteStatement'], this.inUse.clusterArn),
        allow(['secretsmanager:GetSecretValue'], this.login.secretArn),
      ],
    }
  }

  /** The schema's owner. For the migration alone, which also makes the login of the functions. */
  toMigrate(): Grant {
    return {
      variables: {
        ...this.place(),
        DATABASE_OWNER_SECRET_ARN: this.inUse.ownerSecretArn,
        DATABASE_SECRET_ARN: this.login.secretArn,
      },
      statements: [
        allow(['rds-data:ExecuteStatement'], this.inUse.clusterArn),
        allow(['secretsmanager:GetSecretValue'], this.inUse.ownerSecretArn, this.login.secretArn),
      ],
    }
  }

  /** To give the other login a new password, as the login in use; never as the owner. */
  toRotate(): Grant {
    return {
      variables: this.toCall().variables,
      statements: [
        allow(['rds-data:ExecuteStatement'], this.inUse.clusterArn),
        allow(
          [
            'secretsmanager:DescribeSecret',
            'secretsmanager:GetSecretValue',
            'secretsmanager:PutSecretValue',
            'secretsmanager:UpdateSecretVersionStage',
          ],
          this.login.secretArn,
        ),
      ],
    }
  }

  private place() {
    return { DATABASE_CLUSTER_ARN: this.inUse.clusterArn, DATABASE_NAME }
  }

  private acknowledge({ database }: Pick<Settings, 'database'>): void {
    Validations.of(this.cluster).acknowledge({
      id: 'AwsSolutions-RDS6',
      reason:
        'Nobody connects over the network; the Data API, the only way in, takes a secret and not IAM tokens.',
    })
    Validations.of(this.login).acknowledge({
      id: 'AwsSolutions-SMG4',
      reason: 'It is rotated, by a function of the service stack, where the rule does not look.',
    })
    if (!database.deletionProtection)
      Validations.of(this.cluster).acknowledge({
        id: 'AwsSolutions-RDS10',
        reason: 'An environment of which the settings say that it may be thrown away.',
      })
  }
}

/** How long Database Insights keeps what it samples; the advanced mode takes no other time. */
const sampling = {
  none: { enablePerformanceInsights: false },
  standard: {
    enablePerformanceInsights: true,
    performanceInsightRetention: rds.PerformanceInsightRetention.DEFAULT,
  },
  advanced: {
    enablePerformanceInsights: true,
    performanceInsightRetention: rds.PerformanceInsightRetention.MONTHS_15,
  },
}

/** Two zones, because Aurora wants them; no gateway of any kind, so nothing to pay and no way in or out. */
function isolatedNetwork(scope: Construct): ec2.IVpc {
  const vpc = new ec2.Vpc(scope, 'Network', {
    maxAzs: 2,
    natGateways: 0,
    subnetConfiguration: [{ name: 'Isolated', subnetType: ec2.SubnetType.PRIVATE_ISOLATED }],
    // Emptying the default security group would take a function of CDK's own; nothing is in that group.
    restrictDefaultSecurityGroup: false,
  })
  Validations.of(vpc).acknowledge({
    id: 'AwsSolutions-VPC7',
    reason:
      'Nothing in this network can be reached and nothing in it can reach out: there is no flow to log.',
  })
  // CDK's classes and interfaces differ in what may be undefined, which our compiler tells apart.
  return vpc as ec2.IVpc
}
