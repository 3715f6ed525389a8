/** What README and docs/ tell to type, and where they point: commands, options, files and links exist. */
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, test } from 'vitest'
import { packageRoot } from '../../lib/package-root.js'

const guides = readdirSync(join(packageRoot, 'docs')).filter((name) => name.endsWith('.md'))
const pages = ['README.md', ...guides.map((name) => `docs/${name}`)]
const read = (page: string) => readFileSync(join(packageRoot, page), 'utf8')
const withoutCode = (text: string) => text.replace(/```[\s\S]*?```/g, '')

/** As GitHub makes them of headings. */
function anchorsOf(text: string): string[] {
  const headings = [...withoutCode(text).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading!)
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
}

const links = pages.flatMap((page) =>
  [...withoutCode(read(page)).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target]) => target!)
    .filter((target) => !/^https?:/.test(target))
    .map((target) => [page, target] as const),
)

test('there are links', () => expect(links.length).toBeGreaterThan(50))

test.each(links)('%s points to %s', (page, target) => {
  const [path, anchor] = target.split('#')
  const file = path === '' ? page : join(dirname(page), path!)
  expect(existsSync(join(packageRoot, file))).toBe(true)
  if (anchor !== undefined) expect(anchorsOf(read(file))).toContain(anchor)
})

test('the index has every page', () => {
  const index = read('docs/README.md')
  for (const name of guides.filter((guide) => guide !== 'README.md')) {
    expect(index).toContain(`](${name})`)
  }
  expect(read('README.md')).toContain('](docs/README.md)')
})

describe.each(pages)('%s', (page) => {
  const text = read(page)

  test('names scripts of package.json that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    for (const [, name] of text.matchAll(/npm run (?:--silent )?([\w:-]+)/g)) {
      expect(Object.keys(scripts)).toContain(name)
    }
  })

  test('names files of the repository that exist', () => {
    const named =
      /(?:`|vitest run |tsx |node )((?:test|lib|native|kernels|scripts|bench|examples|cmake)\/[\w./-]+\.\w+)/g
    for (const [, file] of text.matchAll(named)) {
      expect(existsSync(join(packageRoot, file!)), file).toBe(true)
    }
  })
})

describe('the command line', () => {
  const lines = pages.flatMap((page) =>
    [...read(page).matchAll(/(?:npx |^|["`(]|&& )qwen2-vl ([a-z]+)([^\n`|]*)/gm)].map(
      ([, command, rest]) => [page, command!, rest!] as const,
    ),
  )
  const help = new Map<string, string>()
  beforeAll(async () => {
    const cli = join(packageRoot, 'dist', 'cli.js')
    for (const command of new Set(lines.map(([, name]) => name))) {
      const args = [cli, command, '--help']
      help.set(command, (await promisify(execFile)(process.execPath, args)).stdout)
    }
  })

  test('is shown', () => expect(lines.length).toBeGreaterThan(10))

  test.each(lines)('%s: qwen2-vl %s%s', (_, command, rest) => {
    // Help of an unknown command is that of the program.
    expect(help.get(command)).toMatch(new RegExp(`^Usage: qwen2-vl ${command}\\b`))
    for (const [option] of rest.replace(/ #.*|&&.*/, '').matchAll(/--[a-z][\w-]*/g)) {
      expect(help.get(command)).toContain(option)
    }
  })
})
