#!/usr/bin/env node
// Checks .github/workflows/ with actionlint, and that every npm script and file of scripts/ they run is there.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createLinter } from 'actionlint'
import { root } from './lib/prebuilds.mjs'

/** actionlint's npm package is older than these. */
const runners = ['ubuntu-24.04', 'macos-14', 'windows-2022']

const folder = join(root, '.github', 'workflows')
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const lint = await createLinter()
const problems = []

for (const name of readdirSync(folder)) {
  const text = readFileSync(join(folder, name), 'utf8')
  for (const { line, column, message, kind } of lint(text, `.github/workflows/${name}`)) {
    const label = kind === 'runner-label' && /^label "([^"]+)" is unknown/.exec(message)?.[1]
    if (!label || !runners.includes(label)) problems.push(`${name}:${line}:${column}: ${message}`)
  }
  for (const [, script] of text.matchAll(/npm run ([\w:]+)/g)) {
    if (!(script in scripts)) problems.push(`${name}: there is no script '${script}'`)
  }
  for (const [path] of text.matchAll(/scripts\/[\w/-]+\.mjs|\.ci\/\w+/g)) {
    if (!existsSync(join(root, path))) problems.push(`${name}: there is no ${path}`)
  }
  for (const [, path] of text.matchAll(/uses: \.\/(\S+)/g)) {
    if (!existsSync(join(root, path))) problems.push(`${name}: there is no ${path}`)
  }
}

for (const problem of problems) console.error(problem)
console.log(problems.length === 0 ? 'workflows: no problem' : 'workflows: not right')
// actionlint's WebAssembly goes on for ever.
process.exit(problems.length === 0 ? 0 : 1)
