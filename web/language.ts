/** Every word the page says, in each language it speaks. */
import type { Locale, ReplyErrorCode } from '../lambdas/protocol.ts'
import type { FailureCode } from './failure.ts'

const english = {
  appName: 'Turnkeep',
  skip: 'Skip to the conversation',
  conversations: 'Conversations',
  newConversation: 'New conversation',
  shortcutNew: (key: string) => `New conversation (${key})`,
  openList: 'Show conversations',
  closeList: 'Close the list',
  showMore: 'Show more',
  noConversations: 'Your conversations will appear here.',
  ended: 'Ended',
  answeringNow: 'An answer is being written',
  untitled: 'Untitled conversation',
  groups: { today: 'Today', yesterday: 'Yesterday', week: 'Previous 7 days', older: 'Earlier' },

  rename: 'Rename',
  titleLabel: 'Title of the conversation',
  end: 'End conversation',
  endShort: 'End',
  endTitle: 'End this conversation?',
  endText: 'No further questions can be asked in it. It stays here for you to read.',
  cancel: 'Cancel',
  endedNotice: 'This conversation has ended. You can still read it.',

  welcomeTitle: 'What would you like to know?',
  welcomeText: 'Ask in your own words. Everything is kept from the first word of the answer on.',
  messages: 'Messages',
  youSaid: 'Your question',
  answer: 'Answer',
  loading: 'Loading the conversation',
  jumpToLatest: 'Jump to the latest',
  composerLabel: 'Your message',
  composerPlaceholder: 'Write a message',
  composerHint: 'Enter to send, Shift + Enter for a new line',
  send: 'Send',

  sending: 'Sending',
  settling: 'The connection broke off. Looking for the answer',
  interrupted: 'This answer was interrupted.',
  stopped: 'This answer was stopped.',

  copy: 'Copy',
  copyAnswer: 'Copy answer',
  copyCode: 'Copy code',
  copied: 'Copied',
  copyFailed: 'Could not copy',
  helpful: 'Helpful',
  unhelpful: 'Not helpful',
  sources: (count: number) => (count === 1 ? '1 source' : `${count} sources`),
  table: 'Table',

  retry: 'Try again',
  takeBack: 'Edit',
  askInNew: 'Ask in a new conversation',
  retryAt: (time: string) => `You can try again from ${time}.`,
  requestId: 'Request',
  renameFailed: 'The title was not saved.',
  rateFailed: 'Your rating was not saved.',
  endFailed: 'The conversation was not ended.',
  listFailed: 'The list could not be loaded.',
  loadFailed: 'The conversation could not be loaded.',

  tokenTitle: 'Sign in',
  tokenText: 'Paste an access token (JWT) from your identity provider. It is kept until you close this tab.',
  tokenAgain: 'That token was not accepted. It may have expired.',
  tokenLabel: 'Access token',
  tokenSubmit: 'Continue',

  failures: {
    unreachable: 'There is no connection to the server. Check your network and try again.',
    unanswered: 'The answer to this question did not arrive.',
    interrupted: 'The answer broke off before it was finished.',
    not_saved: 'The answer could not be saved, so it may be missing later.',
    invalid_request: 'This message cannot be sent as it is.',
    message_too_long: 'This message is too long. Please shorten it.',
    unauthenticated: 'You could not be signed in.',
    forbidden: 'You are not allowed to do this.',
    not_found: 'This does not exist, or it is not yours.',
    method_not_allowed: 'This page and the server do not fit together. Please reload the page.',
    reply_in_progress: 'Another answer is still being written in this conversation.',
    conflict: 'Something else changed this at the same time.',
    idempotency_mismatch: 'This message was already sent with other content.',
    ended: 'This conversation has ended and takes no further questions.',
    erased: 'This conversation was erased.',
    payload_too_large: 'This message is too large.',
    unsupported_media_type: 'This page and the server do not fit together. Please reload the page.',
    rate_limited: 'That was a lot in a short time.',
    quota_exceeded: 'Your allowance is used up for now.',
    internal: 'Something went wrong on our side.',
    model_unavailable: 'The assistant cannot answer at the moment.',
    unavailable: 'The service is not available at the moment.',
  } satisfies Record<FailureCode | ReplyErrorCode, string>,
}

export type Words = typeof english

