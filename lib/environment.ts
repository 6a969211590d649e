import { type App, Validations } from 'aws-cdk-lib'
import { AwsSolutionsChecks } from 'cdk-nag'
import { DataStack } from './data-stack.ts'
import { type Built, ServiceStack } from './service-stack.ts'
import type { Settings } from './settings.ts'

/**
 * Adds one environment's two stacks to the app, and the rules that they are checked against: a synthesis fails where
 * one is broken without a reason. Names begin with the environment's, so that several fit into one account.
 */
export function addEnvironment(
  app: App,
  environment: string,
  settings: Settings,
  built: Built,
): { data: DataStack; service: ServiceStack } {
  const { account, region } = settings
  const props = {
    env: { ...(account && { account }), ...(region && { region }) },
    tags: { turnkeep: environment },
  }
  const data = new DataStack(app, `turnkeep-${environment}-data`, { ...props, settings })
  const service = new ServiceStack(app, `turnkeep-${environment}-service`, {
    ...props,
    environment,
    settings,
    data,
    built,
  })
  Validations.of(app).addPlugins(new AwsSolutionsChecks())
  return { data, service }
}
