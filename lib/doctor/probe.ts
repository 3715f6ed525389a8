/**
 * What only trying tells: whether the native parts load and the bundled checkpoint answers. It runs in a process of its
 * own, since a binary that does not suit the machine may end the process that loads it.
 */
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { loadModel } from '../load-model.js'
import type { ModelInfo } from '../model.js'
import { nativeBinding, type NativeBinding, type NativeCudaInfo } from '../native.js'
import { packageRoot } from '../package-root.js'

/** Each part may be missing: the process can end anywhere. */
export interface Probe {
  binary?: Outcome<{
    cpu: ReturnType<NativeBinding['cpuInfo']>
    cuda: NativeCudaInfo
  }>
  sharp?: Outcome<Record<string, string>>
  selfTest?: Outcome<SelfTest>
  /** How the process ended, where that was not after the last part. */
  ended?: string
}

/** A part that worked, or why it did not. */
export type Outcome<T> = { value: T } | { error: string }

/** One question to the bundled checkpoint. */
export interface SelfTest {
  question: string
  answer: string
  expected: string
  device: ModelInfo['device']
  loadMs: number
  answerMs: number
}

const TIMEOUT_MS = 120_000

/** Runs the parts one after another, and writes each as a line as soon as it is known. */
export async function runProbe(write: (line: string) => void): Promise<void> {
  const part = async (name: 'binary' | 'sharp' | 'selfTest', run: () => unknown) => {
    let outcome: Outcome<unknown>
    try {
      outcome = { value: await run() }
    } catch (error) {
      outcome = { error: error instanceof Error ? error.message : String(error) }
    }
    write(JSON.stringify({ [name]: outcome }) + '\n')
  }
  await part('binary', async () => {
    const binding = nativeBinding()
    return { cpu: binding.cpuInfo(), cuda: await binding.cudaInfo() }
  })
  await part('sharp', () => {
    const { versions } = createRequire(import.meta.url)('sharp') as {
      versions: Record<string, string>
    }
    return versions
  })
  await part('selfTest', selfTest)
}

async function selfTest(): Promise<SelfTest> {
  const question = 'What does the text say?'
  const begin = performance.now()
  await using model = await loadModel('tiny')
  const loaded = performance.now()
  const image = join(packageRoot, 'models', 'qwen2-vl-tiny', 'images', 'ocr-hello.png')
  const { text } = await model.generate({
    messages: [
      {
        role: 'user',
        content: [
          { type: 'image', image },
          { type: 'text', text: question },
        ],
      },
    ],
    temperature: 0,
    maxTokens: 64,
  })
  return {
    question,
    answer: text,
    expected: 'The text says "HELLO".',
    device: model.info.device,
    loadMs: Math.round(loaded - begin),
    answerMs: Math.round(performance.now() - loaded),
  }
}

/**
 * Runs a program that calls {@link runProbe}, and collects what it writes however it ends.
 *
 * @param args of Node.js: the program and its arguments.
 */
export async function collectProbe(
  args: readonly string[],
  timeoutMs = TIMEOUT_MS,
): Promise<Probe> {
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    windowsHide: true,
  })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    child.kill('SIGKILL')
  }, timeoutMs)
  const ended = await new Promise<string | undefined>((resolve) => {
    child.once('error', (error) => resolve(`could not be started (${error.message})`))
    child.once('close', (code, signal) => {
      if (isLate) resolve(`was not done after ${timeoutMs / 1000} s`)
      else if (signal) resolve(`was ended by ${signal}`)
      else if (code !== 0) resolve(`ended with code ${code}: ${errors.trim().slice(-400)}`)
      else resolve(undefined)
    })
  })
  clearTimeout(timer)
  const lines = output.split('\n').slice(0, -1) // behind the last line's end is nothing, or half a line
  const parts = lines.map((line) => JSON.parse(line) as Probe)
  return Object.assign({}, ...parts, ended !== undefined && { ended }) as Probe
}
