import { getEventListeners, once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { FetchError } from '../../../lib/errors.js'
import {
  redirectTarget,
  systemNetwork,
  type Network,
} from '../../../lib/processor/fetch-request.js'
import { fetchMedia, streamMedia, type FetchLimits } from '../../../lib/processor/fetch.js'
import { serve, serveRaw, type TestServer } from './hostile-server.js'

const png = readFileSync(
  fileURLToPath(new URL('../../golden/images/files/rgb.png', import.meta.url)),
)

const limits: FetchLimits = {
  allowUrls: true,
  allowPrivateHosts: true,
  maxBytes: 1 << 20,
  timeoutMs: 5000,
  expect: 'image',
}

const servers: TestServer[] = []
/** After each test every connection is closed by the client: nothing is left behind. */
afterEach(async () => {
  for (const server of servers.splice(0)) {
    await expect.poll(() => server.open(), { timeout: 2000 }).toBe(0)
    await server.close()
  }
})

async function answering(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<TestServer> {
  const server = await serve(answer)
  servers.push(server)
  return server
}

async function answeringRaw(answer: (socket: Socket) => void): Promise<TestServer> {
  const server = await serveRaw(answer)
  servers.push(server)
  return server
}

async function failure(
  url: string | URL,
  changes: Partial<FetchLimits> = {},
  network?: Network,
): Promise<FetchError> {
  const error = await fetchMedia(url, { ...limits, ...changes }, undefined, network).then(
    () => expect.fail('it was fetched'),
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(FetchError)
  return error as FetchError
}

/** A network in which names mean what a test says, and one loopback address passes for public. */
function network(names: Record<string, string[] | (() => string[])>, isPublic = '127.0.0.1') {
  const asked: string[] = []
  const fake: Network & { asked: string[] } = {
    asked,
    resolve: (hostname) => {
      asked.push(hostname)
      const found = names[hostname] ?? []
      const addresses = typeof found === 'function' ? found() : found
      return Promise.resolve(addresses.map((address) => ({ address, family: 4 })))
    },
    isPublic: (address) => address === isPublic,
  }
  return fake
}

describe('an image', () => {
  it('is fetched, whatever its type is said to be', async () => {
    const seen: IncomingMessage['headers'][] = []
    const server = await answering((request, response) => {
      seen.push(request.headers)
      response.setHeader('content-type', 'text/html').end(png)
    })
    expect(await fetchMedia(server.url('/a.png?token=1'), limits)).toEqual(png)
    expect(seen[0]).toMatchObject({ 'accept-encoding': 'identity', connection: 'close' })
    expect(seen[0]).not.toHaveProperty('cookie')
  })

  it('may come in chunks, and behind redirects of every kind', async () => {
    const statuses = [301, 302, 303, 307, 308]
    const server = await answering((request, response) => {
      const step = Number(request.url?.slice(1))
      const status = statuses[step]
      if (status === undefined) {
        for (let i = 0; i < png.length; i += 100) response.write(png.subarray(i, i + 100))
        response.end()
      } else {
        response.writeHead(status, { location: `/${step + 1}` }).end('moved')
      }
    })
    expect(await fetchMedia(server.url('/0'), limits)).toEqual(png)
  })

  it.each([
    ['gzip', gzipSync(png)],
    ['x-gzip', gzipSync(png)],
    ['br', brotliCompressSync(png)],
    ['deflate', deflateSync(png)],
    ['deflate', deflateRawSync(png)],
    ['identity', png],
  ])('may be encoded: %s (%#)', async (encoding, body) => {
    const server = await answering((_, response) =>
      response.setHeader('content-encoding', encoding).end(body),
    )
    expect(await fetchMedia(server.url(), limits)).toEqual(png)
  })

  it('of exactly the allowed size passes, one byte more does not', async () => {
    const server = await answering((_, response) => response.end(png))
    expect(await fetchMedia(server.url(), { ...limits, maxBytes: png.length })).toEqual(png)
    const error = await failure(server.url(), { maxBytes: png.length - 1 })
    expect(error.code).toBe('ERR_FETCH_TOO_LARGE')
  })
})

describe('a hostile server', () => {
  it('that answers slowly is left after the time allowed', async () => {
    const server = await answering(() => {}) // never answers
    const error = await failure(server.url('/slow?key=secret'), { timeoutMs: 50 })
    expect(error.code).toBe('ERR_FETCH_TIMEOUT')
    expect(error.message).toMatch(/took longer than 50 ms|gave nothing for 50 ms/)
    expect(error.url).toBe(server.url('/slow'))
  })

  it('that accepts connections and says nothing, in TCP as in HTTP', async () => {
    const server = await answeringRaw((socket) => socket.write('HTTP/1.1 200 OK\r\nx: '))
    expect((await failure(server.url(), { timeoutMs: 50 })).code).toBe('ERR_FETCH_TIMEOUT')
  })

  it('that pauses longer than the idle time is left', async () => {
    const server = await answering((_, response) => response.write(png.subarray(0, 1100)))
    const error = await failure(server.url(), { idleTimeoutMs: 50, timeoutMs: 60_000 })
    expect(error.code).toBe('ERR_FETCH_TIMEOUT')
    expect(error.message).toMatch(/gave nothing for 50 ms/)
  })

  it('that trickles for ever is left after the whole time', async () => {
    const server = await answering((_, response) => {
      response.write(png)
      const timer = setInterval(() => response.write('x'), 5)
      response.on('close', () => clearInterval(timer))
    })
    const error = await failure(server.url(), { timeoutMs: 200, idleTimeoutMs: 100 })
    expect(error.code).toBe('ERR_FETCH_TIMEOUT')
    expect(error.message).toMatch(/took longer than 200 ms/)
  })

  it('that never ends its body is left at the limit', async () => {
    const server = await answering((_, response) => {
      response.write(png)
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65536)));
      }
      response.on('drain', more)
      more()
    })
    const error = await failure(server.url())
    expect(error.code).toBe('ERR_FETCH_TOO_LARGE')
    expect(error.details).toMatchObject({ limit: 1 << 20 })
    expect(error.message).toMatch(/is longer than the 1,048,576 bytes that are accepted/)
  })

  it('that announces too much is left before the body', async () => {
    const server = await answering((_, response) => {
      response.writeHead(200, { 'content-length': 2 ** 40 })
      response.flushHeaders()
    })
    const error = await failure(server.url())
    expect(error.code).toBe('ERR_FETCH_TOO_LARGE')
    expect(error.message).toMatch(/has 1,099,511,627,776 bytes, more than/)
  })

  it('that sends less than it announced is not believed', async () => {
    const server = await answeringRaw((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${png.length + 1}\r\n\r\n`)
      socket.end(png)
    })
    const error = await failure(server.url())
    expect(error.code).toBe('ERR_FETCH_FAILED')
    expect(error.message).toMatch(/cannot be fetched \(ECONNRESET\)/)
  })

  it('that sends more than it announced gives what it announced', async () => {
    const server = await answeringRaw((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${png.length}\r\n\r\n`)
      socket.end(Buffer.concat([png, Buffer.alloc(5000, 'more')]))
    })
    expect(await fetchMedia(server.url(), limits)).toEqual(png)
  })

  it('that breaks off within a chunk is not believed', async () => {
    const server = await answeringRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n')
      socket.end(png)
    })
    expect((await failure(server.url())).code).toBe('ERR_FETCH_FAILED')
  })

  it.each([
    ['both lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n'],
    ['no HTTP', 'SSH-2.0-OpenSSH_9.2p1\r\n'],
    ['endless headers', `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(10_000)}`],
    ['nothing', ''],
  ])('that speaks %s', async (_, head) => {
    const server = await answeringRaw((socket) => socket.end(head))
    expect((await failure(server.url())).code).toBe('ERR_FETCH_FAILED')
  })

  it('that sends a gzip bomb is left at the limit of what comes out', async () => {
    const bomb = gzipSync(Buffer.concat([png, Buffer.alloc(64 << 20)]))
    expect(bomb.length).toBeLessThan(1 << 20)
    const server = await answering((_, response) =>
      response.setHeader('content-encoding', 'gzip').end(bomb),
    )
    expect((await failure(server.url())).code).toBe('ERR_FETCH_TOO_LARGE')
  })

  it('that sends gzip out of which nothing comes is left at the limit of what goes in', async () => {
    const empty = gzipSync('')
    const members = Buffer.concat(Array.from({ length: 5000 }, () => empty))
    const server = await answering((_, response) => {
      response.setHeader('content-encoding', 'gzip')
      const more = () => {
        while (!response.destroyed && response.write(members));
      }
      response.on('drain', more)
      more()
    })
    expect((await failure(server.url())).code).toBe('ERR_FETCH_TOO_LARGE')
  })

  it.each([
    ['gzip', gzipSync(png).subarray(0, -20)],
    ['gzip', png],
    ['br', png],
    ['deflate', png],
  ])('that sends damaged %s (%#)', async (encoding, body) => {
    const server = await answering((_, response) =>
      response.setHeader('content-encoding', encoding).end(body),
    )
    expect((await failure(server.url())).code).toBe('ERR_FETCH_FAILED')
  })

  it.each(['zstd', 'gzip, br', 'x'.repeat(500)])('that encodes as %s', async (encoding) => {
    const server = await answering((_, response) =>
      response.setHeader('content-encoding', encoding).end(png),
    )
    const error = await failure(server.url())
    expect(error.code).toBe('ERR_FETCH_CONTENT')
    expect(error.message.length).toBeLessThan(300)
  })

  it.each([
    [404, /was answered with 404 Not Found\. Check the address/],
    [500, /500 Internal Server Error/],
    [401, /401 Unauthorized\. Fetch it with your credentials/],
    [204, /204 No Content/],
    [206, /206 Partial Content/],
    [304, /304 Not Modified/],
  ])('that answers %i', async (status, message) => {
    const server = await answering((_, response) => response.writeHead(status).end())
    const error = await failure(server.url('/a.png'))
    expect(error).toMatchObject({ code: 'ERR_FETCH_STATUS', status, url: server.url('/a.png') })
    expect(error.message).toMatch(message)
  })

  it.each<[string, string, Partial<FetchLimits>]>([
    ['an HTML page', '<!DOCTYPE html><html><body>Log in</body></html>', {}],
    ['an HTML page', '\n <html lang="en">', { expect: 'video' }],
    ['JSON', '{"error":"no such file"}', {}],
    ['plain text', 'no such file\n', { expect: 'video' }],
    ['an XML document', '<?xml version="1.0"?><Error/>', {}],
    ['a PDF document', '%PDF-1.7\n', {}],
    ['an MP4 or QuickTime video', '\0\0\0\x18ftypisom', {}],
    ['something unknown', '\0\x01\x02', {}],
    ['a PNG image', png.toString('latin1'), { expect: 'video' }],
    ['nothing', '', {}],
  ])('that gives %s (%#)', async (name, body, changes) => {
    const server = await answering((_, response) =>
      response.setHeader('content-type', 'image/png').end(Buffer.from(body, 'latin1')),
    )
    const error = await failure(server.url(), changes)
    expect(error.code).toBe('ERR_FETCH_CONTENT')
    expect(error.message).toContain(`gave ${name}, not `)
  })

  it('whose content is wrong is left early', async () => {
    let sent = 0
    const server = await answering((_, response) => {
      const page = Buffer.from(`<html>${' '.repeat(60_000)}`)
      const more = () => {
        while (!response.destroyed && response.write(page)) sent += page.length
      }
      response.on('drain', more)
      more()
    })
    expect((await failure(server.url(), { maxBytes: 2 ** 40 })).code).toBe('ERR_FETCH_CONTENT')
    expect(sent).toBeLessThan(64 << 20)
  })
})

