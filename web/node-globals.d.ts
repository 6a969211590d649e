/** The page takes types from lambdas/protocol.ts, which measures metadata with Node's Buffer. */
declare const Buffer: { byteLength(text: string): number }
