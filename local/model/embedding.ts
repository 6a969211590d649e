import { createHash } from 'node:crypto'

export const DEFAULT_DIMENSIONS = 1536
const NGRAM_CHARACTERS = [1, 2, 3]

/**
 * A vector of unit length from hashed runs of one to three characters: texts that share words or parts of words
 * lie near each other, in any language. The same text always gives the same vector.
 */
export function embed(text: string, dimensions: number): number[] {
  const vector = new Array<number>(dimensions).fill(0)
  const characters = [...` ${text.normalize('NFC').toLowerCase().replace(/\s+/g, ' ').trim()} `]
  for (const length of NGRAM_CHARACTERS) {
    for (let at = 0; at + length <= characters.length; at += 1) {
      const hash = hashOf(characters.slice(at, at + length).join(''))
      const index = (hash >>> 1) % dimensions
      vector[index] = (vector[index] ?? 0) + (hash & 1 ? 1 : -1) * length // longer runs say more
    }
  }
  const norm = Math.hypot(...vector)
  return norm === 0 ? oneHot(text, dimensions) : vector.map((value) => value / norm)
}

/** Where everything cancels out, as in an empty text. */
function oneHot(text: string, dimensions: number): number[] {
  const vector = new Array<number>(dimensions).fill(0)
  vector[createHash('sha256').update(text).digest().readUInt32LE() % dimensions] = 1
  return vector
}

/** FNV-1a with a final mix, 32 bits, unsigned. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  return (hash ^ (hash >>> 13)) >>> 0
}

/** As OpenAI sends it when `encoding_format` is base64: little-endian 32-bit floats. */
export function toBase64(vector: number[]): string {
  return Buffer.from(Float32Array.from(vector).buffer).toString('base64')
}
