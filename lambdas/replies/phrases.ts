/** What a client may show people, in the languages of the product. */
import type { Locale, ReplyErrorCode, ReplyStage } from '../protocol/chat.ts'

export const stagePhrases: Record<Locale, Record<ReplyStage, string>> = {
  en: {
    analyzing: 'Reading your question…',
    searching: 'Searching the knowledge base…',
    answering: 'Writing an answer…',
  },
  ko: {
    analyzing: '질문을 살펴보고 있습니다…',
    searching: '자료를 찾고 있습니다…',
    answering: '답변을 작성하고 있습니다…',
  },
}

export type Phrased = Extract<ReplyErrorCode, 'not_saved' | 'interrupted' | 'model_unavailable' | 'internal'>

export const errorPhrases: Record<Locale, Record<Phrased, string>> = {
  en: {
    not_saved: 'The answer could not be saved. Please ask again.',
    interrupted: 'The answer was interrupted. What had arrived is kept.',
    model_unavailable: 'The model cannot answer right now.',
    internal: 'Something went wrong while answering.',
  },
  ko: {
    not_saved: '답변을 저장하지 못했습니다. 다시 질문해 주세요.',
    interrupted: '답변이 중간에 끊겼습니다. 도착한 내용은 저장되었습니다.',
    model_unavailable: '지금은 모델이 답변할 수 없습니다.',
    internal: '답변하는 중에 문제가 발생했습니다.',
  },
}
