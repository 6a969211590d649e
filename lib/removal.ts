import { RemovalPolicy } from 'aws-cdk-lib'
import type { Settings } from './settings.ts'

/** What becomes of something that holds data when it leaves its stack. */
export const removalOf = ({ dataRemoval }: Pick<Settings, 'dataRemoval'>): RemovalPolicy =>
  dataRemoval === 'destroy' ? RemovalPolicy.DESTROY : RemovalPolicy.RETAIN
