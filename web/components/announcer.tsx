/**
 * Reads a growing answer out for those who listen: each block once, when it is complete. The visible answer
 * is silent, or every token would be announced again.
 */
import { useMemo } from 'preact/hooks'
import { blocksOf, spokenText } from '../markdown.ts'

interface Props {
  /** Which answer this is; another one starts afresh. */
  answerId: string
  text: string
  isComplete: boolean
}

export function Announcer({ answerId, text, isComplete }: Props) {
  const blocks = useMemo(() => blocksOf(text), [text])
  const spoken = isComplete ? blocks : blocks.slice(0, -1)
  return (
    <div class="visually-hidden" aria-live="polite" aria-relevant="additions" key={answerId}>
      {spoken.map((block, index) => (
        <p key={index}>{spokenText(block)}</p>
      ))}
    </div>
  )
}
