/** The worker of worker-thread.ts, in JavaScript: Node.js starts a worker from a file as it is. */
import { on } from 'node:events'
import { parentPort } from 'node:worker_threads'
import { loadModel } from 'qwen2-vl'

const model = await loadModel('tiny')
let controller = new AbortController()

parentPort.postMessage({ type: 'ready' })
for await (const [message] of on(parentPort, 'message')) {
  if (message.type === 'ask') void answer(message.request)
  else if (message.type === 'cancel') controller.abort()
  else break
}
await model.dispose()
parentPort.close()

async function answer(request) {
  controller = new AbortController()
  const { signal } = controller
  const stream = model.stream({ ...request, signal, onAbort: 'return' })
  try {
    for await (const text of stream.textStream) parentPort.postMessage({ type: 'text', text })
    parentPort.postMessage({ type: 'end', reason: (await stream.result).finishReason })
  } catch (error) {
    parentPort.postMessage({ type: 'end', reason: error.message })
  }
}
