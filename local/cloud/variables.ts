/** What `npm start` is told by variables, looked at before anything is started. */
type Variables = Record<string, string | undefined>

/** The protocols that an address may have. */
const ADDRESSES = {
  OPENAI_BASE_URL: ['http:', 'https:'],
  DATABASE_URL: ['postgres:', 'postgresql:'],
  VALKEY_URL: ['redis:', 'rediss:'],
}
const MAX_PORT = 65_535

/** Throws an error that names the variable and says what it may be; a value, which may hold a password, is not repeated. */
export function checkVariables(variables: Variables): void {
  const { PORT } = variables
  if (PORT && !(/^\d+$/.test(PORT) && Number(PORT) <= MAX_PORT))
    throw new Error(`PORT must be a number from 0 to ${MAX_PORT}; 0 is any free one.`)
  for (const [name, protocols] of Object.entries(ADDRESSES)) {
    const value = variables[name]
    if (value && !(URL.canParse(value) && protocols.includes(new URL(value).protocol)))
      throw new Error(`${name} must begin with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}.`)
  }
}
