/** A button that copies a text and says that it did. */
import { useEffect, useState } from 'preact/hooks'
import { words } from '../language.ts'
import { AlertIcon, CheckIcon, CopyIcon } from './icons.tsx'

const SHOWN_MS = 2_000

export function CopyButton({ text, label }: { text: string; label: string }) {
  const [outcome, setOutcome] = useState<'none' | 'copied' | 'failed'>('none')
  useEffect(() => {
    if (outcome === 'none') return
    const timer = setTimeout(() => setOutcome('none'), SHOWN_MS)
    return () => clearTimeout(timer)
  }, [outcome])

  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(text)
      setOutcome('copied')
    } catch {
      // Without a secure context, or where the browser forbids it.
      setOutcome('failed')
    }
  }

  const said = outcome === 'copied' ? words.copied : outcome === 'failed' ? words.copyFailed : ''
  return (
    <button type="button" class="icon-button small" aria-label={label} title={said || label} onClick={copy}>
      {outcome === 'none' ? <CopyIcon /> : outcome === 'copied' ? <CheckIcon /> : <AlertIcon />}
      <span class="visually-hidden" role="status">
        {said}
      </span>
    </button>
  )
}
