/** In whose name the page makes its requests. */
export interface Identity {
  /** A token to send; waits while a person is being asked. Throws ApiError. */
  token(): Promise<string>
  /** Says that the server refused this token, so that `token` finds another. True: a person will be asked. */
  refuse(token: string): boolean
}
