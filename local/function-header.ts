/** Names, on a call to the local cloud, the function that makes it: what its role is to AWS. */
export const FUNCTION_HEADER = 'x-turnkeep-function'
