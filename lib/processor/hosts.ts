/** Which hosts and addresses may be asked for images and videos. */
import { BlockList, isIPv4 } from 'node:net'
import { domainToASCII } from 'node:url'

/**
 * Addresses that are not of the public internet, and IPv6 forms that carry an IPv4 address inside,
 * behind which a private one could hide.
 */
const reserved = blockList([
  ['0.0.0.0', 8], // this network
  ['10.0.0.0', 8], // private
  ['100.64.0.0', 10], // shared by carriers
  ['127.0.0.0', 8], // this machine
  ['169.254.0.0', 16], // link-local, where clouds keep their metadata
  ['172.16.0.0', 12], // private
  ['192.0.0.0', 24], // protocol assignments
  ['192.0.2.0', 24], // documentation
  ['192.88.99.0', 24], // 6to4 relays
  ['192.168.0.0', 16], // private
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, broadcast
])

/** The public part of IPv6; everything outside of it is reserved, private or of this machine. */
const globalUnicast = blockList([['2000::', 3]])

/** The parts of it that are not public after all. */
const reservedUnicast = blockList([
  ['2001::', 23], // protocol assignments, among them Teredo
  ['2001:db8::', 32], // documentation
  ['2002::', 16], // 6to4
  ['3fff::', 20], // documentation
])

/** True for an address of the public internet. */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !reserved.check(address, 'ipv4')
  // IPv4 inside of IPv6, NAT64, unique local, link-local, multicast are all outside of 2000::/3.
  const [withoutZone = ''] = address.split('%')
  return globalUnicast.check(withoutZone, 'ipv6') && !reservedUnicast.check(withoutZone, 'ipv6')
}

/** True for what `allowedHosts` may contain: a host, or `*.` and a domain. */
export function isHostPattern(pattern: string): boolean {
  return normalizePattern(pattern) !== undefined
}

/** Whether a host, as a URL has it, is among the patterns. `*.example.com` is not `example.com`. */
export function isAllowedHost(hostname: string, patterns: readonly string[]): boolean {
  const host = withoutDot(hostname.toLowerCase())
  return patterns.some((pattern) => {
    const allowed = normalizePattern(pattern)
    if (allowed === undefined) return false
    return allowed.startsWith('*.') ? host.endsWith(allowed.slice(1)) : host === allowed
  })
}

/** In the spelling of URLs: lower case, punycode, no dot at the end; undefined for no host. */
function normalizePattern(pattern: string): string | undefined {
  const wildcard = pattern.startsWith('*.')
  const name = wildcard ? pattern.slice(2) : pattern
  if (/[\s/\\?#@*]/.test(name)) return undefined
  const isIPv6 = name.startsWith('[')
  if (isIPv6 ? wildcard : name.includes(':')) return undefined
  const host = isIPv6 ? bracketed(name) : withoutDot(domainToASCII(name))
  if (host === undefined || host === '') return undefined
  return wildcard ? `*.${host}` : host
}

function bracketed(name: string): string | undefined {
  return URL.canParse(`http://${name}/`) ? new URL(`http://${name}/`).hostname : undefined
}

function withoutDot(host: string): string {
  return host.endsWith('.') ? host.slice(0, -1) : host
}

function blockList(subnets: readonly (readonly [network: string, prefix: number])[]): BlockList {
  const list = new BlockList()
  for (const [network, prefix] of subnets) {
    list.addSubnet(network, prefix, isIPv4(network) ? 'ipv4' : 'ipv6')
  }
  return list
}
