import { CfnOutput, Stack, type StackProps } from 'aws-cdk-lib'
import type * as lambda from 'aws-cdk-lib/aws-lambda'
import type * as sqs from 'aws-cdk-lib/aws-sqs'
import type { Construct } from 'constructs'
import type { DataStack } from './data-stack.ts'
import { type Grant, told } from './grant.ts'
import { Observability } from './observability/observability.ts'
import { resources } from './resources.ts'
import { Distribution } from './service/distribution.ts'
import { Maintenance } from './service/maintenance.ts'
import { Migration } from './service/migration.ts'
import { Page } from './service/page.ts'
import { ProductFunction } from './service/product-function.ts'
import { Rotation } from './service/rotation.ts'
import { CognitoSignIn, issuerSignIn, type SignIn } from './service/sign-in.ts'
import type { Settings } from './settings.ts'

const FUNCTION_NAMES = ['chat', 'api', 'persist', 'maintain', 'archive', 'jobs', 'migrate', 'rotate'] as const
export type FunctionName = (typeof FUNCTION_NAMES)[number]
type Functions = Record<FunctionName, ProductFunction>

/** What was built of the sources: a folder for each function, and the page's. */
export interface Built {
  functions: Record<string, { directory: string }>
  page: string
}

interface Props extends StackProps {
  environment: string
  settings: Settings
  data: DataStack
  built: Built
}

/** Everything that can be made again from the sources: the functions, what invokes them, and the front door. */
export class ServiceStack extends Stack {
  readonly functions: Functions

  constructor(scope: Construct, id: string, { environment, settings, data, built, ...props }: Props) {
    super(scope, id, props)
    const namespace = `Turnkeep/${environment}`
    const cognito = data.users && new CognitoSignIn(this, 'SignIn', data.users)
    const signIn = cognito ?? issuerSignIn(settings.signIn as Exclude<Settings['signIn'], 'cognito'>)

    this.functions = makeFunctions(this, settings, built, { METRICS_NAMESPACE: namespace })
    giveWhatIsNeeded(this.functions, settings, data, signIn)
    const maintenance = this.invoke(data)

    const page = new Page(this, 'Page')
    const { distribution, url } = new Distribution(this, 'FrontDoor', {
      settings,
      page: page.bucket,
      routes: resources.routes,
      urls: urlsOf(this.functions),
      originSecret: data.secrets.origin,
      pageMayCall: signIn.origins,
    })
    page.publish(built.page, signIn.page ? { signIn: signIn.page } : {}, settings)
    cognito?.returnTo(url, settings)

    const { chat, api, persist, maintain } = this.functions
    this.output({
      Url: url,
      DistributionDomainName: distribution.distributionDomainName,
      ChatUrl: chat.url?.url,
      ApiUrl: api.url?.url,
      UserPoolId: data.users?.pool.userPoolId,
      UserPoolClientId: cognito?.clientId,
      ModelKeySecretArn: data.secrets.modelKey.secretArn,
      ResumeSecretArn: data.secrets.resume.secretArn,
      DatabaseSecretArn: data.database.login.secretArn,
      TurnsQueueUrl: data.turns.turns.queueUrl,
      TurnsDeadQueueUrl: data.turns.dead.queueUrl,
      JobsDeadQueueUrl: data.turns.jobsDead.queueUrl,
      ...asOpsNamesIt(settings, data, maintenance, namespace),
    })
    const observability = new Observability(this, 'Observability', {
      environment,
      namespace,
      settings,
      functions: lambdasOf(this.functions),
      queues: {
        turns: data.turns.turns as sqs.IQueue,
        turnsDead: data.turns.dead as sqs.IQueue,
        jobsDead: data.turns.jobsDead as sqs.IQueue,
        schedulesDead: maintenance.dead as sqs.IQueue,
      },
      cluster: data.database.cluster,
      distribution,
      // Whoever meets a turn whose writer is gone ends it.
      answerLogs: [chat, persist, maintain].map(({ logGroup }) => logGroup),
    })
    // By a name that one can ask for, as the others.
    const dashboardUrl = observability.node.findChild('DashboardUrl') as CfnOutput
    dashboardUrl.overrideLogicalId('DashboardUrl')
  }

