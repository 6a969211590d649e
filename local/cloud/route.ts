import type { Route } from '../../lib/resources.ts'

/** The function that a request is for; undefined where no route matches. */
export function route(routes: readonly Route[], path: string): string | undefined {
  return routes.find((candidate) => matches(candidate.path, path))?.function
}

function matches(pattern: string, path: string): boolean {
  const wanted = pattern.split('/')
  const given = path.split('/')
  const openEnded = wanted.at(-1) === '*'
  if (openEnded ? given.length < wanted.length : given.length !== wanted.length) return false
  return wanted.every((segment, index) => segment === '*' || segment === given[index])
}
