/** A local HTTP server whose answers a test writes, down to the bytes. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { createServer as createRawServer } from 'node:net'

export interface TestServer {
  port: number
  /** An address of it; `host` may be any name that the test's network resolves. */
  url(path?: string, host?: string): string
  /** Connections that are open now. */
  open(): number
  close(): Promise<void>
}

/** Answers as HTTP, well or badly. */
export function serve(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<TestServer> {
  return listen(createServer(answer))
}

/** Answers with bytes that need not be HTTP, once a request has come. */
export function serveRaw(answer: (socket: Socket) => void): Promise<TestServer> {
  return listen(
    createRawServer((socket) => {
      socket.on('error', () => {}) // the client leaves when it has seen enough
      socket.once('data', () => answer(socket))
    }),
  )
}

async function listen(server: Server | ReturnType<typeof createRawServer>): Promise<TestServer> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: (path = '/', host = '127.0.0.1') => `http://${host}:${port}${path}`,
    open: () => sockets.size,
    close: () => {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}
