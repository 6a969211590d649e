import type { Acknowledgment } from 'aws-cdk-lib'
import * as iam from 'aws-cdk-lib/aws-iam'

/**
 * What a function is told of a resource and what it may do with it, which go together: a variable without its
 * permission fails at run time, a permission without its variable is one too many.
 */
export interface Grant {
  variables: Record<string, string>
  statements: iam.PolicyStatement[]
  /** Rules that the statements break, with the reason why they may. */
  accepted?: Acknowledgment[]
}

export const allow = (actions: string[], ...resources: string[]): iam.PolicyStatement =>
  new iam.PolicyStatement({ actions, resources })

/** Variables that need no permission. What is undefined is left out: the function has its own default. */
export function told(named: Record<string, string | number | undefined>): Grant {
  const given = Object.entries(named).filter(([, value]) => value !== undefined)
  return {
    variables: Object.fromEntries(given.map(([name, value]) => [name, String(value)])),
    statements: [],
  }
}
