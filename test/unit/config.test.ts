import { expect, test } from 'vitest'
import { readConfig } from '../../lambdas/runtime/config.ts'

test('everything that is missing or wrong is named at once', () => {
  expect(() =>
    readConfig(['turnsQueueUrl', 'chatModel', 'historyMessages', 'waitMs'], {
      CHAT_MODEL: '',
      HISTORY_MESSAGES: 'five',
      WAIT_MS: '5',
    }),
  ).toThrow(
    'Configuration: TURNS_QUEUE_URL is missing; CHAT_MODEL is missing; ' +
      'HISTORY_MESSAGES must be a whole number from 0 to 20; WAIT_MS must be a whole number from 10 to 110000',
  )
})

test('what is not asked for may be missing, and what is absent has its default', () => {
  expect(readConfig(['historyMessages', 'authJwksUrl', 'allowedModels'], {})).toEqual({
    historyMessages: 5,
    authJwksUrl: undefined,
    allowedModels: [],
  })
})
