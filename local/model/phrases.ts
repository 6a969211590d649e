/** What the scripted model says. */
type Language = 'ko' | 'en'

/** A Hangul syllable has one of 27 closing consonants or none, and what follows a name depends on it. */
const endsInConsonant = (name: string): boolean => {
  const place = name.charCodeAt(name.length - 1) - 0xac00
  return place >= 0 && place <= 11_171 && place % 28 !== 0
}

export const phrases = {
  en: {
    greeting:
      'Hello! I am the scripted model that comes with Turnkeep. Ask me about **shipping**, **refunds** or ' +
      '**opening hours**, ask for a *long* answer, or ask what you asked me before.',
    nothingEarlier: 'You have not asked me anything before this message, as far as I was told.',
    earlier: 'Earlier you wrote:',
    yourName: (name: string) => `Your name is **${name}**.`,
    fallback: (question: string) =>
      `You wrote: ${question}\n\nI only know a few things by heart:\n\n- shipping\n- refunds\n- opening hours\n` +
      '- a code example\n\nSet `OPENAI_BASE_URL` and `OPENAI_API_KEY` to talk to a real model.',
  },
  ko: {
    greeting:
      '안녕하세요! Turnkeep에 들어 있는 예제 모델입니다. **배송**, **환불**, **영업시간**에 대해 물어보시거나, ' +
      '*길게* 답해 달라고 하시거나, 아까 무엇을 물었는지 물어보세요.',
    nothingEarlier: '이 메시지 이전에 받은 질문이 없습니다.',
    earlier: '이전에 이렇게 말씀하셨습니다:',
    yourName: (name: string) => `이름은 **${name}**${endsInConsonant(name) ? '이라고' : '라고'} 하셨습니다.`,
    fallback: (question: string) =>
      `이렇게 물어보셨습니다: ${question}\n\n제가 외우고 있는 주제는 몇 가지뿐입니다:\n\n- 배송 정책\n- 환불과 반품\n` +
      '- 영업시간\n- 코드 예제\n\n실제 모델과 대화하려면 `OPENAI_BASE_URL`과 `OPENAI_API_KEY`를 설정하세요.',
  },
}

export const topics: ({ pattern: RegExp } & Record<Language, string>)[] = [
  {
    pattern: /shipping|deliver|배송|택배|배달/i,
    en: [
      'Here is how shipping works:',
      '- Orders before **3 p.m.** leave the same day.',
      '- Delivery takes 1 to 3 working days, islands 2 days longer.',
      '- Shipping is free from 50,000 won.',
      '',
      '| Region | Time | Fee |\n|---|---|---|\n| Mainland | 1–3 days | 3,000 won |\n| Jeju, islands | 3–5 days | 6,000 won |',
    ].join('\n'),
    ko: [
      '배송 정책을 안내해 드립니다:',
      '- **오후 3시** 이전 주문은 당일 출고됩니다.',
      '- 출고 후 1~3영업일 안에 도착하며, 도서 지역은 2일 더 걸립니다.',
      '- 5만 원 이상 주문하시면 배송비가 무료입니다.',
      '',
      '| 지역 | 기간 | 배송비 |\n|---|---|---|\n| 육지 | 1~3일 | 3,000원 |\n| 제주·도서 | 3~5일 | 6,000원 |',
    ].join('\n'),
  },
  {
    pattern: /refund|return policy|money back|환불|반품|교환/i,
    en: [
      'You can return most things:',
      '1. Ask for the return within **7 days** of delivery.',
      '2. Send the item back unused, in its packaging.',
      '3. The refund arrives 3 working days after we have checked it.',
      '',
      'Return shipping is on us when the item was faulty.',
    ].join('\n'),
    ko: [
      '환불과 반품 절차는 다음과 같습니다:',
      '1. 상품을 받은 날부터 **7일 이내**에 신청해 주세요.',
      '2. 사용하지 않은 상태로 포장과 함께 보내 주세요.',
      '3. 검수가 끝나고 3영업일 안에 환불됩니다.',
      '',
      '상품 불량이면 반품 배송비는 저희가 부담합니다.',
    ].join('\n'),
  },
  {
    pattern: /opening hours|open today|business hours|영업\s?시간|운영\s?시간|몇 시/i,
    en: 'We answer on weekdays from **9 a.m. to 6 p.m.** (lunch 12–1 p.m.), and not on public holidays.',
    ko: '평일 **오전 9시부터 오후 6시**까지 상담합니다 (점심시간 12~1시). 주말과 공휴일은 쉽니다.',
  },
  {
    pattern: /\bcode\b|\bapi\b|example|코드|예제/i,
    en: [
      'A request looks like this:',
      '```ts',
      "const response = await fetch('/api/chat/stream', {",
      "  method: 'POST',",
      "  headers: { authorization: 'Bearer ' + token, 'content-type': 'application/json' },",
      "  body: JSON.stringify({ message: 'Hello' }),",
      '})',
      '```',
      'The answer is a stream of server-sent events.',
    ].join('\n'),
    ko: [
      '요청은 다음과 같습니다:',
      '```ts',
      "const response = await fetch('/api/chat/stream', {",
      "  method: 'POST',",
      "  headers: { authorization: 'Bearer ' + token, 'content-type': 'application/json' },",
      "  body: JSON.stringify({ message: '안녕하세요' }),",
      '})',
      '```',
      '응답은 서버 전송 이벤트 스트림으로 옵니다.',
    ].join('\n'),
  },
]

const LONG_ANSWER_PARAGRAPHS = 24

/** Some hundred words, each paragraph numbered so that a gap or a repetition shows. */
export function longAnswer(language: Language): string {
  return Array.from({ length: LONG_ANSWER_PARAGRAPHS }, (_, index) =>
    language === 'ko'
      ? `**${index + 1}번째 문단.** 이 문단은 긴 답변을 시험하기 위한 것입니다. 답변이 길어질수록 연결이 끊기거나 ` +
        '서버가 멈출 가능성도 커지지만, 이미 보여 드린 글자는 하나도 사라지지 않아야 합니다.'
      : `**Paragraph ${index + 1}.** This one is here so that the answer takes a while. The longer an answer ` +
        'is, the likelier it becomes that a connection breaks or a server stops; no character that was shown ' +
        'may be lost when that happens.',
  ).join('\n\n')
}
