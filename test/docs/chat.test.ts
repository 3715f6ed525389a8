import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'

// The blocks run as a stranger's file would: `qwen2-vl` is the built package, found by its own name.
const page = await readFile(join(packageRoot, 'docs', 'chat.md'), 'utf8')
const blocks = [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!)

/** What each block must print, in order: the comments beside its console.log calls. */
const expected = [
  [/^true true$/m, /^I am a tiny vision language model/m, /^3 7$/m, /^3 7\ntrue$/m],
  [/^tool-calls weather$/m, /^user,assistant,tool,assistant$/m],
  [/^\d+ \d+ \d+$/m, /^false\ntrue$/m],
]

test('every TypeScript block of the page on chats is covered', () => {
  expect(blocks).toHaveLength(expected.length)
})

test.each(blocks.map((code, index) => [index + 1, code] as const))(
  'block %i of the page on chats runs as written',
  async (number, code) => {
    const folder = join(packageRoot, 'build', 'docs')
    await mkdir(folder, { recursive: true })
    const file = join(folder, `chat-${number}.ts`)
    await writeFile(file, code)
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', file], {
      cwd: packageRoot,
    })
    for (const pattern of expected[number - 1]!) expect(stdout).toMatch(pattern)
  },
)
