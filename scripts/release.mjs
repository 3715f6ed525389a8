#!/usr/bin/env node
// Makes a release, from the checks to the publication, and leaves what belongs to it in build/release/:
// the tarball, the bill of materials (CycloneDX), the notes of the version, and the hashes of all.
//
//     npm run release -- --dry-run     everything but the publication, here and now
//     npm run release -- --publish     in .github/workflows/release.yml, which has every platform's binary
//                                      and the identity that npm's provenance is made from
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { root } from './lib/prebuilds.mjs'

const { values: options } = parseArgs({
  options: {
    'dry-run': { type: 'boolean', default: false },
    publish: { type: 'boolean', default: false },
    // The tests are the gate's; a second run of them costs minutes.
    'skip-tests': { type: 'boolean', default: false },
  },
})
if (options['dry-run'] === options.publish) fail('say --dry-run or --publish')
if (options.publish && options['skip-tests']) fail('nothing is published without tests')

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const folder = join(root, 'build', 'release')
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })

step('clean working tree', checkTree)
step('version and changelog', checkVersion)
step('repository', checkRepository)
if (!options['skip-tests']) step('tests', () => npm('test'))
step('types and lint', () => (npm('run', 'typecheck'), npm('run', 'lint')))
step('exports and types of the package', () => npm('run', 'check:package'))
step('notices', () => npm('run', 'check:notices'))
step('workflows', () => npm('run', 'check:workflows'))
step('prebuilt binaries', checkPrebuilds)
step('the package as a stranger installs it', () => npm('run', 'test:package'))
const tarball = step('tarball', pack)
step('bill of materials', writeSbom)
step('notes and hashes', writeHashes)
step(options.publish ? 'publication' : 'publication, not carried out', publish)
console.log(`\n${manifest.name} ${manifest.version}: build/release/`)
for (const name of readdirSync(folder)) console.log(`  ${name}`)

function checkTree() {
  const changes = execFileSync('git', ['status', '--porcelain'], { cwd: root, encoding: 'utf8' })
  if (changes) fail(`there are changes that are not committed:\n${changes}`)
}

function checkVersion() {
  const { version } = manifest
  if (!/^\d+\.\d+\.\d+(-[a-z]+\.\d+)?$/.test(version)) fail(`'${version}' is no version`)
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  if (lock.version !== version) fail(`package-lock.json has version ${lock.version}: npm install`)
  const newest = changelog()[0]
  if (newest?.version !== version) {
    fail(`CHANGELOG.md begins with ${newest?.version}, package.json has ${version}`)
  }
  const tag = process.env.GITHUB_REF_TYPE === 'tag' ? process.env.GITHUB_REF_NAME : undefined
  if (options.publish && tag !== `v${version}`) fail(`the tag is ${tag}, expected v${version}`)
}

/** Provenance ties a version to the repository that package.json names. */
function checkRepository() {
  if (manifest.repository?.url) return
  const how =
    'npm pkg set repository.type=git repository.url=git+https://github.com/<owner>/<name>.git'
  if (options.publish) fail(`package.json names no repository, which provenance needs: ${how}`)
  console.log(`note: package.json names no repository; before a publication: ${how}`)
}

function checkPrebuilds() {
  if (options.publish) return npm('run', 'check:prebuilds', '--', '--complete')
  npm('run', 'build:prebuilds')
  npm('run', 'check:prebuilds')
}

function pack() {
  const output = npm('pack', '--json', '--pack-destination', folder)
  return join(folder, JSON.parse(output)[0].filename)
}

/**
 * Of what a user installs, so it is drawn up where the tarball is installed: in this folder npm leaves out what
 * development takes as well, and names the package after the folder.
 */
function writeSbom() {
  const user = mkdtempSync(join(tmpdir(), 'qwen2-vl-sbom-'))
  writeFileSync(join(user, 'package.json'), '{ "name": "user", "version": "0.0.0" }')
  npmIn(user, 'install', '--package-lock-only', '--omit', 'peer', tarball)
  const sbom = JSON.parse(npmIn(user, 'sbom', '--package-lock-only', '--sbom-format', 'cyclonedx'))
  rmSync(user, { recursive: true })
  const { components } = sbom
  const own = components.find(({ name }) => name === manifest.name)
  if (own?.version !== manifest.version) fail('the bill of materials is of another version')
  sbom.metadata.component = own
  sbom.components = components.filter((component) => component !== own)
  const text = `${JSON.stringify(sbom, null, 2)}\n`
  const listed = new Set(components.map(({ group, name }) => (group ? `${group}/${name}` : name)))
  const missing = Object.keys(manifest.dependencies).filter((name) => !listed.has(name))
  const foreign = Object.keys(manifest.devDependencies).filter((name) => listed.has(name))
  if (missing.length > 0) fail(`the bill of materials lacks ${missing.join(', ')}`)
  if (foreign.length > 0) fail(`the bill of materials lists ${foreign.join(', ')}`)
  writeFileSync(join(folder, 'sbom.cdx.json'), text)
}

function writeHashes() {
  writeFileSync(join(folder, 'notes.md'), `${changelog()[0].text}\n`)
  const lines = readdirSync(folder).map((name) => {
    const data = readFileSync(join(folder, name))
    return `${createHash('sha256').update(data).digest('hex')}  ${name}\n`
  })
  writeFileSync(join(folder, 'SHA256SUMS'), lines.join(''))
}

function publish() {
  const flags = ['--access', 'public', '--provenance', ...(options.publish ? [] : ['--dry-run'])]
  npm('publish', tarball, ...flags)
}

/** The versions of CHANGELOG.md, newest first. */
function changelog() {
  const text = readFileSync(join(root, 'CHANGELOG.md'), 'utf8')
  const sections = text.split(/^## /m).slice(1)
  return sections.map((section) => {
    const end = section.indexOf('\n')
    return { version: section.slice(0, end).split(' ')[0], text: section.slice(end).trim() }
  })
}

function step(name, work) {
  console.log(`\n== ${name}`)
  const begin = performance.now()
  const result = work()
  console.log(`== ${name}: ${((performance.now() - begin) / 1000).toFixed(1)} s`)
  return result
}

function npm(...args) {
  return npmIn(root, ...args)
}

function npmIn(cwd, ...args) {
  const run = spawnSync('npm', args, {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 64e6,
    shell: process.platform === 'win32',
  })
  if (run.status === 0) return run.stdout
  process.stdout.write(run.stdout)
  fail(`npm ${args.join(' ')} failed; its output is above`)
}

function fail(reason) {
  console.error(`qwen2-vl: ${reason}.`)
  process.exit(1)
}