describe('redirects', () => {
  it('in a circle end', async () => {
    let requests = 0
    const server = await answering((_, response) => {
      requests += 1
      response.writeHead(302, { location: '/again' }).end()
    })
    const error = await failure(server.url())
    expect(error.code).toBe('ERR_FETCH_REDIRECTS')
    expect(requests).toBe(6)
  })

  it.each([
    ['nowhere', undefined, 'ERR_FETCH_REDIRECTS'],
    ['what is no address', 'http://[', 'ERR_FETCH_REDIRECTS'],
    ['a file', 'file:///etc/passwd', 'ERR_FETCH_BLOCKED'],
    ['data', `data:image/png;base64,${png.toString('base64')}`, 'ERR_FETCH_BLOCKED'],
    ['credentials', 'http://me:secret@127.0.0.1/', 'ERR_FETCH_BLOCKED'],
  ])('to %s are not followed', async (_, location, code) => {
    const server = await answering((_, response) =>
      response.writeHead(302, location === undefined ? {} : { location }).end(),
    )
    const error = await failure(server.url())
    expect(error.code).toBe(code)
    expect(error.message).not.toContain('secret')
  })

  it.each([
    ['https://a.test/x', 'http://a.test/y', 'ERR_FETCH_BLOCKED'],
    ['http://a.test/x', 'https://b.test/y', 'https://b.test/y'],
    ['https://a.test/x', '//b.test/y', 'https://b.test/y'],
    ['https://a.test/x/', 'y?z', 'https://a.test/x/y?z'],
  ])('from %s to %s: %s', (from, location, outcome) => {
    const target = () => redirectTarget(new URL(from), location, limits, systemNetwork)
    if (URL.canParse(outcome)) expect(target().href).toBe(outcome)
    else expect(target).toThrow(expect.objectContaining({ code: outcome }) as Error)
  })

  it('from an allowed host to one that is not are refused', async () => {
    const server = await answering((request, response) => {
      response.writeHead(302, {
        location: `http://${request.headers.host ?? ''}`.replace('good', 'bad'),
      })
      response.end()
    })
    const names = network({ 'good.example': ['127.0.0.1'], 'bad.example': ['127.0.0.1'] })
    const changes = { allowedHosts: ['good.example'] }
    const error = await failure(server.url('/', 'good.example'), changes, names)
    expect(error.code).toBe('ERR_FETCH_BLOCKED')
    expect(error.message).toMatch(/^http:\/\/bad\.example:\d+\/ is not on one of the allowedHosts/)
    expect(names.asked).toEqual(['good.example'])
  })
})

