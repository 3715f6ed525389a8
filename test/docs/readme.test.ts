import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'

// The blocks run as a stranger's file would: `qwen2-vl` is the built package, found by its own name.
const readme = await readFile(join(packageRoot, 'README.md'), 'utf8')
const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!)

/** What each block must print, in order: the comments beside the README's console.log calls. */
const expected = [
  [/^The text says "HELLO"\. 48$/m],
  [
    /^A green circle at the top left, a purple star at the top right and an orange star at the left\.$/m,
    /^stop, \d+ tokens\/s$/m,
  ],
  [/^It moves down\.$/m, /they are not the same/, /^I am a tiny vision language model/m],
  [/^A purple square at the right\.$/m, /^I see one square\. true$/m],
  [/^the blue circle$/m],
  [/^ERR_IMAGE_DECODE 0$/m, /^max_tokens$/m],
]

test('every TypeScript block of the README is covered', () => {
  expect(blocks).toHaveLength(expected.length)
})

test.each(blocks.map((code, index) => [index + 1, code] as const))(
  'README block %i runs as written',
  async (number, code) => {
    const folder = join(packageRoot, 'build', 'readme')
    await mkdir(folder, { recursive: true })
    const file = join(folder, `block-${number}.ts`)
    await writeFile(file, code)
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', file], {
      cwd: packageRoot,
    })
    for (const pattern of expected[number - 1]!) expect(stdout).toMatch(pattern)
  },
)
