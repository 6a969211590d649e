import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { extname, resolve, sep } from 'node:path'
import type { PageSettings } from '../../lambdas/protocol/page-settings.ts'
import { securityHeaders } from '../../lib/page-headers.ts'
import { sendError } from './http-answers.ts'

const CONTENT_TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.map': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
}

/** Without a deployment there is no sign-in: the page uses tokens for development. */
const NO_SETTINGS = Buffer.from('{}')

export function isPagePath(path: string): boolean {
  return path === '/' || path === '/settings.json' || path.startsWith('/assets/')
}

/** Serves a built page from `directory`: index.html, settings.json and what is below assets/, nothing else. */
export async function servePage(
  directory: string | undefined,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD')
    return sendError(response, 'method_not_allowed', 'Only GET and HEAD are allowed here.')
  }
  const file = directory && fileOf(directory, path)
  const settings = directory && (await settingsIn(directory))
  const content = path === '/settings.json' ? settings : file && (await contentOf(file))
  if (!file || !settings || !content) {
    return sendError(response, 'not_found', 'There is nothing at this address.')
  }

  const etag = `"${createHash('sha256').update(content).digest('base64url').slice(0, 27)}"`
  const { signIn }: PageSettings = JSON.parse(String(settings))
  // no-cache: a browser keeps it and asks whether it changed; a build keeps its file names.
  const headers = { ...securityHeaders(signIn), etag, 'cache-control': 'no-cache' }
  if (request.headers['if-none-match'] === etag) {
    response.writeHead(304, headers).end()
    return
  }
  response.writeHead(200, {
    ...headers,
    'content-type': CONTENT_TYPES[extname(file)] ?? 'application/octet-stream',
    'content-length': content.length,
  })
  response.end(request.method === 'HEAD' ? undefined : content)
}

const contentOf = (file: string): Promise<Buffer | undefined> => readFile(file).catch(() => undefined)

const settingsIn = async (directory: string): Promise<Buffer> =>
  (await contentOf(resolve(directory, 'settings.json'))) ?? NO_SETTINGS

/** Undefined for a path that leads out of the directory, encoded or not. */
function fileOf(directory: string, path: string): string | undefined {
  const root = resolve(directory)
  if (path === '/') return resolve(root, 'index.html')
  if (path === '/settings.json') return resolve(root, 'settings.json')
  try {
    const decoded = decodeURIComponent(path)
    if (decoded.includes('\0')) return undefined
    const file = resolve(root, `.${decoded}`)
    return file.startsWith(resolve(root, 'assets') + sep) ? file : undefined
  } catch {
    return undefined // a malformed escape
  }
}
