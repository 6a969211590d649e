/**
 * What an ordinary turn uses, as `npm run bench:turn` measures it: counts and bytes of turns that come one at a time, which no
 * machine changes, and processor time of turns that overlap, which the machine does change.
 */

export interface FunctionUse {
  invocations: number
  /** All of them together, on the machine that measured. */
  ms: number
  /** As CloudWatch Logs bills it: 26 bytes more for each line. */
  logBytes: number
}

export interface Calls {
  function: string
  service: 'rds-data' | 'sqs' | 's3' | 'secretsmanager'
  /** A database operation, or an action of the service. */
  operation: string
  calls: number
  /** What is billed: 32 KB of the Data API, 64 KB of SQS, otherwise calls. */
  units: number
  requestBytes: number
  responseBytes: number
}

/** Of the cache of phase 2, one turn's share. */
export interface CacheUse {
  /** What a command takes that moves little and does little, on the machine that measured. */
  simpleMicroseconds: number
  commands: {
    /** A script or a command. */
    operation: string
    /** In the slot that all of a tenant's turns share: limits, budgets and settings. Otherwise in one of the turn's own. */
    ofTenant: boolean
    calls: number
    /** Both ways. */
    bytes: number
    /** The server's time for each, while turns overlap. */
    microseconds: number
    /** One for each simple command, KB or time of a simple command, whichever is most. */
    ecpus: number
  }[]
  /** What stays in it, for as long as it stays. */
  gigabyteHours: number
}

export interface Traffic {
  requests: number
  /** From a request's first byte to its answer's last. */
  ms: number
  sentBytes: number
  receivedBytes: number
}

/** One turn's share, in milliseconds; null where it cannot be seen. */
export interface ProcessorTime {
  postgresMs: number | null
  /** Of the process that hosts all functions. */
  functionsMs: number | null
}

export interface Overlapping {
  /** At once. */
  conversations: number
  /** Of each round. */
  turns: number
  /** Of the machine, in the minute before. */
  loadBefore: number
  rounds: ProcessorTime[]
}

export interface Consumption {
  measured: { at: string; commit: string; node: string; machine: string; turns: number }
  /** What a turn is here. */
  turn: {
    questionCharacters: number
    answerCharacters: number
    answerTokens: number
    /** Between two tokens. */
    tokenMs: number
    /** Each conversation lists the user's sessions before its first turn and reads its messages after the last. */
    turnsPerConversation: number
  }
  /** Everything below is one turn's share. */
  functions: Record<string, FunctionUse>
  calls: Calls[]
  /** That the queue handed to persist. */
  queueMessages: number
  /** Between clients and the front door, with headers. */
  viewer: Traffic
  /** Between chat and the model's endpoint. */
  model: Traffic
  database: {
    /** Sessions and messages, with their indexes, once saved. */
    storedBytes: number
    /** The turn, its reply log and its key, which are swept after a day. */
    passingBytes: number
    walBytes: number
    /** Of Postgres' processes, in milliseconds: the middle one of the rounds. Null where they cannot be seen. */
    cpuMs: number | null
  }
  /** Of a measurement in phase 2. */
  cache?: CacheUse
  /** The same of the process that hosts all functions. */
  functionsCpuMs: number | null
  /** What these two are the middle of. */
  overlapping: Overlapping
  /** What they would be of turns that come one at a time: no model counts with it. */
  alone: ProcessorTime
  /** Custom metrics that were written at all: namespace, dimensions and name. */
  metrics: string[]
  /** One run of a schedule while nobody is there. */
  idle: { functions: Record<string, FunctionUse>; calls: Calls[]; metrics: string[] }
}
