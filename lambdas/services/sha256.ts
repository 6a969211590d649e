/**
 * SHA-256 as the AWS clients sign with it, for their option `sha256`. Theirs makes four objects of OpenSSL for each call, and
 * reads the same signing key anew: half of what a signature costs.
 */
import { createHmac, createSecretKey, hash, type KeyObject } from 'node:crypto'

type Data = string | ArrayBuffer | ArrayBufferView

const bytesOf = (data: Data): Uint8Array => {
  if (typeof data === 'string') return Buffer.from(data)
  return ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data)
}

/** The clients keep a day's signing key, and pass the same bytes each time. */
const keys = new WeakMap<object, KeyObject>()
function keyOf(secret: Data): KeyObject {
  if (typeof secret === 'string') return createSecretKey(secret, 'utf8')
  const known = keys.get(secret)
  if (known) return known
  const made = createSecretKey(bytesOf(secret))
  keys.set(secret, made)
  return made
}

const hmacOf = (secret: Data, data: Uint8Array): Buffer =>
  createHmac('sha256', keyOf(secret)).update(data).digest()

/** With each call a client looks its signing key up, by the HMAC of the access key's id under its secret. */
let lookedUp: { secret: string; data: Uint8Array; hmac: Buffer } | undefined
function hmacUnderText(secret: string, data: Uint8Array): Buffer {
  if (lookedUp?.secret !== secret || Buffer.compare(lookedUp.data, data) !== 0)
    lookedUp = { secret, data: Buffer.from(data), hmac: hmacOf(secret, data) }
  return Buffer.from(lookedUp.hmac)
}

/** A digest; with a secret its HMAC. More may be added after a digest, which then is that of all. */
export class Sha256 {
  readonly digestLength = 32
  readonly #secret: Data | undefined
  #parts: Uint8Array[] = []

  constructor(secret?: Data) {
    this.#secret = secret
  }

  update(data: Data): void {
    this.#parts.push(bytesOf(data))
  }

  async digest(): Promise<Uint8Array> {
    const [first = new Uint8Array(), ...others] = this.#parts
    const data = others.length === 0 ? first : Buffer.concat(this.#parts)
    if (this.#secret === undefined) return hash('sha256', data, 'buffer')
    return typeof this.#secret === 'string' ? hmacUnderText(this.#secret, data) : hmacOf(this.#secret, data)
  }

  reset(): void {
    this.#parts = []
  }
}
