import { BadRequest, parseModel } from './chat-request.ts'
import { DEFAULT_DIMENSIONS, embed, toBase64 } from './embedding.ts'
import { countTokens } from './text.ts'

const MAX_DIMENSIONS = 4096

/** Answers a body of POST /v1/embeddings; throws BadRequest. */
export function answerEmbeddings(body: Record<string, unknown>): object {
  const model = parseModel(body)
  const inputs = [body.input].flat()
  if (inputs.length === 0 || inputs.some((input) => typeof input !== 'string' || input === '')) {
    throw new BadRequest('input', "Invalid 'input': expected a text or a list of texts, none of them empty.")
  }
  const texts = inputs as string[]
  const dimensions = (body.dimensions ?? DEFAULT_DIMENSIONS) as number
  if (!Number.isInteger(dimensions) || dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    throw new BadRequest('dimensions', `Invalid 'dimensions': expected a number from 1 to ${MAX_DIMENSIONS}.`)
  }
  const tokens = texts.reduce((sum, text) => sum + countTokens(text), 0)
  return {
    object: 'list',
    data: texts.map((text, index) => {
      const vector = embed(text, dimensions)
      return {
        object: 'embedding',
        index,
        embedding: body.encoding_format === 'base64' ? toBase64(vector) : vector,
      }
    }),
    model,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  }
}
