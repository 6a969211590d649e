import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const ROOT = resolve(import.meta.dirname, '../..')

test('a first synthesis puts templates, bundles and the page into the folder that the CLI names, relative as it is', () => {
  const folder = mkdtempSync(join(tmpdir(), 'turnkeep-synth-'))
  try {
    execFileSync(process.execPath, [join(ROOT, 'bin/turnkeep.ts')], {
      cwd: folder,
      // As the CLI calls it.
      env: {
        PATH: process.env.PATH,
        CDK_OUTDIR: 'cdk.out',
        CDK_CONTEXT_JSON: JSON.stringify({ env: 'dev' }),
      },
      stdio: 'pipe',
    })
    const made = readdirSync(join(folder, 'cdk.out'))
    expect(made).toContain('turnkeep-dev-data.template.json')
    expect(made).toContain('turnkeep-dev-service.template.json')
    for (const file of ['page/index.html', 'page/assets', 'functions/chat/index.mjs'])
      expect([file, existsSync(join(folder, 'cdk.out', file))]).toEqual([file, true])
    expect(existsSync(join(ROOT, 'web/cdk.out'))).toBe(false)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
