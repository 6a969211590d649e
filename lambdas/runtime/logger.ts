/**
 * Structured logs. Ids and codes, never message content: an error is logged by its name, message, stack and those of
 * its causes, and no code puts content into an error's message.
 */
import { Logger } from '@aws-lambda-powertools/logger'

export const openLogger = (serviceName: string): Logger =>
  new Logger({ serviceName: `turnkeep-${serviceName}` })
