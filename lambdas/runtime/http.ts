/**
 * From a Function URL's event to a call of the product and back. A route is data: where it is, what it takes, and the
 * function that answers. Authentication, parsing, validation and errors are the same for all of them.
 */

import type { Readable } from 'node:stream'
import type { Logger } from '@aws-lambda-powertools/logger'
import middy from '@middy/core'
import { executionModeStreamifyResponse } from '@middy/core/executionModeStreamifyResponse'
import jsonBodyParser from '@middy/http-json-body-parser'
import router from '@middy/http-router'
import type { Context, LambdaFunctionURLEvent } from 'aws-lambda'
import * as v from 'valibot'
import type { Caller, Role } from '../protocol/callers.ts'
import { CodedError, type FieldProblem } from '../protocol/errors.ts'
import { errorResponses, isRefusal } from './errors.ts'
import type { OpenAdmission, RequestLimits } from './limits.ts'
import { type RequestLog, withFields } from './logger.ts'

/** 100,000 characters are at most 1.2 MB when every one is an escaped surrogate pair; the rest is room. */
const MAX_BODY_BYTES = 2 * 1024 * 1024

type Schema = v.GenericSchema<unknown, unknown>
type Parsed<Value extends Schema | undefined> = Value extends Schema ? v.InferOutput<Value> : undefined

export interface Call<Body, Query> {
  caller: Caller
  /** Settled already, unless the route says that it does so within. */
  admission: OpenAdmission
  body: Body
  query: Query
  /** A path parameter as it stands in the URL; '' if the route has none of that name. */
  param(name: string): string
  header(name: string): string | undefined
  /** Writes the request's and the tenant's ids on every line. */
  log: RequestLog
  /** Milliseconds since the epoch. */
  arrivedAt: number
  /** Milliseconds until Lambda ends this invocation. */
  remainingMs(): number
}

export interface Answer {
  status: number
  body?: unknown
  headers?: Record<string, string>
  /** Instead of a body; streaming handlers only. */
  stream?: Readable
  /** Work that outlives the answer; the invocation ends when it does. */
  afterwards?: Promise<void>
}

export interface Route {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  path: string
  handle(event: LambdaFunctionURLEvent, context: Context): Promise<Answer>
}

/**
 * When a request's limits are checked: before anything is done; beside it, where what is done changes nothing; or by
 * the route itself, which saves a call by doing both in one. A request that is refused there for itself counts as well.
 */
type Limited = 'before' | 'beside' | 'within'

interface RouteOptions<Body extends Schema | undefined, Query extends Schema | undefined> {
  body?: Body
  query?: Query
  /** Who alone may call it: others are refused before anything else of the request is looked at. Absent: anybody. */
  only?: Role
  /** Absent: beside a GET, before anything else. */
  limited?: Limited
}

/** Who is calling, by whatever the request shows; refuses with a CodedError. */
export type Identify = (event: LambdaFunctionURLEvent) => Promise<Caller>

/** What is found out about a request on its way in. */
interface Identified {
  caller: Caller
  admission: OpenAdmission
  arrivedAt: number
}

/** On the event, because an answer's headers are made elsewhere, also for errors. */
export interface WithLimitHeaders {
  limitHeaders?: Record<string, string>
}

type RouteEvent = LambdaFunctionURLEvent & Partial<Identified> & WithLimitHeaders

/** Makes routes for identified callers, which are held to these limits and whose calls log to this logger. */
export const routing =
  (log: Logger, limits: RequestLimits) =>
  <Body extends Schema | undefined = undefined, Query extends Schema | undefined = undefined>(
    place: `${Route['method']} /${string}`,
    schemas: RouteOptions<Body, Query>,
    identify: Identify,
    answer: (call: Call<Parsed<Body>, Parsed<Query>>) => Promise<Answer>,
  ): Route => {
    const [method, path] = place.split(' ') as [Route['method'], string]
    const { limited = method === 'GET' ? 'beside' : 'before' } = schemas
    const work = middy<RouteEvent, Answer, Error, Context>()
      .before(({ event }) => {
        if (schemas.only && event.caller?.role !== schemas.only)
          throw new CodedError('forbidden', `This is for the role ${schemas.only}.`)
        if ((event.body?.length ?? 0) > MAX_BODY_BYTES)
          throw new CodedError(
            'payload_too_large',
            `The request body must be at most ${MAX_BODY_BYTES} bytes.`,
          )
      })
      .use(schemas.body ? [jsonBodyParser()] : [])
      .handler(async (event, context) => {
        const { caller, admission, arrivedAt } = event as Identified
        const query = Object.fromEntries(new URLSearchParams(event.rawQueryString))
        const { companyId, platform } = caller
        return answer({
          caller,
          admission,
          body: (schemas.body ? check(schemas.body, event.body) : undefined) as Parsed<Body>,
          query: (schemas.query ? check(schemas.query, query) : undefined) as Parsed<Query>,
          param: (name) => event.pathParameters?.[name] ?? '',
          header: (name) => event.headers[name],
          log: withFields(log, { requestId: context.awsRequestId, companyId, platform }),
          arrivedAt,
          remainingMs: () => context.getRemainingTimeInMillis(),
        })
      }) as unknown as (event: RouteEvent, context: Context) => Promise<Answer>
    const handle = async (event: RouteEvent, context: Context): Promise<Answer> => {
      event.arrivedAt = Date.now()
      const show = (headers: Record<string, string>): void => {
        event.limitHeaders = headers
      }
      event.caller = await identify(event).catch(async (error) => {
        if (error instanceof CodedError && error.code === 'unauthenticated')
          await limits.admitStranger(event, show)
        throw error
      })
      event.admission = limits.admissionOf(event.caller, show)
      return withinLimits[limited](event.admission, () => work(event, context))
    }
    return { method, path, handle }
  }

