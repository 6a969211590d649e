/** Which server of a cluster holds a key. */
import type { Reply } from './valkey-connection.ts'

export const SLOTS = 16_384

/** CRC-16/XMODEM, as the cluster specification says. */
const CRC_TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
  return crc
})

function crc16(bytes: Buffer): number {
  let crc = 0
  for (const byte of bytes) crc = ((crc << 8) ^ (CRC_TABLE[(crc >> 8) ^ byte] ?? 0)) & 0xffff
  return crc
}

/** Keys with the same text between their first `{` and the `}` after it share a slot. */
export function slotOf(key: string): number {
  const open = key.indexOf('{')
  const close = key.indexOf('}', open + 1)
  const hashed = open >= 0 && close > open + 1 ? key.slice(open + 1, close) : key
  return crc16(Buffer.from(hashed)) % SLOTS
}

/** The address of each slot's server, `host:port`. Undefined: nobody serves it. */
export type SlotMap = (string | undefined)[]

/**
 * From the reply of CLUSTER SLOTS: [[first, last, [host, port, …], …replicas], …]. No host: the one that was
 * asked.
 */
export function readSlots(reply: Reply, askedHost: string): SlotMap {
  const map: SlotMap = Array.from({ length: SLOTS })
  for (const range of Array.isArray(reply) ? reply : []) {
    if (!Array.isArray(range)) continue
    const [first, last, owner] = range
    if (!Array.isArray(owner)) continue
    const [host, port] = owner
    map.fill(`${host || askedHost}:${port}`, Number(first), Number(last) + 1)
  }
  return map
}

/** What a server says of a key that is not its own. `once`: only this time, the slot is on its way. */
export function redirection(
  message: string,
  askedHost: string,
): { address: string; slot: number; once: boolean } | undefined {
  const match = /^(MOVED|ASK) (\d+) (\S*):(\d+)/.exec(message)
  if (match === null) return undefined
  const [, kind, slot, host, port] = match
  return { address: `${host || askedHost}:${port}`, slot: Number(slot), once: kind === 'ASK' }
}
