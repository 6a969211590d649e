/** The passages that an answer was made from. */
import type { Source } from '../../lambdas/protocol/chat.ts'
import { words } from '../language.ts'

const isSafe = (url: string | undefined): url is string => url !== undefined && /^https?:\/\//i.test(url)

export function Sources({ sources }: { sources: Source[] }) {
  if (sources.length === 0) return null
  return (
    <details class="sources">
      <summary>{words.sources(sources.length)}</summary>
      <ol>
        {sources.map(({ id, title, url, excerpt }) => (
          <li key={id}>
            {isSafe(url) ? (
              <a href={url} target="_blank" rel="noopener noreferrer">
                {title}
              </a>
            ) : (
              <span class="source-title">{title}</span>
            )}
            {excerpt !== undefined && <p>{excerpt}</p>}
          </li>
        ))}
      </ol>
    </details>
  )
}