  /** The queue, the clock, Secrets Manager and the deployment itself. */
  private invoke({ turns, database }: DataStack): Maintenance {
    const { chat, api, persist, maintain, archive, jobs, migrate, rotate } = this.functions
    const find = (name: string): ProductFunction => this.functions[name as FunctionName]
    for (const { queue, function: name, ...source } of resources.eventSources)
      find(name).consume(turns.get(queue), source)
    const maintenance = new Maintenance(
      this,
      'Maintenance',
      resources.schedules.map((schedule) => ({ schedule, target: find(schedule.function).lambda })),
    )
    const rotation = new Rotation(this, 'Rotation', database.login, rotate.lambda)
    new Migration(this, 'Migration', migrate.lambda, [
      chat,
      api,
      persist,
      maintain,
      archive,
      jobs,
      maintenance,
      rotation,
    ])
    return maintenance
  }

  private output(values: Record<string, string | undefined>): void {
    for (const [name, value] of Object.entries(values)) if (value) new CfnOutput(this, name, { value })
  }
}

function makeFunctions(
  scope: Construct,
  settings: Settings,
  built: Built,
  variables: Record<string, string>,
): Functions {
  const made = FUNCTION_NAMES.map((name) => {
    const directory = built.functions[name]?.directory
    if (!directory) throw new Error(`${name} was not bundled`)
    // persist looks at a running answer again and again, and jobs goes on with a long job, by a message to its own queue.
    const resends = name === 'persist' || name === 'jobs'
    return [name, new ProductFunction(scope, name, { directory, settings, variables, resends })]
  })
  return Object.fromEntries(made)
}

/** The whole of who may do what. Nothing is given anywhere else but what invoking a function takes. */
function giveWhatIsNeeded(
  { chat, api, persist, maintain, archive, jobs, migrate, rotate }: Functions,
  settings: Settings,
  { database, turns, content, secrets, cache }: DataStack,
  signIn: SignIn,
): void {
  const hotStore = cache ? [cache.toConnect(settings)] : []
  // Whoever meets a turn whose writer is gone saves it: chat, persist and maintain alike.
  const rescuing = [
    database.toCall(),
    turns.toSend(),
    content.toRead('content/'),
    content.toWrite('content/'),
    content.toWrite('spool/'),
    historyMessages(settings),
    ...hotStore,
  ]
  chat.give(
    ...rescuing,
    content.toDelete('content/'),
    content.toRead('archive/'),
    signIn.toCheckTokens(),
    secrets.toReadModelKey(),
    secrets.toReadResumeSecret(),
    secrets.toReadOriginSecret(),
    secrets.toReadPseudonymSecret(),
    modelSettings(settings),
    tenantDefaults(settings),
    archiveDefaults(settings),
    requestLimits(settings),
  )
  api.give(
    database.toCall(),
    secrets.toReadOriginSecret(),
    secrets.toReadPseudonymSecret(),
    content.toRead('content/'),
    content.toRead('archive/'),
    content.toRead('exports/'),
    turns.toSendJobs(),
    signIn.toCheckTokens(),
    historyMessages(settings),
    tenantDefaults(settings),
    archiveDefaults(settings),
    requestLimits(settings),
    ...hotStore,
  )
  persist.give(
    ...rescuing,
    turns.toBury(),
    turns.toPostpone(),
    content.toRead('archive/'),
    content.toDeleteVersions('content/'),
  )
  jobs.give(
    database.toCall(),
    turns.toSendJobs(),
    turns.toPostponeJobs(),
    secrets.toReadPseudonymSecret(),
    content.toRead('content/'),
    content.toDeleteVersions('content/'),
    ...['archive/', 'exports/'].flatMap((prefix) => [
      content.toRead(prefix),
      content.toWrite(prefix),
      content.toAbortUploads(prefix),
      content.toDeleteVersions(prefix),
    ]),
    content.toWrite('erasures/'),
    content.toRead('spool/'),
    content.toWrite('spool/'),
    content.toDeleteVersions('spool/'),
    historyMessages(settings),
    ...hotStore,
  )
  maintain.give(...rescuing, turns.toCount(), content.toRead('spool/'), content.toDelete('spool/'))
  archive.give(
    database.toCall(),
    turns.toSendJobs(),
    content.toRead('erasures/'),
    secrets.toReadPseudonymSecret(),
    content.toRead('content/'),
    content.toDeleteVersions('content/'),
    content.toRead('archive/'),
    content.toWrite('archive/'),
    content.toAbortUploads('archive/'),
    content.toDeleteVersions('archive/'),
    archiveDefaults(settings),
  )
  migrate.give(database.toMigrate(), told({ SQL_DIRECTORY: 'sql' }))
  rotate.give(database.toRotate())
}