const korean: Words = {
  appName: 'Turnkeep',
  skip: '대화로 건너뛰기',
  conversations: '대화 목록',
  newConversation: '새 대화',
  shortcutNew: (key) => `새 대화 (${key})`,
  openList: '대화 목록 열기',
  closeList: '대화 목록 닫기',
  showMore: '더 보기',
  noConversations: '나눈 대화가 여기에 표시됩니다.',
  ended: '종료됨',
  answeringNow: '답변을 작성하는 중',
  untitled: '제목 없는 대화',
  groups: { today: '오늘', yesterday: '어제', week: '지난 7일', older: '이전' },

  rename: '이름 바꾸기',
  titleLabel: '대화 제목',
  end: '대화 종료',
  endShort: '종료',
  endTitle: '이 대화를 종료할까요?',
  endText: '종료하면 더 질문할 수 없습니다. 나눈 내용은 계속 읽을 수 있습니다.',
  cancel: '취소',
  endedNotice: '종료된 대화입니다. 내용은 계속 읽을 수 있습니다.',

  welcomeTitle: '무엇이 궁금하세요?',
  welcomeText: '편하게 물어보세요. 답변의 첫 글자부터 모두 보관됩니다.',
  messages: '메시지',
  youSaid: '내 질문',
  answer: '답변',
  loading: '대화를 불러오는 중',
  jumpToLatest: '최근 메시지로 이동',
  composerLabel: '메시지 입력',
  composerPlaceholder: '메시지를 입력하세요',
  composerHint: 'Enter로 보내기, Shift + Enter로 줄 바꿈',
  send: '보내기',

  sending: '보내는 중',
  settling: '연결이 끊겨 답변을 찾는 중',
  interrupted: '답변이 중간에 끊겼습니다.',
  stopped: '중지된 답변입니다.',

  copy: '복사',
  copyAnswer: '답변 복사',
  copyCode: '코드 복사',
  copied: '복사했습니다',
  copyFailed: '복사하지 못했습니다',
  helpful: '도움이 됐어요',
  unhelpful: '도움이 안 됐어요',
  sources: (count) => `출처 ${count}개`,
  table: '표',

  retry: '다시 시도',
  takeBack: '수정',
  askInNew: '새 대화에서 질문하기',
  retryAt: (time) => `${time}부터 다시 시도할 수 있습니다.`,
  requestId: '요청 번호',
  renameFailed: '제목을 저장하지 못했습니다.',
  rateFailed: '평가를 저장하지 못했습니다.',
  endFailed: '대화를 종료하지 못했습니다.',
  listFailed: '대화 목록을 불러오지 못했습니다.',
  loadFailed: '대화를 불러오지 못했습니다.',

  tokenTitle: '로그인',
  tokenText: '인증 서비스에서 받은 액세스 토큰(JWT)을 붙여 넣으세요. 이 탭을 닫을 때까지만 보관합니다.',
  tokenAgain: '토큰이 거부되었습니다. 만료되었을 수 있습니다.',
  tokenLabel: '액세스 토큰',
  tokenSubmit: '계속',

  failures: {
    unreachable: '서버에 연결할 수 없습니다. 네트워크를 확인하고 다시 시도해 주세요.',
    unanswered: '이 질문의 답변이 도착하지 않았습니다.',
    interrupted: '답변이 끝나기 전에 끊겼습니다.',
    not_saved: '답변을 저장하지 못해 나중에 보이지 않을 수 있습니다.',
    invalid_request: '이 메시지는 이대로 보낼 수 없습니다.',
    message_too_long: '메시지가 너무 깁니다. 조금 줄여 주세요.',
    unauthenticated: '로그인하지 못했습니다.',
    forbidden: '권한이 없습니다.',
    not_found: '존재하지 않거나 볼 수 없는 내용입니다.',
    method_not_allowed: '페이지와 서버의 버전이 맞지 않습니다. 페이지를 새로 고쳐 주세요.',
    reply_in_progress: '이 대화에서 다른 답변을 아직 작성하고 있습니다.',
    conflict: '같은 순간에 다른 곳에서 변경되었습니다.',
    idempotency_mismatch: '이미 다른 내용으로 보낸 메시지입니다.',
    ended: '종료된 대화라 더 질문할 수 없습니다.',
    erased: '삭제된 대화입니다.',
    payload_too_large: '메시지가 너무 큽니다.',
    unsupported_media_type: '페이지와 서버의 버전이 맞지 않습니다. 페이지를 새로 고쳐 주세요.',
    rate_limited: '짧은 시간에 요청이 많았습니다.',
    quota_exceeded: '사용량을 모두 썼습니다.',
    internal: '서버에서 문제가 생겼습니다.',
    model_unavailable: '지금은 답변할 수 없습니다.',
    unavailable: '지금은 서비스를 이용할 수 없습니다.',
  },
}

const dictionaries: Record<Locale, Words> = { en: english, ko: korean }

/** The first language of the user's list that the page speaks; English where there is none. */
export function localeFor(languages: readonly string[]): Locale {
  for (const language of languages) {
    const base = language.toLowerCase().split('-')[0]
    if (base === 'ko' || base === 'en') return base
  }
  return 'en'
}

export const locale = localeFor(navigator.languages)
export const words = dictionaries[locale]
