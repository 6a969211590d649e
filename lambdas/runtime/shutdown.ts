/**
 * Aborts when the process is told to end (SIGTERM, which Lambda sends before it retires an environment that has an
 * extension, and a local stop sends too). Running answers then keep what they have and say so.
 */
const controller = new AbortController()

process.once('SIGTERM', () => controller.abort(new Error('the process is ending')))

export const shutdown: AbortSignal = controller.signal
