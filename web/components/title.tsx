/** The conversation's title; it is edited where it stands. */
import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { type Failure, failureOf } from '../failure.ts'
import { words } from '../language.ts'
import { FailureNote } from './failure-note.tsx'
import { PencilIcon } from './icons.tsx'

/** As the server limits it. */
const MAX_TITLE_CHARACTERS = 200

interface Props {
  title: string
  onRename: ((title: string) => Promise<void>) | undefined
}

export function Title({ title, onRename }: Props) {
  const [isEditing, setIsEditing] = useState(false)
  const [failure, setFailure] = useState<Failure | null>(null)
  const field = useRef<HTMLInputElement>(null)
  const button = useRef<HTMLButtonElement>(null)
  const wasEditing = useRef(false)

  // Before anything else can be typed.
  useLayoutEffect(() => {
    if (isEditing) field.current?.select()
    else if (wasEditing.current) button.current?.focus()
    wasEditing.current = isEditing
  }, [isEditing])

  async function save(): Promise<void> {
    const next = field.current?.value.trim() ?? ''
    setIsEditing(false)
    if (next === '' || next === title || onRename === undefined) return
    setFailure(null)
    try {
      await onRename(next)
    } catch (error) {
      setFailure(failureOf(error))
    }
  }

  if (isEditing) {
    return (
      <form
        class="title title-form"
        onSubmit={(event) => {
          event.preventDefault()
          void save()
        }}
      >
        <input
          ref={field}
          defaultValue={title}
          aria-label={words.titleLabel}
          maxLength={MAX_TITLE_CHARACTERS}
          autocomplete="off"
          onBlur={() => isEditing && void save()}
          onKeyDown={(event) => {
            if (event.key !== 'Escape' || event.isComposing) return
            event.stopPropagation()
            if (field.current !== null) field.current.value = title
            setIsEditing(false)
          }}
        />
      </form>
    )
  }
  return (
    <div class="title">
      <h1 title={title}>{title}</h1>
      {onRename !== undefined && (
        <button
          ref={button}
          type="button"
          class="icon-button small"
          aria-label={words.rename}
          title={words.rename}
          onClick={() => setIsEditing(true)}
        >
          <PencilIcon />
        </button>
      )}
      {failure !== null && (
        <div class="title-failure">
          <FailureNote failure={failure} lead={words.renameFailed} />
        </div>
      )}
    </div>
  )
}
