/**
 * AWS's own runtime client (aws-lambda-ric), as Lambda starts it: one process is one execution environment of one
 * function and runs one invocation at a time.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { findPackageJSON } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

const CLIENT = join(dirname(findPackageJSON('aws-lambda-ric', import.meta.url) ?? ''), 'index.mjs')
const PRELOAD = pathToFileURL(join(import.meta.dirname, 'runtime-client-preload.ts')).href

export interface ExecutionEnvironment {
  name: string
  /** Where the function's code lies, unpacked. */
  taskRoot: string
  /** As the template says: file.export. */
  handler: string
  memoryMb: number
  runtimeApi: string
  /** The function's own variables. */
  variables: Record<string, string>
}

export function startRuntimeClient(environment: ExecutionEnvironment): ChildProcess {
  const { name, taskRoot, handler, memoryMb, runtimeApi, variables } = environment
  return spawn(process.execPath, ['--import', PRELOAD, CLIENT], {
    cwd: taskRoot,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      ...variables,
      // https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html: those that are always there.
      _HANDLER: handler,
      LAMBDA_TASK_ROOT: taskRoot,
      AWS_LAMBDA_RUNTIME_API: runtimeApi,
      AWS_LAMBDA_FUNCTION_NAME: name,
      AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(memoryMb),
      AWS_LAMBDA_LOG_GROUP_NAME: `/aws/lambda/${name}`,
      AWS_LAMBDA_LOG_STREAM_NAME: 'local',
      AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
      AWS_EXECUTION_ENV: 'AWS_Lambda_nodejs24.x',
      TZ: ':UTC',
    },
  })
}