type Work = () => Promise<Answer>

/** Checks the limits while something is done that changes nothing. Where both fail, the limits' refusal is thrown. */
export async function beside<Result>(admission: OpenAdmission, work: () => Promise<Result>): Promise<Result> {
  const [admitted, worked] = await Promise.allSettled([admission.ask(), work()])
  if (admitted.status === 'rejected') throw admitted.reason
  if (worked.status === 'rejected') throw worked.reason
  return worked.value
}

const withinLimits: Record<Limited, (admission: OpenAdmission, work: Work) => Promise<Answer>> = {
  async before(admission, work) {
    await admission.ask()
    return work()
  },
  beside,
  within: (admission, work) =>
    work().catch(async (error) => {
      if (!admission.isSettled && isRefusal(error)) await admission.ask()
      throw error
    }),
}

/** A route for anybody. */
export const publicRoute = (place: `GET /${string}`, answer: () => Promise<Answer>): Route => {
  const [method, path] = place.split(' ') as ['GET', string]
  return { method, path, handle: answer }
}

/** The value as the schema describes it. Refuses `invalid_request` with every wrong field. */
export function check<Value extends Schema>(
  schema: Value,
  input: unknown,
  root = 'body',
): v.InferOutput<Value> {
  const result = v.safeParse(schema, input)
  if (result.success) return result.output
  const details = result.issues.map(
    (issue): FieldProblem => ({ field: v.getDotPath(issue) ?? root, message: explain(issue) }),
  )
  throw new CodedError(
    'invalid_request',
    `The request is not valid: ${details[0]?.field} ${details[0]?.message}.`,
    {
      details,
    },
  )
}

/** Our own words for valibot's two standard problems, which would otherwise quote what they received. */
function explain(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'strict_object' && issue.expected === 'never') return 'is not a known field'
  if (issue.kind !== 'schema' || issue.message.startsWith('must')) return issue.message
  if (issue.received === 'undefined') return 'is required'
  return `must be ${issue.expected?.toLowerCase() ?? 'of another type'}`
}

const segmentsMatch = (template: string, path: string): boolean => {
  const wanted = template.split('/')
  const given = path.replace(/\/$/, '').split('/')
  return (
    wanted.length === given.length &&
    wanted.every((part, index) => part.startsWith('{') || part === given[index])
  )
}

type Dispatch = (event: LambdaFunctionURLEvent, context: Context) => Promise<Answer>

/** The router is typed for API Gateway; ours returns what the routes return. */
function routed(routes: readonly Route[]): Dispatch {
  return router({
    routes: routes.map(({ method, path, handle }) => ({ method, path, handler: handle as never })),
    notFoundResponse: ({ path }: { path: string }) => {
      const allowed = routes
        .filter((candidate) => segmentsMatch(candidate.path, path))
        .map(({ method }) => method)
      if (allowed.length === 0) throw new CodedError('not_found', 'There is no such route.')
      throw new CodedError('method_not_allowed', 'This route does not take that method.', {
        details: { allow: allowed },
      })
    },
  }) as unknown as Dispatch
}

function respond(answer: Answer, { limitHeaders }: WithLimitHeaders, requestId: string) {
  const json = answer.body === undefined ? '' : JSON.stringify(answer.body)
  return {
    statusCode: answer.status,
    headers: {
      ...(json === '' ? {} : { 'content-type': 'application/json; charset=utf-8' }),
      'cache-control': 'no-store',
      'x-request-id': requestId,
      ...limitHeaders,
      ...answer.headers,
    },
    body: answer.stream ?? json,
  }
}

/** What every handler of a Function URL has. */
export interface Observed {
  log: Logger
  /** Writes what the invocation has measured, at its very end. */
  flush: () => void
}

/** A buffered Function URL's handler. */
export function bufferedHandler(routes: readonly Route[], { log, flush }: Observed) {
  const dispatch = routed(routes)
  return middy<LambdaFunctionURLEvent, unknown, Error, Context>({ requestEnd: flush })
    .use(errorResponses(log))
    .handler(async (event, context) =>
      respond(await dispatch(event, context), event as WithLimitHeaders, context.awsRequestId),
    )
}

/** A streaming Function URL's handler. The invocation lasts until the answer's afterwards, also when nobody reads. */
export function streamingHandler(routes: readonly Route[], { log, flush }: Observed) {
  const dispatch = routed(routes)
  const afterwards = new WeakMap<object, Promise<void>>()
  return middy<LambdaFunctionURLEvent, unknown, Error, Context>({
    executionMode: executionModeStreamifyResponse,
    // Awaited by middy once the body has been sent or its reader has gone.
    requestEnd: async ({ response }) => {
      await afterwards.get(response as object)
      flush()
    },
  })
    .use(errorResponses(log))
    .handler(async (event, context) => {
      const answer = await dispatch(event, context)
      const response = respond(answer, event as WithLimitHeaders, context.awsRequestId)
      if (answer.afterwards) afterwards.set(response, answer.afterwards)
      return response
    })
}
