/** What is uploaded of a function: one folder with everything in it, the AWS SDK too. */
import { cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { basename, join, relative, resolve } from 'node:path'
import { build, type Metafile } from 'esbuild'

const root = resolve(import.meta.dirname, '..')

/** Folders that a function reads while it runs, by its name; they keep their names in the bundle. */
const CARRIED: Record<string, string> = { migrate: 'sql' }

const REQUIRE =
  "import{createRequire as requireOf}from'node:module';const require=requireOf(import.meta.url);"

export interface Bundle {
  /** Absolute; holds index.mjs, whose `handler` is the function's. */
  directory: string
  /** What each file of it is made of, as esbuild tells it. Stands beside the folder too, as `<name>.json`. */
  metafile: Metafile
}

/**
 * Bundles each handler into `<outDir>/<name>`, from the same sources always to the same bytes, wherever the checkout
 * and `outDir` are: an asset's hash decides whether a function is deployed again.
 */
export async function bundleFunctions<Name extends string>(
  functions: Record<Name, { handler: string }>,
  outDir: string,
): Promise<Record<Name, Bundle>> {
  const names = Object.keys(functions) as Name[]
  const bundles = names.map(
    async (name) => [name, await bundle(name, functions[name].handler, outDir)] as const,
  )
  return Object.fromEntries(await Promise.all(bundles)) as Record<Name, Bundle>
}

async function bundle(name: string, handler: string, outDir: string): Promise<Bundle> {
  // Never written to: source maps name their sources relative to it.
  const imagined = join(root, 'bundle', name)
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: { index: handler },
    outdir: imagined,
    write: false,
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    outExtension: { '.js': '.mjs' },
    // What is imported when it is needed stays in files of its own, which a start does not read.
    splitting: true,
    // The SDK's ES modules: smaller by a third than its CommonJS ones, which cannot be shaken.
    mainFields: ['module', 'main'],
    // @redis/client is CommonJS and asks for Node's own modules: an ES module has nothing to do that with.
    banner: { js: REQUIRE },
    minify: true,
    keepNames: true, // errors of libraries go by their class's name, and logs hold little else
    legalComments: 'none',
    sourcemap: 'linked',
    sourcesContent: false, // places, not texts: they are in the repository, and a start reads the map
    metafile: true,
    logLevel: 'warning',
  })
  const directory = join(outDir, name)
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { recursive: true })
  for (const { path, contents } of outputFiles)
    await writeFile(join(directory, relative(imagined, path)), contents)
  const carried = CARRIED[name]
  if (carried) await cp(join(root, carried), join(directory, basename(carried)), { recursive: true })
  await writeFile(`${directory}.json`, JSON.stringify(metafile))
  return { directory, metafile }
}

type Made = Pick<Bundle, 'metafile'>

/** The scripts that are read before the handler can be called, without what is imported when it is needed. */
export function filesAtStart({ metafile: { outputs } }: Made): string[] {
  const read = new Set<string>()
  const visit = (path: string): void => {
    const output = outputs[path]
    if (!output || read.has(path)) return
    read.add(path)
    for (const { path: next, kind } of output.imports) if (kind === 'import-statement') visit(next)
  }
  for (const path of Object.keys(outputs)) if (basename(path) === 'index.mjs') visit(path)
  return [...read]
}

export const bytesAtStart = (bundle: Made): number =>
  filesAtStart(bundle).reduce((sum, path) => sum + (bundle.metafile.outputs[path]?.bytes ?? 0), 0)
