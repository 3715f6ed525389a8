/**
 * What a grammar costs with the real vocabulary of Qwen2: compiling, and the mask of each token.
 *
 *     npx tsx bench/grammar.ts <bench_grammar> [<checkpoint>]
 *
 * `bench_grammar` is built by cmake with -DQVL_BENCH=ON. Without a checkpoint the vocabulary is that
 * of a development dependency.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../lib/package-root.js'
import { Tokenizer } from '../lib/tokenizer/tokenizer.js'

const dependency = join(packageRoot, 'node_modules', '@lenml', 'tokenizer-qwen2_5', 'models')
const [program, folder = dependency] = process.argv.slice(2)
if (program === undefined) throw new Error('usage: npx tsx bench/grammar.ts <bench_grammar>')

const tokenizerJson = readFileSync(join(folder, 'tokenizer.json'), 'utf8')
const tokenizer = await Tokenizer.load({ tokenizerJson })
const { bytes, lengths } = await tokenizer.textTable()
const scratch = mkdtempSync(join(tmpdir(), 'qwen2-vl-bench-'))
try {
  const file = join(scratch, 'vocabulary')
  const size = Int32Array.of(lengths.length)
  writeFileSync(file, Buffer.concat([Buffer.from(size.buffer), Buffer.from(lengths.buffer), bytes]))
  process.exitCode = spawnSync(program, [file], { stdio: 'inherit' }).status ?? 1
} finally {
  rmSync(scratch, { recursive: true })
}
