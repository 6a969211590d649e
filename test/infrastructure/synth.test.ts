import { existsSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { synthesise } from '../harness/synthesis.ts'

const WEB = resolve(import.meta.dirname, '../../web')

test('a first synthesis puts templates, bundles and the page into the folder that the CLI names, relative as it is', async () => {
  const folder = await synthesise()
  const made = readdirSync(folder)
  expect(made).toContain('turnkeep-dev-data.template.json')
  expect(made).toContain('turnkeep-dev-service.template.json')
  for (const file of ['page/index.html', 'page/assets', 'functions/chat/index.mjs'])
    expect([file, existsSync(join(folder, file))]).toEqual([file, true])
  expect(readdirSync(WEB).filter((name) => name.startsWith('cdk.out'))).toEqual([])
}, 180_000)
