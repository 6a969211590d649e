/** What the test files of one run leave for each other: a directory that exists before them and goes after them. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'

const DIRECTORY = 'TURNKEEP_TEST_RUN'
const SELECTED = 'TURNKEEP_TEST_SELECTED'

export default function setup({ vitest }: TestProject): () => void {
  const directory = mkdtempSync(join(tmpdir(), 'turnkeep-run-'))
  process.env[DIRECTORY] = directory
  if (vitest.config.testNamePattern) process.env[SELECTED] = 'by name'
  return () => rmSync(directory, { recursive: true, force: true })
}

/** Undefined outside of a run of vitest. */
export const runDirectory = (): string | undefined => process.env[DIRECTORY]

/** Whether only some tests of each file take part. */
export const isSelected = (): boolean => process.env[SELECTED] !== undefined