describe('private addresses', () => {
  const open = { allowPrivateHosts: false }

  it.each(['127.0.0.1', 'localhost', '[::1]', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]'])(
    'are refused in every spelling: %s',
    async (host) => {
      let requests = 0
      const server = await answering(() => (requests += 1))
      const error = await failure(server.url('/', host), open)
      expect(error.code).toBe('ERR_FETCH_BLOCKED')
      expect(error.message).toMatch(/leads to a private or reserved address/)
      expect(requests).toBe(0)
    },
  )

  it('are refused behind a public name, without telling which they are', async () => {
    const server = await answering((_, response) => response.end(png))
    const names = network({ 'public.example': ['127.0.0.2', '10.1.2.3'] })
    const error = await failure(server.url('/', 'public.example'), open, names)
    expect(error.code).toBe('ERR_FETCH_BLOCKED')
    expect(error.message).not.toMatch(/127\.0|10\.1/)
  })

  it.each(['http://127.0.0.2:1/', 'http://inner.example:1/'])(
    'are refused behind a redirect of a public host: %s',
    async (location) => {
      const server = await answering((_, response) => response.writeHead(302, { location }).end())
      const names = network({ 'public.example': ['127.0.0.1'], 'inner.example': ['127.0.0.2'] })
      const error = await failure(server.url('/', 'public.example'), open, names)
      expect(error.code).toBe('ERR_FETCH_BLOCKED')
      expect(error.url).toBe(location)
    },
  )

  it('are left out where a name has public ones too', async () => {
    const server = await answering((_, response) => response.end(png))
    const names = network({ 'mixed.example': ['127.0.0.2', '127.0.0.1'] })
    const bytes = await fetchMedia(
      server.url('/', 'mixed.example'),
      { ...limits, ...open },
      undefined,
      names,
    )
    expect(bytes).toEqual(png)
  })

  it('cannot be smuggled in by a name that changes its meaning', async () => {
    const hosts: (string | undefined)[] = []
    const server = await answering(({ headers, url }, response) => {
      hosts.push(headers.host)
      if (url === '/end') response.end(png)
      else response.writeHead(302, { location: '/end' }).end()
    })
    const answers = [['127.0.0.1'], ['127.0.0.2']]
    const names = network({ 'fickle.example': () => answers.shift() ?? [] })
    // The first answer is used for the first connection; the second one is checked again.
    const error = await failure(server.url('/', 'fickle.example'), open, names)
    expect(error.code).toBe('ERR_FETCH_BLOCKED')
    expect(names.asked).toEqual(['fickle.example', 'fickle.example'])
    expect(hosts).toEqual([`fickle.example:${server.port}`])
  })
})

