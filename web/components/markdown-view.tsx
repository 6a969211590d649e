/** Draws Markdown as elements. Only the elements and attributes named here can come out of it. */

import type { Token } from 'markdown-it'
import { type ComponentChild, Fragment, h } from 'preact'
import { useMemo } from 'preact/hooks'
import { words } from '../language.ts'
import { type Block, blocksOf, withoutParticle } from '../markdown.ts'
import { CodeBlock } from './code-block.tsx'

/** A title, a question and an answer's own heading stand above what an answer contains. */
const HEADINGS_ABOVE = 2
const LAST_HEADING = 6

interface Frame {
  open: Token
  children: ComponentChild[]
}

const attribute = (token: Token, name: string): string | undefined => token.attrGet(name)?.toString()

function link(token: Token, children: ComponentChild[]): ComponentChild {
  const address = attribute(token, 'href') ?? ''
  const props = { target: '_blank', rel: 'noopener noreferrer', title: attribute(token, 'title') }
  const text = children.length === 1 && typeof children[0] === 'string' ? children[0] : null
  if (token.info !== 'auto' || text === null) return h('a', { ...props, href: address }, ...children)
  const [shown, particle] = withoutParticle(text)
  const target = particle === '' ? address : shown
  return h(Fragment, null, h('a', { ...props, href: target }, shown), particle)
}

function element({ open, children }: Frame): ComponentChild {
  if (open.hidden) return h(Fragment, null, ...children)
  switch (open.type) {
    case 'link_open':
      return link(open, children)
    case 'heading_open': {
      const level = Number(open.tag.slice(1))
      return h(`h${Math.min(level + HEADINGS_ABOVE, LAST_HEADING)}`, { class: `level-${level}` }, ...children)
    }
    case 'table_open':
      return (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a wide table is scrolled by keyboard
        <section class="table" aria-label={words.table} tabIndex={0}>
          <table>{children}</table>
        </section>
      )
    case 'th_open':
    case 'td_open': {
      const side = /text-align:(\w+)/.exec(attribute(open, 'style') ?? '')?.[1]
      return h(open.tag, { class: side && `to-${side}` }, ...children)
    }
    case 'ordered_list_open':
      return h('ol', { start: Number(attribute(open, 'start') ?? 1) }, ...children)
    default:
      // Paragraphs, lists, quotes, emphasis, parts of tables: the tag comes from markdown-it's own short list.
      return h(open.tag, null, ...children)
  }
}

function leaf(token: Token): ComponentChild {
  switch (token.type) {
    case 'inline':
      return h(Fragment, null, ...draw(token.children ?? []))
    case 'softbreak':
    case 'hardbreak':
      return <br />
    case 'hr':
      return <hr />
    case 'code_inline':
      return <code>{token.content}</code>
    case 'fence':
    case 'code_block':
      return <CodeBlock code={token.content} language={token.info.trim().split(/\s/, 1)[0] ?? ''} />
    case 'image': {
      // A picture from elsewhere would tell its server who reads this; it is a link instead.
      const address = attribute(token, 'src') ?? ''
      return (
        <a href={address} target="_blank" rel="noopener noreferrer">
          {token.content || address}
        </a>
      )
    }
    default:
      return token.content
  }
}

function draw(tokens: Token[]): ComponentChild[] {
  const root: ComponentChild[] = []
  const frames: Frame[] = []
  const put = (child: ComponentChild): void => {
    ;(frames.at(-1)?.children ?? root).push(child)
  }
  for (const token of tokens) {
    if (token.nesting === 1) frames.push({ open: token, children: [] })
    else if (token.nesting === 0) put(leaf(token))
    else {
      const closed = frames.pop()
      if (closed !== undefined) put(element(closed))
    }
  }
  return root
}

function BlockView({ block, isFinal }: { block: Block; isFinal: boolean }) {
  // A finished answer is drawn once more, since link definitions at its end may change what stands above.
  // A block's source stands for its tokens.
  return useMemo(() => h(Fragment, null, ...draw(block.tokens)), [block.source, isFinal])
}

export function MarkdownView({ text, isGrowing = false }: { text: string; isGrowing?: boolean }) {
  const blocks = useMemo(() => blocksOf(text), [text])
  return (
    <div class={isGrowing ? 'markdown growing' : 'markdown'}>
      {blocks.map((block, index) => (
        <BlockView key={index} block={block} isFinal={!isGrowing} />
      ))}
    </div>
  )
}
