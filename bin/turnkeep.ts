/** The CDK app: `npx cdk deploy --all -c env=dev`. Everything about an environment stands in lib/settings.ts. */
import { join } from 'node:path'
import { App } from 'aws-cdk-lib'
import { bundleFunctions } from '../lib/bundle.ts'
import { addEnvironment } from '../lib/environment.ts'
import { resources } from '../lib/resources.ts'
import { type Settings, settingsFor } from '../lib/settings.ts'
import { buildPage } from '../web/build.ts'

const app = new App()
const name: string | undefined = app.node.tryGetContext('env')
const settings = checkedSettings() // before seconds of building
const page = join(app.outdir, 'page')
const [functions] = await Promise.all([
  bundleFunctions(resources.functions, join(app.outdir, 'functions')),
  buildPage(page),
])
addEnvironment(app, String(name), settings, { functions, page })
app.synth()

/** Its words are for whoever deploys; where it was thrown would say nothing to them. */
function checkedSettings(): Settings {
  try {
    return settingsFor(name)
  } catch (error) {
    console.error((error as Error).message)
    process.exit(1)
  }
}