describe('addresses that are not asked', () => {
  it.each<[string, Partial<FetchLimits>, string, RegExp]>([
    ['http://example.com/a.png', { allowUrls: false }, 'ERR_FETCH_BLOCKED', /allowUrls: false/],
    ['http://example.com/a.png', { allowedHosts: [] }, 'ERR_FETCH_BLOCKED', /allowedHosts/],
    ['ftp://example.com/a.png', {}, 'ERR_FETCH_BLOCKED', /not an http or https address/],
    ['https://me:secret@example.com/a', {}, 'ERR_FETCH_BLOCKED', /has credentials in it/],
    ['http://', {}, 'ERR_FETCH_FAILED', /not a valid URL/],
  ])('%s (%#)', async (url, changes, code, message) => {
    const error = await failure(url, changes)
    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
    expect(JSON.stringify(error)).not.toContain('secret')
  })

  it('names that lead nowhere', async () => {
    const lost: Network = {
      resolve: () =>
        Promise.reject(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' })),
      isPublic: () => true,
    }
    const error = await failure('http://nowhere.example/', {}, lost)
    expect(error.code).toBe('ERR_FETCH_FAILED')
    expect(error.message).toMatch(/nowhere\.example\/ cannot be fetched \(ENOTFOUND\)/)
  })

  it('names whose look-up takes too long', async () => {
    const stuck: Network = { resolve: () => new Promise(() => {}), isPublic: () => true }
    const error = await failure('http://stuck.example/', { timeoutMs: 50 }, stuck)
    expect(error.code).toBe('ERR_FETCH_TIMEOUT')
  })

  it('https where none is spoken', async () => {
    const server = await answering((_, response) => response.end(png))
    const error = await failure(server.url().replace('http:', 'https:'))
    expect(error.code).toBe('ERR_FETCH_FAILED')
    expect(error.message).toMatch(/cannot be fetched \(E\w+\)/)
  })

  it('ports at which nobody listens', async () => {
    const server = await serve(() => {})
    await server.close()
    const error = await failure(server.url())
    expect(error.code).toBe('ERR_FETCH_FAILED')
    expect(error.message).toMatch(/ECONNREFUSED/)
  })
})

describe('a signal', () => {
  it('ends a fetch before it begins', async () => {
    const reason = new Error('enough')
    await expect(fetchMedia('http://example.com', limits, AbortSignal.abort(reason))).rejects.toBe(
      reason,
    )
  })

  it.each(['before the answer', 'within the body'])('ends a fetch %s, at once', async (when) => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const server = await answering((_, response) => {
      if (when === 'within the body') response.write(png.subarray(0, 1100))
      setImmediate(() => controller.abort(reason))
    })
    await expect(fetchMedia(server.url(), limits, controller.signal)).rejects.toBe(reason)
    await expect.poll(() => server.open(), { timeout: 1000 }).toBe(0)
  })
})

