/** What `npm start` is told wrongly is refused by its name, and not by what breaks because of it. */
import { expect, test } from 'vitest'
import { checkVariables } from '../../local/cloud/variables.ts'

test.each([
  ['PORT', 'abc'],
  ['PORT', '70000'],
  ['PORT', '-1'],
  ['OPENAI_BASE_URL', 'api.example.com/v1'],
  ['DATABASE_URL', 'nonsense'],
  ['DATABASE_URL', 'mysql://u:secret@host/db'],
  ['VALKEY_URL', 'localhost:6379'],
])('%s=%s is refused by its name, and is not repeated', (name, value) => {
  let message = ''
  try {
    checkVariables({ [name]: value })
  } catch (error) {
    message = (error as Error).message
  }
  expect(message).toMatch(new RegExp(`^${name} must `))
  expect(message).not.toContain(value)
})

test('what is right, empty or absent is let through', () => {
  checkVariables({})
  checkVariables({ PORT: '', OPENAI_BASE_URL: '', DATABASE_URL: '', VALKEY_URL: '' })
  checkVariables({
    PORT: '0',
    OPENAI_BASE_URL: 'http://127.0.0.1:9/v1',
    DATABASE_URL: 'postgres://role:pass@127.0.0.1:5432/turnkeep',
    VALKEY_URL: 'rediss://:pass@127.0.0.1:6379',
  })
})
