/** What Lambda does with the role of a function: nothing that could be seen here, and nothing works without it. */
import type { Call } from '../../local/cloud/calls.ts'
import { ACCOUNT, REGION } from './physical-values.ts'
import type { Deployment } from './template.ts'

export interface ImpliedCall extends Call {
  why: string
}

/** https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html */
const LOG_ACTIONS = ['logs:CreateLogStream', 'logs:PutLogEvents']
/** https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html */
const QUEUE_ACTIONS = ['sqs:ReceiveMessage', 'sqs:DeleteMessage', 'sqs:GetQueueAttributes']

export function impliedCalls({ resources: { functions, eventSources } }: Deployment): ImpliedCall[] {
  return [
    ...Object.entries(functions).flatMap(([name, { logGroup }]) =>
      LOG_ACTIONS.map((action) => ({
        function: name,
        action,
        resource: `arn:aws:logs:${REGION}:${ACCOUNT}:log-group:${logGroup}:log-stream:2026/11/20/[$LATEST]0`,
        why: 'Lambda writes its log',
      })),
    ),
    ...eventSources.flatMap((source) =>
      QUEUE_ACTIONS.map((action) => ({
        function: source.function,
        action,
        resource: `arn:aws:sqs:${REGION}:${ACCOUNT}:${source.queue}`,
        why: 'Lambda feeds it from the queue',
      })),
    ),
  ]
}
