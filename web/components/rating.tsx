/** Two thumbs: the ends of the scale from 1 to 5. */
import type { ComponentChild } from 'preact'
import { useState } from 'preact/hooks'
import { type Failure, failureOf } from '../failure.ts'
import { words } from '../language.ts'
import { ThumbDownIcon, ThumbUpIcon } from './icons.tsx'

const BEST = 5
const WORST = 1
const MIDDLE = 3

interface Props {
  score: number | null
  onRate(score: number): Promise<void>
  /** Failures are shown elsewhere, where there is room. */
  onFailure(failure: Failure | null): void
}

export function Rating({ score, onRate, onFailure }: Props) {
  const [asked, setAsked] = useState<number | null>(null)

  async function rate(next: number): Promise<void> {
    if (asked !== null) return
    setAsked(next)
    onFailure(null)
    try {
      await onRate(next)
    } catch (error) {
      onFailure(failureOf(error))
    } finally {
      setAsked(null)
    }
  }

  const shown = asked ?? score ?? MIDDLE
  const thumb = (value: number, isPressed: boolean, label: string, icon: ComponentChild) => (
    <button
      type="button"
      class="icon-button small"
      aria-label={label}
      title={label}
      aria-pressed={isPressed}
      onClick={() => rate(value)}
    >
      {icon}
    </button>
  )
  return (
    <>
      {thumb(BEST, shown > MIDDLE, words.helpful, <ThumbUpIcon />)}
      {thumb(WORST, shown < MIDDLE, words.unhelpful, <ThumbDownIcon />)}
    </>
  )
}
