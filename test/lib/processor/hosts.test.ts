import { describe, expect, it } from 'vitest'
import { isAllowedHost, isHostPattern, isPublicAddress } from '../../../lib/processor/hosts.js'

describe('public addresses', () => {
  it.each([
    ...['1.1.1.1', '8.8.8.8', '100.63.255.255', '100.128.0.0', '172.15.255.255', '172.32.0.0'],
    ...['169.253.0.1', '192.167.0.1', '198.17.0.1', '198.20.0.1', '223.255.255.255'],
    ...['2606:4700::1111', '2a00:1450:4001:812::200e', '2001:4860:4860::8888', '2003::1'],
  ])('%s', (address) => expect(isPublicAddress(address)).toBe(true))
})

describe('addresses that are not public', () => {
  it.each([
    ['unspecified', ['0.0.0.0', '0.1.2.3', '::']],
    ['this machine', ['127.0.0.1', '127.255.255.254', '::1']],
    ['private', ['10.0.0.1', '10.255.255.255', '172.16.0.1', '172.31.255.255', '192.168.1.1']],
    ['carriers', ['100.64.0.0', '100.127.255.255']],
    ['link-local', ['169.254.169.254', 'fe80::1', 'fe80::1%eth0', 'febf::1']],
    ['unique local', ['fc00::1', 'fd12:3456::1']],
    ['site-local', ['fec0::1']],
    ['multicast', ['224.0.0.1', '239.255.255.255', 'ff02::1']],
    ['broadcast and reserved', ['255.255.255.255', '240.0.0.1']],
    ['documentation', ['192.0.2.1', '198.51.100.7', '203.0.113.9', '2001:db8::1', '3fff::1']],
    ['benchmarks', ['198.18.0.1', '198.19.255.255']],
    ['protocol assignments', ['192.0.0.1', '2001::1', '2001:1ff::1']],
    ['IPv4 within IPv6', ['::ffff:10.0.0.1', '::ffff:7f00:1', '::ffff:8.8.8.8', '::7f00:1']],
    ['NAT64', ['64:ff9b::10.0.0.1', '64:ff9b::808:808', '64:ff9b:1::1']],
    ['6to4', ['2002:7f00:1::1', '2002:a00:1::', '192.88.99.1']],
    ['not assigned', ['4000::1', '100::1']],
  ])('%s', (_, addresses) => {
    expect(addresses.filter(isPublicAddress)).toEqual([])
  })
})

describe('allowed hosts', () => {
  it.each<[string, string, boolean]>([
    ['example.com', 'example.com', true],
    ['example.com', 'EXAMPLE.com', true],
    ['example.com.', 'example.com', true],
    ['example.com', 'example.com.', true],
    ['www.example.com', 'example.com', false],
    ['example.com', '*.example.com', false],
    ['www.example.com', '*.example.com', true],
    ['a.b.example.com', '*.example.com', true],
    ['notexample.com', '*.example.com', false],
    ['example.com.evil.test', '*.example.com', false],
    ['xn--bcher-kva.example', 'bücher.example', true],
    ['192.168.0.7', '192.168.0.7', true],
    ['[::1]', '[0:0:0:0:0:0:0:1]', true],
    ['example.com', 'no/host', false],
  ])('%s by %s: %s', (host, pattern, allowed) => {
    expect(isAllowedHost(host, ['other.test', pattern])).toBe(allowed)
  })

  it('are none where the list is empty', () => expect(isAllowedHost('a.test', [])).toBe(false))

  it.each([
    ['example.com', true],
    ['*.example.com', true],
    ['localhost', true],
    ['[::1]', true],
    ['', false],
    ['*', false],
    ['*.', false],
    ['a.*.com', false],
    ['*.*.com', false],
    ['http://example.com', false],
    ['example.com/a', false],
    ['example.com:80', false],
    ['me@example.com', false],
    ['a b.com', false],
    ['[::1', false],
  ])('may be written as %j: %s', (pattern, valid) => expect(isHostPattern(pattern)).toBe(valid))
})
