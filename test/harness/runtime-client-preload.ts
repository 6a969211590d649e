/** Loaded before aws-lambda-ric: gives it what stands for its compiled part, and marks the function's calls. */
import { registerHooks } from 'node:module'
import { markCalls } from '../../local/functions/mark-calls.ts'

registerHooks({
  resolve: (specifier, context, nextResolve) =>
    specifier === './rapid-client.node'
      ? { url: import.meta.resolve('./rapid-client.ts'), format: 'module-typescript', shortCircuit: true }
      : nextResolve(specifier, context),
})
markCalls(process.env.AWS_LAMBDA_FUNCTION_NAME)
