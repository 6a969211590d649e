/** Builds the page: static files that any host can serve. */
import { readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const source = fileURLToPath(new URL('.', import.meta.url))

/** As old as the style sheet's and the scripts' features allow. */
const BROWSERS = ['chrome111', 'edge111', 'firefox115', 'safari16.4']

/**
 * Writes `index.html` and `assets/` into a folder, which is made. The names in `assets/` hold a hash of the
 * content, so that they may be cached for ever; the page itself must not be.
 */
export async function buildPage(folder: string): Promise<void> {
  const outDir = resolve(folder) // esbuild would take a relative one from its own working directory
  await rm(join(outDir, 'assets'), { recursive: true, force: true })
  const { metafile } = await build({
    absWorkingDir: source,
    entryPoints: ['main.tsx', 'style/style.css', 'icon.svg'],
    loader: { '.svg': 'copy' },
    bundle: true,
    minify: true,
    metafile: true,
    format: 'esm',
    target: BROWSERS,
    charset: 'utf8',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    entryNames: '[name]-[hash]',
    outdir: join(outDir, 'assets'),
    logLevel: 'warning',
  })
  let page = await readFile(join(source, 'index.html'), 'utf8')
  for (const [path, { entryPoint }] of Object.entries(metafile.outputs)) {
    if (entryPoint === undefined) continue
    const plain = entryPoint.replace(/^.*\//, '').replace(/\.tsx$/, '.js')
    page = page.replace(`"/${plain}"`, `"/assets/${basename(path)}"`)
  }
  await writeFile(join(outDir, 'index.html'), page)
}
