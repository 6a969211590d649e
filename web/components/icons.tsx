/** Line icons, 20 × 20, drawn in the colour of the text around them. */
import type { ComponentChildren } from 'preact'

const Icon = ({ children }: { children: ComponentChildren }) => (
  <svg
    class="icon"
    viewBox="0 0 20 20"
    width="20"
    height="20"
    fill="none"
    stroke="currentColor"
    stroke-width="1.5"
    stroke-linecap="round"
    stroke-linejoin="round"
    aria-hidden="true"
    focusable="false"
  >
    {children}
  </svg>
)

export const ListIcon = () => (
  <Icon>
    <path d="M3.5 6h13M3.5 10h13M3.5 14h8" />
  </Icon>
)
export const CloseIcon = () => (
  <Icon>
    <path d="m5.5 5.5 9 9M14.5 5.5l-9 9" />
  </Icon>
)
export const ComposeIcon = () => (
  <Icon>
    <path d="M16.5 10.5V15a1.5 1.5 0 0 1-1.5 1.5H5A1.5 1.5 0 0 1 3.5 15V5A1.5 1.5 0 0 1 5 3.5h4.5" />
    <path d="m8 12 .5-2.5 6.8-6.8a1.2 1.2 0 0 1 1.7 0l.3.3a1.2 1.2 0 0 1 0 1.7L10.5 11.5 8 12Z" />
  </Icon>
)
export const PencilIcon = () => (
  <Icon>
    <path d="m4 16 .8-3.6 8.7-8.7a1.3 1.3 0 0 1 1.8 0l1 1a1.3 1.3 0 0 1 0 1.8l-8.7 8.7L4 16Z" />
  </Icon>
)
export const ArchiveIcon = () => (
  <Icon>
    <rect x="3" y="4" width="14" height="4" rx="1" />
    <path d="M4.5 8v7a1 1 0 0 0 1 1h9a1 1 0 0 0 1-1V8M8.5 11h3" />
  </Icon>
)
export const SendIcon = () => (
  <Icon>
    <path d="M10 16V4.5M5 9.3l5-5 5 5" />
  </Icon>
)
export const StopIcon = () => (
  <svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false">
    <rect x="5" y="5" width="10" height="10" rx="2" fill="currentColor" />
  </svg>
)
export const PreviousIcon = () => (
  <Icon>
    <path d="m12 5-5 5 5 5" />
  </Icon>
)
export const NextIcon = () => (
  <Icon>
    <path d="m8 5 5 5-5 5" />
  </Icon>
)
export const DownIcon = () => (
  <Icon>
    <path d="M10 4v11.5M5 10.7l5 5 5-5" />
  </Icon>
)
export const CopyIcon = () => (
  <Icon>
    <rect x="7" y="7" width="9.5" height="9.5" rx="2" />
    <path d="M13 7V5.5a2 2 0 0 0-2-2H5.5a2 2 0 0 0-2 2V11a2 2 0 0 0 2 2H7" />
  </Icon>
)
export const CheckIcon = () => (
  <Icon>
    <path d="m4 10.5 4 4 8-9" />
  </Icon>
)
export const RetryIcon = () => (
  <Icon>
    <path d="M15.8 8A6.2 6.2 0 1 0 16 11.5" />
    <path d="M16.2 3.8V8H12" />
  </Icon>
)
export const ThumbUpIcon = () => (
  <Icon>
    <path d="M6.5 9 9.6 3.4a1.6 1.6 0 0 1 2 1.9L11 8h4a1.7 1.7 0 0 1 1.6 2.1l-1.2 5A1.7 1.7 0 0 1 13.8 16.5H6.5V9ZM6.5 9H3.5v7.5h3" />
  </Icon>
)
export const ThumbDownIcon = () => (
  <Icon>
    <path d="m13.5 11-3.1 5.6a1.6 1.6 0 0 1-2-1.9L9 12H5a1.7 1.7 0 0 1-1.6-2.1l1.2-5A1.7 1.7 0 0 1 6.2 3.5h7.3V11ZM13.5 11h3V3.5h-3" />
  </Icon>
)
export const AlertIcon = () => (
  <Icon>
    <circle cx="10" cy="10" r="7" />
    <path d="M10 6.5v4M10 13.4v.1" />
  </Icon>
)
export const LeaveIcon = () => (
  <Icon>
    <path d="M8 16.5H5A1.5 1.5 0 0 1 3.5 15V5A1.5 1.5 0 0 1 5 3.5h3M12.5 6.5 16 10l-3.5 3.5M16 10H8" />
  </Icon>
)

export const DataIcon = () => (
  <Icon>
    <path d="M10 3.5c3.6 0 6.5 1.1 6.5 2.5S13.6 8.5 10 8.5 3.5 7.4 3.5 6 6.4 3.5 10 3.5ZM3.5 6v8c0 1.4 2.9 2.5 6.5 2.5s6.5-1.1 6.5-2.5V6M3.5 10c0 1.4 2.9 2.5 6.5 2.5s6.5-1.1 6.5-2.5" />
  </Icon>
)

/** The product's mark: a turn that is kept. */
export const Mark = () => (
  <svg class="mark" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false">
    <rect class="mark-ground" width="32" height="32" rx="9" />
    <path class="mark-line" d="M9 11.5h14M9 16h14M9 20.5h7" />
    <circle class="mark-dot" cx="21.5" cy="20.5" r="2.2" />
  </svg>
)
