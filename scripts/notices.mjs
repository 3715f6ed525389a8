#!/usr/bin/env node
// Writes THIRD_PARTY_NOTICES.md: whose code is inside the package, whose is installed with it, and under
// which licences, from package-lock.json and node_modules. With --check it only compares.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './lib/prebuilds.mjs'

/** What may be depended on without asking. */
const accepted = ['Apache-2.0', 'MIT', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD']
accepted.push('LGPL-3.0-or-later', 'Apache-2.0 AND LGPL-3.0-or-later')
accepted.push('Apache-2.0 AND LGPL-3.0-or-later AND MIT')

/** Headers that are compiled into the binaries; their packages are not installed with ours. */
const compiledIn = ['node-addon-api', 'node-api-headers']

const file = join(root, 'THIRD_PARTY_NOTICES.md')
const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
const text = render()
if (process.argv.includes('--check')) {
  if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
    fail('THIRD_PARTY_NOTICES.md is not up to date: run npm run notices')
  }
  console.log('notices: up to date')
} else {
  writeFileSync(file, text)
}

function render() {
  const installed = Object.keys(lock)
    .filter((path) => path && isShipped(lock[path]))
    .map((path) => path.replace(/^.*node_modules\//, ''))
  const own = installed.filter((name) => !isBinaryOfSharp(name))
  return `# Third-party notices

qwen2-vl is licensed under Apache-2.0 (LICENSE). This file is made by \`npm run notices\`.

## Inside the binaries of prebuilds/

- The GNU C++ library (Linux), linked statically, under GPL-3.0 with the GCC Runtime Library Exception 3.1, which
  lets programs that GCC has compiled carry it under terms of their own: <https://www.gnu.org/licenses/gcc-exception-3.1.html>.
- The headers of ${compiledIn.map(described).join(' and ')}; their licences are below.

The CUDA kernels of linux-x64 are this package's own. No library of NVIDIA's is inside; the driver of the machine is opened
when it is asked for.

## Installed with the package

npm installs these beside it, each with its licence in its own folder:

${own.map((name) => `- ${described(name)}`).join('\n')}
- sharp's binaries for the platform (\`@img/sharp-*\`, Apache-2.0) with libvips and the libraries it is built with
  (\`@img/sharp-libvips-*\`, LGPL-3.0-or-later, linked dynamically): <https://github.com/lovell/sharp-libvips#licensing>

## Licences of what is inside

${compiledIn.map((name) => `### ${name}\n\n${licenceText(name)}`).join('\n\n')}
`
}

/** What a user gets: neither for development nor a peer that is up to the user. */
function isShipped({ dev, devOptional, peer, optional, link }) {
  return !dev && !devOptional && !peer && !optional && !link
}

function isBinaryOfSharp(name) {
  return name.startsWith('@img/') && name !== '@img/colour'
}

function described(name) {
  const { version, license } = lock[`node_modules/${name}`]
  if (!accepted.includes(license)) {
    fail(`${name} is licensed under '${license}', which scripts/notices.mjs does not know of`)
  }
  return `${name} ${version} (${license})`
}

function licenceText(name) {
  const folder = join(root, 'node_modules', name)
  const found = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry))
  if (!found) fail(`${name} has no licence file`)
  return readFileSync(join(folder, found), 'utf8').trim().replace(/\r\n/g, '\n')
}

function fail(reason) {
  console.error(`qwen2-vl: ${reason}.`)
  process.exit(1)
}