const modelSettings = ({ model, answers }: Settings): Grant =>
  told({
    OPENAI_BASE_URL: model.baseUrl,
    MODEL_FIRST_TOKEN_MS: answers.firstTokenMs,
    MODEL_SILENCE_MS: answers.silenceMs,
  })

const archiveDefaults = ({ archive }: Settings): Grant =>
  told({ ARCHIVE_AFTER_DAYS: archive?.afterDays, ARCHIVE_ABOVE_MESSAGES: archive?.aboveMessages })

const historyMessages = ({ answers }: Settings): Grant => told({ HISTORY_MESSAGES: answers.historyMessages })

/** What a tenant may set for itself: chat answers by it, api shows it to admins. Beside them goes historyMessages. */
const tenantDefaults = ({ model, answers, budgets, watchedWords }: Settings): Grant =>
  told({
    CHAT_MODEL: model.name,
    ALLOWED_MODELS: model.allowed?.join(','),
    SYSTEM_PROMPT: answers.systemPrompt,
    HISTORY_TOKENS: answers.historyTokens,
    ANSWER_TOKENS: answers.answerTokens,
    TOKENS_USER_DAY: budgets?.userTokensPerDay,
    TOKENS_USER_MONTH: budgets?.userTokensPerMonth,
    TOKENS_TENANT_DAY: budgets?.tenantTokensPerDay,
    TOKENS_TENANT_MONTH: budgets?.tenantTokensPerMonth,
    WATCHED_WORDS: watchedWords.join(',') || ',', // a lone comma: none
  })

/** What `npm run ops` asks for beside the queues: each is the variable of the same name. */
function asOpsNamesIt(
  { phase, database: { pauseAfterMinutes } }: Settings,
  { database, content, cache }: DataStack,
  { dead }: Maintenance,
  namespace: string,
): Record<string, string | undefined> {
  const { DATABASE_CLUSTER_ARN, DATABASE_NAME } = database.toCall().variables
  return {
    ContentBucket: content.bucket.bucketName,
    DatabaseClusterArn: DATABASE_CLUSTER_ARN,
    DatabaseName: DATABASE_NAME,
    // A database that sleeps is woken by whoever asks it.
    DatabasePauses: String(pauseAfterMinutes !== undefined),
    HotStore: phase === 2 ? 'valkey' : 'postgres',
    MetricsNamespace: namespace,
    SchedulesDeadQueueUrl: dead.queueUrl,
    ValkeyCacheName: cache?.cache.serverlessCacheName,
  }
}

const requestLimits = ({ limits }: Settings): Grant =>
  told({
    RATE_LIMIT_USER: limits?.userRequestsPerMinute,
    RATE_LIMIT_TENANT: limits?.tenantRequestsPerMinute,
    RATE_LIMIT_ADDRESS: limits?.addressRequestsPerMinute,
  })

const lambdasOf = (functions: Functions): Record<FunctionName, lambda.Function> =>
  Object.fromEntries(Object.entries(functions).map(([name, made]) => [name, made.lambda])) as Record<
    FunctionName,
    lambda.Function
  >

const urlsOf = (functions: Functions): Record<string, lambda.FunctionUrl> =>
  Object.fromEntries(Object.entries(functions).flatMap(([name, { url }]) => (url ? [[name, url]] : [])))
