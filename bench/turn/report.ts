import type { Consumption } from '../../lib/cost/consumption.ts'
import { amount, table } from '../../lib/cost/table.ts'

export function printTurn(consumption: Consumption): void {
  const { measured, turn, functions, calls, viewer, model, database, alone, idle } = consumption
  console.log(
    `One turn: a question of ${turn.questionCharacters} characters, an answer of ${turn.answerCharacters} in ${turn.answerTokens} tokens and ${amount(model.ms / 1_000)} s,`,
  )
  console.log(
    `conversations of ${turn.turnsPerConversation}. The mean of ${measured.turns}, ${measured.machine}, Node ${measured.node}, ${measured.commit}.\n`,
  )
  console.log(
    table(
      Object.entries(functions).map(([name, use]) => ({
        function: name,
        invocations: amount(use.invocations),
        ms: amount(use.ms),
        'log bytes': amount(use.logBytes),
      })),
    ),
  )
  console.log()
  console.log(
    table(
      calls.map((call) => ({
        function: call.function,
        service: call.service,
        operation: call.operation,
        calls: amount(call.calls),
        units: amount(call.units),
        'bytes sent': amount(call.requestBytes),
        'bytes received': amount(call.responseBytes),
      })),
    ),
  )
  console.log()
  console.log(
    table(
      [
        ['queue messages for persist', consumption.queueMessages],
        ['requests of the client', viewer.requests],
        ['bytes from the client', viewer.sentBytes],
        ['bytes to the client', viewer.receivedBytes],
        ['bytes to the model', model.sentBytes],
        ['bytes from the model', model.receivedBytes],
        ['bytes of sessions and messages, with indexes', database.storedBytes],
        ['bytes that are swept after a day', database.passingBytes],
        ['bytes of write-ahead log', database.walBytes],
        ['processor ms of Postgres, of turns that overlap', database.cpuMs ?? Number.NaN],
        ['processor ms of the functions, likewise', consumption.functionsCpuMs ?? Number.NaN],
        ['processor ms of Postgres, of turns alone', alone.postgresMs ?? Number.NaN],
        ['processor ms of the functions, likewise alone', alone.functionsMs ?? Number.NaN],
        ['custom metrics written', consumption.metrics.length],
      ].map(([what, value]) => ({ 'one turn': String(what), amount: amount(Number(value)) })),
    ),
  )
  if (consumption.cache) {
    const { commands, gigabyteHours, simpleMicroseconds } = consumption.cache
    const bytesForADay = (gigabyteHours * 1e9) / 24
    console.log(`\nThe cache, where a simple command takes ${amount(simpleMicroseconds)} µs:\n`)
    console.log(
      table(
        commands.map(({ operation, calls, bytes, microseconds, ecpus }) => ({
          operation,
          calls: amount(calls),
          bytes: amount(bytes),
          'µs each': amount(microseconds),
          ECPUs: amount(ecpus),
        })),
      ),
    )
    console.log(`What a turn leaves in it is as much as ${amount(bytesForADay)} bytes for a day.`)
  }
  console.log('\nOne run of maintain while nobody is there:')
  for (const [name, use] of Object.entries(idle.functions))
    console.log(`  ${name}: ${amount(use.ms)} ms, ${amount(use.logBytes)} log bytes`)
  for (const call of idle.calls) console.log(`  ${call.service} ${call.operation}: ${amount(call.calls)}`)
  console.log(`  custom metrics: ${idle.metrics.length}`)
}
