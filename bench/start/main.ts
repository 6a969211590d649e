/** `npm run bench:start`: start-up alone. Writes bench/results/start-<date>.json. */
import { relative } from 'node:path'
import { parseArgs } from 'node:util'
import { circumstances, keepResult } from '../machine.ts'
import { measureStart, printStart } from './section.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '15' } } })
const rounds = Number(values.rounds)
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds must be a whole number above 0.')

const measured = { ...circumstances(), rounds }
const figures = await measureStart({ rounds })
printStart(figures)
console.log(`\nMedians of ${rounds} rounds, ${measured.machine}, Node ${measured.node}, ${measured.commit}.`)
const file = keepResult('start', { measured, functions: figures.functions })
console.log(`Written to ${relative(process.cwd(), file)}`)
