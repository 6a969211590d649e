/** One turn's share of what was seen. */
import type { Calls, FunctionUse } from '../../lib/cost/consumption.ts'
import { rounded } from '../figures.ts'
import type { Seen } from './edge.ts'

export const round = (value: number): number => rounded(value, 3)

export function functionsOf(
  { invocations }: Seen,
  logBytes: Record<string, number>,
  runs: number,
): Record<string, FunctionUse> {
  const names = new Set([...invocations.map((one) => one.function), ...Object.keys(logBytes)])
  return Object.fromEntries(
    [...names].sort().map((name) => {
      const own = invocations.filter((one) => one.function === name)
      const ms = own.reduce((sum, one) => sum + one.ms, 0)
      return [
        name,
        {
          invocations: round(own.length / runs),
          ms: round(ms / runs),
          logBytes: round((logBytes[name] ?? 0) / runs),
        },
      ]
    }),
  )
}

export function callsOf({ calls }: Seen, runs: number): Calls[] {
  const groups = Map.groupBy(calls, (call) => `${call.function} ${call.service} ${call.operation}`)
  return [...groups]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([, group]) => {
      const { function: name, service, operation } = group[0] as Calls
      const sum = (key: 'calls' | 'units' | 'requestBytes' | 'responseBytes') =>
        round(group.reduce((total, call) => total + call[key], 0) / runs)
      return {
        function: name,
        service,
        operation,
        calls: sum('calls'),
        units: sum('units'),
        requestBytes: sum('requestBytes'),
        responseBytes: sum('responseBytes'),
      }
    })
}

export const trafficOf = (traffic: Seen['viewer'], runs: number) => ({
  requests: round(traffic.length / runs),
  ms: round(traffic.reduce((sum, { ms }) => sum + ms, 0) / runs),
  sentBytes: round(traffic.reduce((sum, { sentBytes }) => sum + sentBytes, 0) / runs),
  receivedBytes: round(traffic.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0) / runs),
})
