import { expect, test } from 'vitest'
import { checkSettings, environments, type SettingsInput, settingsFor } from '../../lib/settings.ts'

const { dev, prod } = environments
const refused = (name: string, settings: unknown) => expect(() => checkSettings(name, settings))
const devWith = (changes: Partial<SettingsInput>) => ({ ...dev, ...changes })
const databaseWith = (changes: Partial<SettingsInput['database']>) =>
  devWith({ database: { ...dev.database, ...changes } })
const prodWith = (changes: Partial<SettingsInput['database']>) => ({
  ...prod,
  database: { ...prod.database, ...changes },
})

test('every environment can be deployed as it is written', () => {
  for (const name of Object.keys(environments)) expect(settingsFor(name).model.name).not.toBe('')
})

test('an environment that there is not is refused, with those that there are', () => {
  expect(() => settingsFor('test')).toThrow("Unknown environment 'test': use dev, staging or prod.")
  expect(() => settingsFor('toString')).toThrow("Unknown environment 'toString'")
  expect(() => settingsFor(undefined)).toThrow('Which environment? Give -c env=dev, staging or prod.')
})

test('everything that is missing, wrong or unknown is named at once', () => {
  const { phase, ...rest } = dev
  refused('dev', {
    ...rest,
    signIn: { issuer: 'http://login.example.com' },
    model: { baseUrl: 'https://models.example.com/v1', name: '', price: { prompt: -1 } },
  }).toThrow(
    'Settings of dev (lib/settings.ts): ' +
      [
        'signIn.issuer must be an https:// address',
        'signIn.audience is missing',
        'model.name must not be empty',
        'model.price.prompt must not be negative',
        'model.price.completion is missing',
        'model.price.asOf is missing',
        'phase is missing',
      ].join('; '),
  )
  refused('dev', { ...dev, alarmMail: 'me@example.com' }).toThrow('alarmMail is not a setting')
  refused('dev', devWith({ logRetentionDays: 10 })).toThrow('logRetentionDays must be one of 1, 3, 5, 7, 14')
  refused('dev', { ...dev, signIn: 'saml' }).toThrow("signIn must be 'cognito' or an issuer")
  refused('dev', devWith({ watchedWords: ['오류,고장'] })).toThrow('watchedWords.0 must hold no comma')
})

test.each<[SettingsInput, string]>([
  [databaseWith({ minAcu: 4 }), 'database.minAcu must not be above database.maxAcu'],
  [databaseWith({ maxAcu: 0.5 }), 'database.maxAcu must be at least 1'],
  [databaseWith({ minAcu: 0.25 }), 'database.minAcu must be 0 to 256, in halves'],
  [databaseWith({ minAcu: 1 }), 'database.pauseAfterMinutes needs a database.minAcu of 0'],
  [databaseWith({ pauseAfterMinutes: 1 }), 'database.pauseAfterMinutes must be 5 to 1440'],
  [
    databaseWith({ deletionProtection: true }),
    "database.deletionProtection contradicts a dataRemoval of 'destroy'",
  ],
  [databaseWith({ backupDays: 0 }), 'database.backupDays must be 1 to 35'],
  [devWith({ limits: { userRequestsPerMinute: -1 } }), 'limits.userRequestsPerMinute must be 0 to 1000000'],
  [devWith({ budgets: { userTokensPerDay: 0.5 } }), 'budgets.userTokensPerDay must be 0 to 1000000000000'],
  [devWith({ phase: 2 }), 'cache is missing: phase 2 needs one'],
  [
    devWith({ answers: { systemPrompt: '말'.repeat(700) } }),
    'answers.systemPrompt must be at most 2,000 bytes',
  ],
  [
    devWith({
      domain: {
        name: 'chat.example.com',
        certificateArn: 'arn:aws:acm:eu-west-1:111122223333:certificate/a',
      },
    }),
    'domain.certificateArn must be a certificate in us-east-1',
  ],
  [
    devWith({ webAclArn: 'arn:aws:wafv2:eu-west-1:111122223333:regional/webacl/a/b' }),
    'webAclArn must be a global web ACL',
  ],
])('settings that contradict each other or AWS are refused: %#', (settings, problem) => {
  refused('dev', settings).toThrow(problem)
})

test('a database without a smallest size must pause', () => {
  const { pauseAfterMinutes, ...awake } = dev.database
  refused('dev', devWith({ database: awake })).toThrow('database.pauseAfterMinutes is missing')
})

test.each<[unknown, string]>([
  [
    prodWith({ minAcu: 0, pauseAfterMinutes: 60 }),
    'database.pauseAfterMinutes and a database.minAcu of 0 have no place in prod',
  ],
  [prodWith({ instances: 1 }), 'database.instances must be at least 2 in prod'],
  [prodWith({ backupDays: 1 }), 'database.backupDays must be at least 7 in prod'],
  [prodWith({ deletionProtection: false }), 'database.deletionProtection must be on in prod'],
  [{ ...prod, dataRemoval: 'destroy' }, "dataRemoval must be 'retain' in prod"],
])('what dev may do, prod may not: %#', (settings, problem) => {
  refused('prod', settings).toThrow(problem)
})
