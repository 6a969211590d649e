import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { startTurnkeep } from '../harness/turnkeep.ts'

const LONG = process.env.DRILLS === 'long'
const TURNS = LONG ? 10_000 : 360
const AT_ONCE = LONG ? 20 : 10
const SAMPLES = 12

const residentMegabytes = (pid: number | undefined): number =>
  Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)]).toString()) / 1_024

/** The process grows while it warms up and breathes with the collector; what must not happen is growth per turn. */
test(
  `the functions' memory after ${TURNS} turns is what it was after a third of them`,
  async () => {
    const turnkeep = await startTurnkeep({
      name: 'memory',
      scriptedModel: { respond: () => ({ content: '짧은 답변입니다. '.repeat(10), tokenDelayMs: 0 }) },
    })
    try {
      const samples: number[] = []
      let asked = 0
      const talk = async (number: number, turns: number): Promise<void> => {
        const user = turnkeep.as({ userId: `user ${number}` })
        let sessionId: string | undefined
        for (let turn = 0; turn < turns; turn += 1) {
          if (turn % 10 === 0) sessionId = undefined
          const reply = await user.ask({ message: `질문 ${turn}`, ...(sessionId ? { sessionId } : {}) })
          expect(reply.terminal?.type).toBe('done')
          sessionId = reply.session?.sessionId
          asked += 1
        }
      }
      for (let sample = 0; sample < SAMPLES; sample += 1) {
        const turns = Math.ceil(TURNS / SAMPLES / AT_ONCE)
        await Promise.all(Array.from({ length: AT_ONCE }, (_, number) => talk(number, turns)))
        samples.push(residentMegabytes(turnkeep.functions().pid))
      }
      console.log(
        `memory of the functions after each ${asked / SAMPLES} turns, MB: ${samples.map(Math.round).join(' ')}`,
      )
      const third = samples.length / 3
      const early = Math.max(...samples.slice(third, 2 * third))
      const late = Math.min(...samples.slice(2 * third))
      expect(late).toBeLessThan(early * 1.1)
    } finally {
      await turnkeep.close()
    }
  },
  LONG ? 1_500_000 : 120_000,
)
