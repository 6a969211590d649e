/** The model, in a process of its own. The last question says what its answer is like: see `question`. */
import { startScriptedModel } from '../../local/model/scripted-model.ts'
import { announce } from './child.ts'
import { readQuestion } from './question.ts'

const WORDS = ['주문', ' 번호를', ' 알려', ' 주시면', ' the', ' parcel', ' is', ' on', ' its', ' way', ' 😀.']

const model = await startScriptedModel({
  respond: ({ messages }) => {
    const { tokens, tokenMs, firstMs } = readQuestion(messages.at(-1)?.content ?? '')
    return {
      content: Array.from({ length: tokens }, (_, index) => WORDS[index % WORDS.length] ?? ''),
      tokenDelayMs: tokenMs,
      firstDelayMs: firstMs,
    }
  },
})
announce(model.url)
