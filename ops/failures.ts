/** The command was called wrongly: it ends with 2, and says how it is called. */
export class UsageError extends Error {}

/** It could not be done, and the message says all: it ends with 1. */
export class Failure extends Error {}
