import type { ChatRequest } from './chat-request.ts'
import { longAnswer, phrases, topics } from './phrases.ts'
import type { Script } from './script.ts'

/** The default answers: useful enough to try the product with, in the language of the question. */
export function respondUsefully({ messages }: ChatRequest): Script {
  const asked = messages.filter((message) => message.role === 'user').map((message) => message.content.trim())
  const question = asked.at(-1) ?? ''
  const earlier = asked.slice(0, -1)
  const language = /\p{Script=Hangul}/u.test(question) ? 'ko' : 'en'
  return { content: contentFor(question, earlier, language) }
}

function contentFor(question: string, earlier: string[], language: 'ko' | 'en'): string {
  const say = phrases[language]
  if (/\bmy name\b.*\?|who am i|이름이?\s*(뭐|무엇|누구)|이름.*(기억|했지)/i.test(question)) {
    return recall(nameIn(earlier), earlier, language)
  }
  if (MEMORY.test(question)) return recall(undefined, earlier, language)
  if (/\b(long|lengthy|detailed)\b|길게|긴\s|자세(히|하게)/i.test(question)) return longAnswer(language)
  const topic = topics.find(({ pattern }) => pattern.test(question))
  if (topic) return topic[language]
  if (/^(hi|hello|hey|good (morning|afternoon|evening))\b|^안녕|^반가/i.test(question)) return say.greeting
  return say.fallback(quote(question))
}

const MEMORY = new RegExp(
  [
    'what (did|have|had) i (just )?(ask|say|said|tell|told)',
    '(asked|said|mentioned|told you).*(before|earlier|previously)',
    '(previous|last|first) (question|message)',
    'do you remember',
    '(아까|이전에?|전에|방금|처음에?).*(뭐|무엇|무슨|질문|물었|물어|말했|얘기)',
    '기억(해|나|하)',
  ].join('|'),
  'i',
)

function nameIn(earlier: string[]): string | undefined {
  const english = /\b[Mm]y name is (\p{L}[\p{L}'-]*(?: \p{Lu}[\p{L}'-]*)*)/u
  const korean = /(?:내|제) 이름은 ([\p{L}\p{N}]{1,20}?)(?:이?야|입니다|이?에요|예요|이라고|라고|[\s.,!]|$)/u
  for (const message of earlier.toReversed()) {
    const name = (english.exec(message) ?? korean.exec(message))?.[1]
    if (name) return name
  }
  return undefined
}

function recall(name: string | undefined, earlier: string[], language: 'ko' | 'en'): string {
  const say = phrases[language]
  if (earlier.length === 0) return say.nothingEarlier
  const list = earlier.map((message) => `- ${quote(message)}`).join('\n')
  return `${name ? `${say.yourName(name)}\n\n` : ''}${say.earlier}\n\n${list}`
}

const MAX_QUOTED_CHARACTERS = 300

function quote(message: string): string {
  const line = message.replace(/\s+/g, ' ')
  const characters = [...line]
  return characters.length > MAX_QUOTED_CHARACTERS
    ? `“${characters.slice(0, MAX_QUOTED_CHARACTERS).join('')}…”`
    : `“${line}”`
}
