/**
 * A service with fastify: OpenAI's route for chat completions, whole or streamed.
 *
 * A client that goes away cancels its request, SIGTERM lets running requests end, and no request may name files or
 * addresses: pictures come as `data:` URLs. `/health` says whether it can answer and how busy it is.
 *
 *     npx tsx examples/fastify-service.ts --port 8080
 *     curl -N localhost:8080/v1/chat/completions -H 'content-type: application/json' \
 *       -d '{"stream": true, "messages": [{"role": "user", "content": "Who are you?"}]}'
 */
import { Readable } from 'node:stream'
import { parseArgs } from 'node:util'
import fastify, { type FastifyReply } from 'fastify'
import { loadModel, Qwen2VLError, QueueFullError, type GenerateRequest } from 'qwen2-vl'

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '8080' },
    host: { type: 'string', default: '127.0.0.1' },
    model: { type: 'string', default: 'tiny' },
  },
})

const model = await loadModel(values.model, { allowFiles: false, allowUrls: false, maxQueue: 64 })
const app = fastify({ bodyLimit: 32 * 2 ** 20 })

/** Requests without their whole answer. */
let open = 0
app.addHook('onRequest', async (_, { raw }) => {
  open++
  raw.once('close', () => open--)
})

app.get('/health', () => {
  const { running, waiting } = model.metrics()
  return { status: 'ok', running, waiting }
})

app.post<{ Body: GenerateRequest }>('/v1/chat/completions', async ({ body }, reply) => {
  const request = { ...body, signal: whenClosed(reply) }
  if (body.stream !== true) return (await model.generate(request)).toOpenAI()
  await model.countTokens({ ...request, stream: null }) // what is wrong with it is told before the head is sent
  return reply.type('text/event-stream').send(Readable.fromWeb(model.stream(request).toSSE()))
})

/** Aborts when the connection closes before the response has ended. */
function whenClosed({ raw }: FastifyReply): AbortSignal {
  const controller = new AbortController()
  raw.once('close', () => {
    if (!raw.writableFinished) controller.abort()
  })
  return controller.signal
}

const statuses: Readonly<Record<string, number>> = {
  ERR_QUEUE_FULL: 429,
  ERR_INTERNAL: 500,
  ERR_NUMERICS: 500,
  ERR_DISPOSED: 503,
  ERR_TIMEOUT: 504,
  ERR_OUT_OF_MEMORY: 507,
}

app.setErrorHandler((error, _, reply) => {
  if (!Qwen2VLError.isInstance(error)) throw error // fastify's own, such as a body that is no JSON
  if (error instanceof QueueFullError && error.retryAfterMs !== undefined) {
    reply.header('retry-after', Math.ceil(error.retryAfterMs / 1000))
  }
  const { code, message } = error
  return reply.status(statuses[code] ?? 400).send({ error: { code, message } })
})

console.log(await app.listen({ port: Number(values.port), host: values.host }))

/** Takes no new requests, waits for those that run, and gives the memory back. */
async function stop(): Promise<void> {
  // Connections that are kept alive, or on which no request ever came, would be waited for.
  const sweep = setInterval(() => {
    if (open === 0) app.server.closeAllConnections()
  }, 100)
  await app.close()
  clearInterval(sweep)
  await model.dispose()
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void stop())
