/**
 * node-llama-cpp from its prebuilt binaries, text only, since it takes no images:
 * `npx tsx bench/peers/node-llama-cpp.ts <folder of npm install> <file.gguf> <threads>`.
 * Prints a line of JSON for each case.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { decodePrompt, decodeTokens, print, randomTokens } from './cases.js'

/** What is used of it. */
interface NodeLlamaCpp {
  getLlama: (options: object) => Promise<{ loadModel(options: object): Promise<LlamaModel> }>
}
interface LlamaModel {
  createContext(options: object): Promise<{ getSequence(): LlamaSequence }>
}
interface LlamaSequence {
  clearHistory(): Promise<void>
  evaluate(tokens: number[], options: object): AsyncIterable<unknown>
}

const [folder, modelPath, threadsText] = process.argv.slice(2)
if (folder === undefined || modelPath === undefined) {
  throw new Error('usage: node-llama-cpp.ts <folder of npm install> <file.gguf> <threads>')
}
const threads = Number(threadsText ?? 2)
const home = join(resolve(folder), 'node_modules', 'node-llama-cpp')
const { main } = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as { main: string }
const { getLlama } = (await import(pathToFileURL(join(home, main)).href)) as NodeLlamaCpp
const llama = await getLlama({
  ...{ gpu: false, build: 'never', maxThreads: threads, logLevel: 'error' },
})

const begin = performance.now()
const model = await llama.loadModel({ modelPath: resolve(modelPath) })
const context = await model.createContext({ contextSize: 1024, batchSize: 512, threads })
const sequence = context.getSequence()
await evaluate(1, 1)
print({ case: 'load', value: (performance.now() - begin) / 1000 })
for (const tokens of [128, 512]) {
  const { first } = await evaluate(tokens, 1)
  print({ case: `prefill ${tokens}`, value: tokens / first })
}
const { rest } = await evaluate(decodePrompt, decodeTokens + 1)
print({ case: 'decode', value: decodeTokens / rest })
process.exit(0) // it keeps the process alive

/** Seconds to the first token, and from there to the last. */
async function evaluate(prompt: number, answer: number): Promise<{ first: number; rest: number }> {
  await sequence.clearHistory()
  const start = performance.now()
  let first = 0
  let count = 0
  const options = { temperature: 0, yieldEogToken: true }
  const tokens = sequence.evaluate(randomTokens(prompt, prompt), options)[Symbol.asyncIterator]()
  for (; count < answer; count++) {
    await tokens.next()
    if (count === 0) first = performance.now() - start
  }
  return { first: first / 1000, rest: (performance.now() - start - first) / 1000 }
}
