/** Leads through the answers to one question. */
import type { Message } from '../../lambdas/protocol/messages.ts'
import { words } from '../language.ts'
import { NextIcon, PreviousIcon } from './icons.tsx'

interface Props {
  message: Message
  siblings: Message[]
  onChoose(answer: Message): void
}

export function SiblingSwitch({ message, siblings, onChoose }: Props) {
  const at = siblings.indexOf(message)
  const [previous, next] = [siblings[at - 1], siblings[at + 1]]
  const step = (target: Message | undefined, label: string, Icon: typeof NextIcon) => (
    <button
      type="button"
      class="icon-button small"
      aria-label={label}
      title={label}
      // Not disabled: the focus would be lost at either end.
      aria-disabled={target === undefined}
      onClick={() => target !== undefined && onChoose(target)}
    >
      <Icon />
    </button>
  )
  return (
    <div class="siblings">
      {step(previous, words.previousAnswer, PreviousIcon)}
      <span role="status" aria-label={words.answerOf(at + 1, siblings.length)}>
        {at + 1} / {siblings.length}
      </span>
      {step(next, words.nextAnswer, NextIcon)}
    </div>
  )
}
