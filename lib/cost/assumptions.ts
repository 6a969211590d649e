import { archivedASecond } from './measured.ts'

/** What can neither be read from a template nor measured on one machine. Each may be argued about, here. */
export const assumptions = {
  hoursAMonth: 730,
  /** "Minimum data storage of 100 MB" of a serverless cache. */
  leastCacheGb: 0.1,
  /** In which the turns come, evenly: ten hours of 22 days. The database scales with them. */
  busyHoursAMonth: 220,
  /** What the busiest minute has over the mean of the busy hours; a container must be able to stand it. */
  peakOverMean: 3,

  /** "Aurora storage grows from 10 GB": that much is counted while it is almost empty. */
  leastDatabaseGib: 10,
  /** An ACU is 2 GiB of memory, with the share of a core that instances of that size have. */
  coresAnAcu: 0.25,
  /** Aurora scales up before it is full. */
  databaseUtilisation: 0.5,
  /** A write of less than 4 KB is one I/O, larger ones are counted in 4 KB. */
  ioBytes: 4_096,
  /** Once woken, an hour costs no less than this. */
  leastAwakeAcu: 0.5,
  /** RDS rotates the owner's password every 7 days, and wakes a paused database for it. */
  ownerRotationDays: 7,

  /** What a call takes longer in AWS than on this machine's loopback. */
  networkMs: { 'rds-data': 15, sqs: 10, s3: 25, secretsmanager: 10 },
  /** Calls of chat that nothing overlaps: it opens, closes, queues and finishes; it appends while the model writes. */
  chatWaitsMs: 15 + 15 + 10 + 15,
  /** Of invocations that find no environment, and what such a start is billed for (since August 2025). */
  coldStarts: { share: 0.02, ms: 500 },
  /** Each environment of chat reads its three secrets every 5 minutes; it is busy half of them. */
  secretReads: { secrets: 3, everySeconds: 300, busyShare: 0.5 },

  /** A run of the archiver while nothing is due, until `bench:turn` has measured it: it reads one object. */
  idleArchiveRun: { ms: 20, logBytes: 200, objects: 1 },
  /** It looks at Postgres once in so many days all the same, and wakes it. */
  archiveLooksDays: 7,
  /**
   * Of messages that leave: with a third of a core, a sixth of what bench:archive reaches with two. Gzip leaves so much
   * of a line, which is its text and some 700 bytes of names and ids.
   */
  archive: { messagesASecond: archivedASecond() / 6, lineBytes: 700, gzipShare: 0.35 },

  /** A poller of Lambda asks a queue that is empty, for 20 s at a time; a mapping has five. */
  idlePollers: 5,
  longPollSeconds: 20,

  /** Lambda's own start and report lines, where the function's log holds them. */
  platformLogBytes: 700,
  /** CloudWatch keeps logs compressed. */
  logCompression: 0.15,
  /** Requests beside the API's: the page's files are cached by the browser. */
  pageRequestsATurn: 0.2,

  /** Of a container's processor, in its busiest minute. */
  taskUtilisation: 0.6,
} as const
