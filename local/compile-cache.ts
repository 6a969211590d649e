import { resolve } from 'node:path'

/**
 * For the environment of a process of this project: what it compiles is kept for the next one, which starts in half the
 * time. Beside the packages, where nobody else can write.
 */
export const COMPILE_CACHE = {
  NODE_COMPILE_CACHE:
    process.env.NODE_COMPILE_CACHE ?? resolve(import.meta.dirname, '../node_modules/.cache/turnkeep'),
}
