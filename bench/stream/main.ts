/**
 * `npm run bench:stream`: streaming against the model itself, a byte pipe and a plain relay, in one run. Takes some ten
 * minutes; `--quick` six of them. `--rounds N`, `--soak-seconds N` (3600 for the long form). Writes
 * bench/results/stream-<date>.json. With `--profile <directory>` it only writes what processes spend their time on.
 */
import { relative } from 'node:path'
import { parseArgs } from 'node:util'
import { circumstances, keepResult } from '../machine.ts'
import { printStreaming } from './print.ts'
import { profileStreaming } from './profile.ts'
import { measureStreaming } from './section.ts'

const SOAK_SECONDS = 60

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    'soak-seconds': { type: 'string' },
    profile: { type: 'string' },
  },
})
const { quick, profile } = values

function wholeNumber(name: 'rounds' | 'soak-seconds', least: number): number | undefined {
  if (values[name] === undefined) return undefined
  const number = Number(values[name])
  if (!Number.isInteger(number) || number < least)
    throw new Error(`--${name} must be a whole number from ${least}.`)
  return number
}

if (profile) await profileStreaming(profile)
else {
  const measured = circumstances()
  const rounds = wholeNumber('rounds', 1)
  const figures = await measureStreaming({
    quick,
    ...(rounds && { rounds }),
    soakSeconds: wholeNumber('soak-seconds', 0) ?? (quick ? 0 : SOAK_SECONDS),
  })
  printStreaming(figures)
  console.log(`\n${measured.machine}, Node ${measured.node}, ${measured.commit}.`)
  console.log(`Written to ${relative(process.cwd(), keepResult('stream', { measured, ...figures }))}`)
}
