/** What is kept of the person who is here: seen, taken along, erased. */
import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import type { ExportAnswer, UserAnswer } from '../../lambdas/protocol/rights.ts'
import type { Api } from '../api.ts'
import { type Failure, failureOf } from '../failure.ts'
import { words } from '../language.ts'
import { startAnew } from '../storage.ts'
import { FailureNote } from './failure-note.tsx'
import { DataIcon } from './icons.tsx'

/** How often the page looks while something is made or removed. */
const LOOK_MS = 1_000

const isUnderWay = (job: { status: string } | null): boolean =>
  job !== null && (job.status === 'queued' || job.status === 'running')

/** Reads what there is, and again and again while something is under way. */
function useData(api: Api) {
  const [data, setData] = useState<UserAnswer | null>(null)
  const [failure, setFailure] = useState<Failure | null>(null)
  const read = async (): Promise<void> => {
    try {
      setData(await api.yourData())
      setFailure(null)
    } catch (error) {
      setFailure(failureOf(error))
    }
  }
  useEffect(() => void read(), [api])
  useEffect(() => {
    if (data === null || !(isUnderWay(data.export) || isUnderWay(data.erasure))) return
    const timer = setTimeout(read, LOOK_MS)
    return () => clearTimeout(timer)
  }, [data, failure])
  /** What has to be seen at once. */
  const after = async (work: (userId: string) => Promise<void>): Promise<boolean> => {
    if (data === null) return false
    try {
      await work(data.userId)
    } catch (error) {
      setFailure(failureOf(error))
      return false
    }
    await read()
    return true
  }
  return { data, failure, read, after }
}

export const YourDataButton = ({ onOpen }: { onOpen(): void }) => (
  <div class="your-data">
    <button type="button" class="button quiet" onClick={onOpen}>
      <DataIcon />
      {words.yourData}
    </button>
  </div>
)

type Stage = 'seen' | 'asked' | 'erasing'

export function YourDataDialog({ api, onClose }: { api: Api; onClose(): void }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const { data, failure, read, after } = useData(api)
  const [asked, setStage] = useState<Stage>('seen')
  const hasFailed = asked === 'erasing' && data?.erasure?.status === 'failed'
  const stage: Stage = hasFailed ? 'asked' : asked
  useEffect(() => dialog.current?.showModal(), [])
  const isErased = stage === 'erasing' && data?.erasure?.status === 'done'

  async function erase(): Promise<void> {
    if (stage === 'erasing') return
    setStage('erasing')
    if (!(await after((userId) => api.eraseData(userId)))) setStage('asked')
  }

  // Everything that the page shows is gone: it begins anew.
  const close = (): void => (isErased ? startAnew() : onClose())

  return (
    <dialog ref={dialog} class="dialog data-dialog" aria-labelledby="data-title" onClose={close}>
      <h2 id="data-title">{words.yourData}</h2>
      {failure !== null && <FailureNote failure={failure} lead={words.dataFailed} onRetry={read} />}
      {isErased ? (
        <p role="status">{words.erasedText}</p>
      ) : (
        <>
          <p>{data === null ? words.loadingData : words.dataCounts(data.sessions, data.messages)}</p>
          <Part title={words.exportTitle} text={words.exportText}>
            <Export
              current={data?.export ?? null}
              onExport={() => after((userId) => api.exportData(userId))}
            />
          </Part>
          <Part title={words.eraseTitle} text={stage === 'seen' ? words.eraseText : words.eraseConfirm}>
            {stage === 'seen' && (
              <button type="button" class="button danger" onClick={() => setStage('asked')}>
                {words.erase}
              </button>
            )}
            {stage === 'asked' && (
              <>
                <button type="button" class="button" onClick={() => setStage('seen')}>
                  {words.cancel}
                </button>
                <button type="button" class="button danger" onClick={erase}>
                  {words.eraseForGood}
                </button>
              </>
            )}
            {stage === 'erasing' && <span role="status">{words.erasing}</span>}
            {hasFailed && <span role="status">{words.eraseFailed}</span>}
          </Part>
        </>
      )}
      <div class="dialog-actions">
        <button type="button" class="button" onClick={() => dialog.current?.close()}>
          {words.close}
        </button>
      </div>
    </dialog>
  )
}

const Part = ({ title, text, children }: { title: string; text: string; children: ComponentChildren }) => (
  <section>
    <h3>{title}</h3>
    <p>{text}</p>
    <div class="data-actions">{children}</div>
  </section>
)

function Export({ current, onExport }: { current: ExportAnswer | null; onExport(): void }) {
  if (current !== null && isUnderWay(current))
    return <span role="status">{words.exporting(current.progress.sessions, current.progress.messages)}</span>
  return (
    <>
      {current?.status === 'failed' && <span role="status">{words.exportFailed}</span>}
      {current?.download && (
        <a class="button" href={current.download.url} download>
          {words.download}
        </a>
      )}
      <button type="button" class="button" onClick={onExport}>
        {current?.download ? words.exportAgain : words.exportStart}
      </button>
    </>
  )
}
