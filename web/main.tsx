/** Puts the parts of the page together. */
import { render } from 'preact'
import { createApi } from './api.ts'
import { App } from './components/app.tsx'
import { createConversations } from './conversations.ts'
import { createIdentity } from './identity.ts'
import { locale } from './language.ts'
import { watchPlace } from './place.ts'

const identity = createIdentity()
const conversations = createConversations(createApi(identity), locale)
const place = watchPlace()

document.documentElement.lang = locale
render(<App {...{ conversations, identity, place }} />, document.body)
