/** What the user asked, as it was typed. */
import { words } from '../language.ts'

export const QuestionView = ({ text }: { text: string }) => (
  <article class="question">
    <h2 class="visually-hidden">{words.youSaid}</h2>
    <p>{text}</p>
  </article>
)
