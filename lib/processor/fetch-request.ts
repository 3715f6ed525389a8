/** One request to one address that has been checked. */
import { lookup, type LookupAddress } from 'node:dns'
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { promisify } from 'node:util'
import { FetchError } from '../errors.js'
import { fetchError } from './fetch-error.js'
import type { FetchGuard } from './fetch-guard.js'
import { isAllowedHost, isPublicAddress } from './hosts.js'
import type { MediaOptions } from './media-options.js'

type HostRules = Pick<MediaOptions, 'allowUrls' | 'allowedHosts' | 'allowPrivateHosts'>

/** What the rules need to know of the network. */
export interface Network {
  resolve(hostname: string): Promise<LookupAddress[]>
  isPublic(address: string): boolean
}

const lookupAll = promisify(lookup)

/** The system's name service, and what is public on the internet. */
export const systemNetwork: Network = {
  resolve: (hostname) => lookupAll(hostname, { all: true }),
  isPublic: isPublicAddress,
}

/**
 * The address if the rules allow to ask it, as far as can be told before its name is resolved.
 *
 * @throws FetchError `ERR_FETCH_BLOCKED` or, for what is no address, `ERR_FETCH_FAILED`.
 */
export function checkUrl(address: string | URL, rules: HostRules, network: Network): URL {
  if (!URL.canParse(String(address))) {
    throw new FetchError('ERR_FETCH_FAILED', 'The address is not a valid URL. Check its spelling.')
  }
  const url = new URL(address)
  const blocked = (what: string) => fetchError('ERR_FETCH_BLOCKED', url, what)
  if (!rules.allowUrls) {
    throw blocked(
      'is a web address, and this model fetches none (allowUrls: false). Pass the bytes.',
    )
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw blocked('is not an http or https address. Pass the bytes.')
  }
  if (url.username !== '' || url.password !== '') {
    throw blocked('has credentials in it, which are not sent. Fetch it and pass the bytes.')
  }
  if (rules.allowedHosts !== undefined && !isAllowedHost(url.hostname, rules.allowedHosts)) {
    throw blocked('is not on one of the allowedHosts. Add its host there, or pass the bytes.')
  }
  const literal = url.hostname.replace(/^\[(.*)\]$/, '$1')
  if (isIP(literal) !== 0 && !rules.allowPrivateHosts && !network.isPublic(literal)) {
    throw privateHost(url)
  }
  return url
}

/**
 * Where an answer sends on to, checked as the first address was.
 *
 * @throws FetchError `ERR_FETCH_REDIRECTS` for no address, `ERR_FETCH_BLOCKED` for one that may not be asked.
 */
export function redirectTarget(
  from: URL,
  location: string | undefined,
  rules: HostRules,
  network: Network,
): URL {
  if (location === undefined || !URL.canParse(location, from.href)) {
    throw fetchError('ERR_FETCH_REDIRECTS', from, 'redirects to no valid address.')
  }
  const to = new URL(location, from.href)
  if (from.protocol === 'https:' && to.protocol === 'http:') {
    throw fetchError(
      'ERR_FETCH_BLOCKED',
      from,
      'redirects from https to http. Give the final address.',
    )
  }
  return checkUrl(to, rules, network)
}

/** Sends a GET request; resolves with the head of the answer. */
export function request(
  url: URL,
  rules: HostRules,
  guard: FetchGuard,
  network: Network,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const { request: send } = url.protocol === 'https:' ? https : http
    const sent = send(url, {
      agent: false, // a connection of its own, which is closed afterwards
      headers: {
        accept: '*/*',
        'accept-encoding': 'identity', // media are compressed already
        'user-agent': 'qwen2-vl',
      },
      insecureHTTPParser: false,
      lookup: checkedLookup(url, rules, network),
    })
    guard.attach(sent)
    sent.on('response', resolve)
    // Stays: a connection can fail after the answer has begun, which the body then tells as well.
    sent.on('error', reject)
    sent.end()
  })
}

/** Resolves the name once, for the connection itself, and gives only addresses that may be asked. */
function checkedLookup(url: URL, rules: HostRules, network: Network): LookupFunction {
  return (hostname, options, callback) => {
    network.resolve(hostname).then(
      (found) => {
        const usable = found.filter(
          ({ address }) => rules.allowPrivateHosts || network.isPublic(address),
        )
        const [first] = usable
        if (first === undefined) callback(privateHost(url), '', 0)
        else if (options.all === true) callback(null, usable)
        else callback(null, first.address, first.family)
      },
      (error: unknown) => callback(error as NodeJS.ErrnoException, '', 0),
    )
  }
}

/** Does not tell the address, which would make the names of a private network readable. */
function privateHost(url: URL): FetchError {
  return fetchError(
    'ERR_FETCH_BLOCKED',
    url,
    'leads to a private or reserved address. Pass the bytes, or load the model with allowPrivateHosts.',
  )
}
