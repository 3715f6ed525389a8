/**
 * A model in a worker thread, with answers streamed and cancelled across the threads.
 *
 * It is not needed for speed: the model computes on threads of its own wherever it was loaded. It keeps what remains in
 * JavaScript away from a main thread with tasks of its own. The worker is [model-worker.mjs](model-worker.mjs).
 *
 *     npx tsx examples/worker-thread.ts
 */
import { on, once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { GenerateRequest } from 'qwen2-vl'

type Message = { type: 'ready' } | { type: 'text'; text: string } | { type: 'end'; reason: string }

const worker = new Worker(new URL('model-worker.mjs', import.meta.url))
const messages = on(worker, 'message') as AsyncIterableIterator<[Message]>
const receive = async () => ((await messages.next()).value as [Message])[0]

/** Cancels when there is more text than `limit` characters. */
async function ask(request: GenerateRequest, limit = Infinity): Promise<[string, string]> {
  let text = ''
  worker.postMessage({ type: 'ask', request })
  for (;;) {
    const message = await receive()
    if (message.type === 'end') return [text, message.reason]
    if (message.type === 'text') text += message.text
    if (text.length > limit) worker.postMessage({ type: 'cancel' })
  }
}

await receive() // ready
const messagesOf = (content: string) => [{ role: 'user', content }]
console.log(...(await ask({ messages: messagesOf('Who are you?') })))

const endless = { messages: messagesOf('Who are you?'), logitBias: { '<|im_end|>': -100 } }
const [text, reason] = await ask({ ...endless, maxTokens: 1900 }, 80)
console.log(text.slice(0, 32), reason)

worker.postMessage({ type: 'end' })
const [code] = (await once(worker, 'exit')) as [number]
console.log(`the worker ended with ${code}`)
