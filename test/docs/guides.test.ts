import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'
import { hasFfmpeg } from '../lib/processor/clips.js'

// As a stranger's file would, each block runs with the built package, and prints what it says it does:
// the comments beside its console.log calls, in order. Chats and models of the hub have
// tests of their own.
const guides = (await readdir(join(packageRoot, 'docs'))).filter(
  (name) => name !== 'chat.md' && name !== 'models.md',
)
const blocks: [name: string, code: string][] = []
for (const guide of guides) {
  const text = await readFile(join(packageRoot, 'docs', guide), 'utf8')
  const found = [...text.matchAll(/```ts\n([\s\S]*?)```/g)]
  blocks.push(...found.map(([, code], i): [string, string] => [`${guide} ${i + 1}`, code!]))
}

test('there are blocks in the guides', () => {
  for (const guide of ['generation.md', 'grounding.md', 'inputs.md', 'lower-layer.md']) {
    expect(blocks.filter(([name]) => name.startsWith(guide)).length).toBeGreaterThan(1)
  }
})

const runnable = blocks.filter(([, code]) => hasFfmpeg || !code.includes('.mp4'))

test.each(runnable)('%s prints what it says', async (name, code) => {
  const said = [...code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)].map(([, comment]) => comment)
  const folder = join(packageRoot, 'build', 'guides')
  await mkdir(folder, { recursive: true })
  const file = join(folder, `${name.replace(/\W+/g, '-')}.ts`)
  await writeFile(file, code)
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', file], {
    cwd: packageRoot,
  })
  // A line in a loop prints more than its comment says: that is the first of it.
  const lines = stdout.split('\n')
  let at = 0
  for (const line of said) {
    at = lines.indexOf(line!, at) + 1
    expect(at, `${line} in\n${stdout}`).toBeGreaterThan(0)
  }
})
