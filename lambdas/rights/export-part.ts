/** Bytes of a part of an export as they come together: whole gzip members, and the lines of the next one. */
import { promisify } from 'node:util'
import { gzip as gzipWithCallback } from 'node:zlib'
import type { ExportLine } from './collectors.ts'

const gzip = promisify(gzipWithCallback)

/** Text of one gzip member, about: a character may be several bytes. */
const MEMBER_CHARACTERS = 2 * 1024 * 1024

export interface Part {
  add(line: ExportLine): Promise<void>
  put(member: Buffer): void
  /** Bytes of its whole members. */
  size(): number
  /** Ends the last member. */
  seal(): Promise<void>
  /** All of it; it is empty afterwards. */
  take(): Promise<Buffer>
}

export function openPart(rest: Buffer | undefined): Part {
  let members: Buffer[] = []
  let bytes = 0
  let lines: string[] = []
  let characters = 0
  const put = (member: Buffer): void => {
    members.push(member)
    bytes += member.length
  }
  const seal = async (): Promise<void> => {
    if (lines.length === 0) return
    put(await gzip(lines.join('')))
    lines = []
    characters = 0
  }
  if (rest) put(rest)
  return {
    put,
    seal,
    async add(line) {
      const text = `${JSON.stringify(line)}\n`
      lines.push(text)
      characters += text.length
      if (characters >= MEMBER_CHARACTERS) await seal()
    },
    size: () => bytes,
    async take() {
      await seal()
      const whole = Buffer.concat(members)
      members = []
      bytes = 0
      return whole
    },
  }
}