it('a signal is let go of when the fetch is over', async () => {
  const server = await answering(({ url }, response) => response.end(url === '/a' ? png : ''))
  const { signal } = new AbortController()
  await fetchMedia(server.url('/a'), limits, signal)
  await expect(fetchMedia(server.url('/b'), limits, signal)).rejects.toBeInstanceOf(FetchError)
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

describe('streaming', () => {
  it('gives the bytes as they come, and closes the connection when the reader leaves', async () => {
    let closed: Promise<unknown> | undefined
    const server = await answering((_, response) => {
      closed = once(response, 'close')
      response.write(Buffer.concat([png, Buffer.alloc(2000)]))
    })
    for await (const chunk of streamMedia(server.url(), limits)) {
      expect(Buffer.from(chunk).subarray(0, 8)).toEqual(png.subarray(0, 8))
      break
    }
    await closed
  })

  it('does not count the time that its reader takes as idle', async () => {
    const server = await answering((_, response) => {
      response.write(Buffer.concat([png, Buffer.alloc(2000)]))
      response.end('end')
    })
    let size = 0
    for await (const chunk of streamMedia(server.url(), { ...limits, idleTimeoutMs: 40 })) {
      size += chunk.length
      await new Promise((resolve) => setTimeout(resolve, 80))
    }
    expect(size).toBe(png.length + 2003)
  })
})
