import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { sample, shortContext } from './tiny.js'

interface Outcome {
  code: number | string | null | undefined
  signal: NodeJS.Signals | null | undefined
  stdout: string
  stderr: string
}

const fixture = (name: string) => fileURLToPath(new URL(`./fixtures/${name}.ts`, import.meta.url))

/** Runs a fixture in a process of its own, which must end by itself. */
function runChild(name: string, args: string[] = [], nodeArgs: string[] = []): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [...nodeArgs, '--import', 'tsx', fixture(name), ...args],
      { timeout: 50_000 },
      (error, stdout, stderr) =>
        resolve({ code: error ? error.code : 0, signal: error?.signal, stdout, stderr }),
    )
  })
}

describe('a process', () => {
  it('may exit in the middle of generations', async () => {
    for (let i = 0; i < 5; ++i) {
      expect(await runChild('exit-while-generating', ['7'])).toMatchObject({ code: 7, stderr: '' })
    }
  })

  it('may exit in the middle of a load', async () => {
    for (let i = 0; i < 3; ++i) {
      expect(await runChild('exit-while-loading')).toMatchObject({ code: 7, stderr: '' })
    }
  })

  it('ends by itself after the last answer, with a model that was never disposed', async () => {
    expect(await runChild('end-without-dispose')).toEqual({
      code: 0,
      signal: undefined,
      stdout: `${sample('text-who').reference.token_ids.length}\n`,
      stderr: '',
    })
  })
})

describe('garbage collection', () => {
  it('does not take a model away from the answer that it is giving', async () => {
    const { code, stdout, stderr } = await runChild('collect-while-generating', [], ['--expose-gc'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const promptTokens = sample('text-who').prompt_token_ids.length
    expect(JSON.parse(stdout)).toEqual({
      tokens: shortContext.maxContext - promptTokens,
      reason: 'length',
      collected: 1,
    })
  })

  it('gives the memory of models back that nobody disposed', async () => {
    const { code, stdout, stderr } = await runChild('many-models', [], ['--expose-gc'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const { growth } = JSON.parse(stdout) as { growth: number }
    // Twenty models of 11 MB of weights each; some slack for the allocator and V8.
    expect(growth).toBeLessThan(60e6)
  })
})

describe('a worker thread', () => {
  it('answers as the main thread does', async () => {
    const worker = new Worker(new URL('./fixtures/worker.mjs', import.meta.url), {
      workerData: 'answer',
    })
    // A worker that ends at once delivers its message and its end in one turn of the event loop.
    const exit = new Promise((resolve) => worker.once('exit', resolve))
    const ids = await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    expect(ids).toEqual(sample('text-who').reference.token_ids)
    // It ends by itself: its idle model keeps nothing alive.
    expect(await exit).toBe(0)
  })

  it.each([
    ['generate', 20],
    ['load', 10],
    ['dispose', 5],
    ['exit', 5],
  ])('may be terminated while it is busy with: %s', async (mode, count) => {
    const outcome = await runChild('terminate-workers', [mode, String(count)])
    expect(outcome).toEqual({ code: 0, signal: undefined, stdout: 'terminated\n', stderr: '' })
  })
})
