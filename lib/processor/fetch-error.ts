/** Errors about web addresses, which tell no secrets that an address may contain. */
import { FetchError, type ErrorDetails } from '../errors.js'

/** An error whose message begins with the address. */
export function fetchError(
  code: `ERR_FETCH_${string}`,
  url: URL,
  what: string,
  details: ErrorDetails = {},
  cause?: unknown,
): FetchError {
  const shown = publicPart(url)
  return new FetchError(code, `${shown} ${what}`, {
    details: { url: shown, ...details },
    ...(cause !== undefined && { cause }),
  })
}

/** Scheme, host and path: credentials and queries, where tokens are, stay out. */
function publicPart(url: URL): string {
  const text = `${url.protocol}//${url.host}${url.pathname}`
  return text.length <= 200 ? text : `${text.slice(0, 199)}…`
}
