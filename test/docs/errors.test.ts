/** docs/errors.md against the code: every class and every code is explained, and nothing that is not there. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import * as errors from '../../lib/errors.js'
import { packageRoot } from '../../lib/package-root.js'

const page = readFileSync(join(packageRoot, 'docs', 'errors.md'), 'utf8')
const rows = page.split('\n').filter((line) => line.startsWith('|'))
const codesOf = (text: string) => text.match(/\bERR_[A-Z][A-Z0-9_]*[A-Z0-9]\b(?!_)/g) ?? []

const sources = ['lib', 'native', 'kernels'].flatMap((folder) =>
  readdirSync(join(packageRoot, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|h|cpp|cu|cuh)$/.test(name))
    .map((name) => readFileSync(join(packageRoot, folder, name), 'utf8')),
)
/** An abort reaches callers as the signal's reason; the other is of Node.js. */
const notOurs = ['ERR_ABORTED', 'ERR_INVALID_ARG_VALUE']
const thrown = new Set(sources.flatMap(codesOf).filter((code) => !notOurs.includes(code)))

test('there are codes in the code', () => expect(thrown.size).toBeGreaterThan(50))

test('every code has a row that says what to do', () => {
  const explained = new Set(rows.filter((row) => !/\| *\|$/.test(row)).flatMap(codesOf))
  expect([...explained].sort()).toEqual([...thrown].sort())
})

test('every class is named', () => {
  const classes = Object.keys(errors).filter(
    (name) => name.endsWith('Error') && /^[A-Z]/.test(name),
  )
  expect(classes.length).toBeGreaterThan(15)
  for (const name of classes) expect(page).toContain(`\`${name}\``)
})
