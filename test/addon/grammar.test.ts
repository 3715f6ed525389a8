import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GrammarCompiler } from '../../lib/constraint/compiler.js'
import { type Grammar, packGrammar } from '../../lib/constraint/grammar.js'
import { InvalidArgumentError } from '../../lib/errors.js'
import type { NativeModel } from '../../lib/native.js'
import { packageRoot } from '../../lib/package-root.js'
import { Tokenizer } from '../../lib/tokenizer/tokenizer.js'
import { greedy, loadTiny, run, textRequest } from './tiny.js'

const tinyFolder = join(packageRoot, 'models', 'qwen2-vl-tiny')

let model: NativeModel
let tokenizer: Tokenizer
let grammars: GrammarCompiler
beforeAll(async () => {
  const read = (name: string) => readFileSync(join(tinyFolder, name), 'utf8')
  tokenizer = await Tokenizer.load({
    tokenizerJson: read('tokenizer.json'),
    tokenizerConfigJson: read('tokenizer_config.json'),
  })
  model = await loadTiny()
  grammars = new GrammarCompiler(model, tokenizer)
})
afterAll(() => model.dispose())

const rule = (index: number) => ({ rule: index })
const text = (value: string) => ({ text: value })
const any = (index: number, min = 0, max: number | null = null) => ({ rule: index, min, max })

/** `{"<key>": <number or list>, ...}` without spaces; short, so that answers end. */
const json: Grammar = {
  rules: [
    [[text('{'), rule(1), any(2, 0, 2), text('}')]],
    [[text('"'), any(3, 1, 8), text('":'), rule(4)]],
    [[text(','), rule(1)]],
    [
      [
        {
          chars: [
            [0x20, 0x21],
            [0x23, 0x5b],
            [0x5d, 0x10ffff],
          ],
        },
      ],
    ],
    [[any(5, 1, 4)], [text('['), rule(4), any(6, 0, 2), text(']')]],
    [[{ chars: [[0x31, 0x39]] }]],
    [[text(','), rule(4)]],
  ],
}

const choices: Grammar = { rules: [[[text('yes')], [text('no')], [text('不知道')]]] }

async function answer(grammar: Grammar, changes: Parameters<typeof textRequest>[0] = {}) {
  const compiled = await grammars.compile(grammar)
  const { ids, reason } = await run(model, textRequest({ ...changes, grammar: compiled })).end
  return { text: tokenizer.decode(ids), ids, reason }
}

describe('a grammar', () => {
  it('forces JSON that parses, greedy or drawn', async () => {
    const texts = new Set<string>()
    for (let seed = 0n; seed < 12n; seed++) {
      const temperature = seed === 0n ? 0 : 2
      const found = await answer(json, {
        sampling: { ...greedy, temperature, seed },
        maxTokens: 400,
      })
      expect(found.reason).toBe('stop')
      expect(Object.keys(JSON.parse(found.text) as object).length).toBeGreaterThan(0)
      texts.add(found.text)
    }
    expect(texts.size).toBeGreaterThan(5)
  })

  it('forces one of the choices', async () => {
    const texts = new Set<string>()
    for (let seed = 0n; seed < 30n; seed++) {
      const found = await answer(choices, { sampling: { ...greedy, temperature: 3, seed } })
      expect(['yes', 'no', '不知道']).toContain(found.text)
      expect(found.reason).toBe('stop')
      texts.add(found.text)
    }
    expect(texts.size).toBeGreaterThan(1)
  })

  it('changes nothing where it allows everything', async () => {
    const anything: Grammar = { rules: [[[any(1)]], [[{ chars: [[0, 0x10ffff]] }]]] }
    const { end } = run(model, textRequest())
    expect((await answer(anything)).ids).toEqual((await end).ids)
  })

  it('leaves an answer alone in which no trigger comes', async () => {
    const { end } = run(model, textRequest())
    const found = await answer({ ...choices, triggers: ['<answer>'] })
    expect(found.ids).toEqual((await end).ids)
  })

  it('rules what follows a trigger', async () => {
    const { ids } = await run(model, textRequest()).end
    const trigger = tokenizer.decode(ids.slice(1, 4))
    const found = await answer({ ...choices, triggers: [trigger] })
    const free = tokenizer.decode(ids.slice(0, 4))
    expect(found.text.slice(0, free.length)).toBe(free)
    expect(['yes', 'no', '不知道']).toContain(found.text.slice(free.length))
  })

  it('gives equal answers alone and beside others', async () => {
    const request = { sampling: { ...greedy, temperature: 1.5, seed: 7n }, maxTokens: 200 }
    const alone = await answer(json, request)
    const together = await Promise.all([
      ...Array.from({ length: 6 }, () => answer(json, request)),
      answer(choices),
    ])
    for (const found of together.slice(0, 6)) expect(found.ids).toEqual(alone.ids)
  })

  it('ends without a token for the end where the request has none', async () => {
    const found = await answer({ rules: [[[text('abc')]]] }, { stopIds: new Int32Array(0) })
    expect(found).toMatchObject({ text: 'abc', reason: 'stop' })
  })
})

describe('compiling', () => {
  it('shares what is equal', async () => {
    expect(await grammars.compile({ ...json })).toBe(await grammars.compile(json))
    expect(await grammars.compile(choices)).not.toBe(await grammars.compile(json))
  })

  it('reads a grammar that it has met only once', async () => {
    let reads = 0
    const watched: Grammar = {
      get rules() {
        ++reads
        return choices.rules
      },
    }
    const compiled = await grammars.compile(watched)
    const readOnce = reads
    expect(readOnce).toBeGreaterThan(0)
    expect(await grammars.compile(watched)).toBe(compiled)
    expect(reads).toBe(readOnce)
  })

  it('makes again what was displaced', async () => {
    const of = (value: string): Grammar => ({ rules: [[[text(value)]]] })
    const first = of('first')
    const compiled = await grammars.compile(first)
    for (let i = 0; i < 8; ++i) await grammars.compile(of(`${i}`))
    const again = await grammars.compile(first)
    expect(again).not.toBe(compiled)
    expect((await answer(first)).text).toBe('first')
  })

  it('passes the vocabulary again where that failed', async () => {
    const other = await loadTiny()
    try {
      let attempts = 0
      const compiler = new GrammarCompiler(other, {
        textTable: () =>
          ++attempts === 1 ? Promise.reject(new Error('no memory')) : tokenizer.textTable(),
      })
      await expect(compiler.compile(choices)).rejects.toThrow('no memory')
      await expect(compiler.compile(choices)).resolves.toBeDefined()
      await compiler.compile(json)
      expect(attempts).toBe(2)
    } finally {
      await other.dispose()
    }
  })

  it('names the rule that is at fault', async () => {
    const leftRecursive: Grammar = { rules: [[[rule(1)]], [[rule(1), text('a')], [text('b')]]] }
    const error: unknown = await grammars.compile(leftRecursive).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(InvalidArgumentError)
    expect(error).toMatchObject({
      details: { rule: 1 },
      message:
        'rule 1 of the grammar calls itself before it has matched a character (1 -> 1): write left ' +
        'recursion as a repetition',
    })
  })

  it('refuses numbers that are no packed grammar', async () => {
    const packed = packGrammar(json)
    for (const damaged of [packed.slice(0, -1), new Int32Array([2 ** 31 - 1]), new Int32Array(0)]) {
      await expect(model.compileGrammar(damaged)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
      })
    }
  })

  it('refuses what is no grammar, and a grammar of another model', async () => {
    const other = await loadTiny()
    try {
      const compiled = await new GrammarCompiler(other, tokenizer).compile(choices)
      expect(() => model.generate(textRequest({ grammar: compiled }), () => {})).toThrow(
        /request\.grammar must be a grammar of this model/,
      )
      const foreign = {} as typeof compiled
      expect(() => model.generate(textRequest({ grammar: foreign }), () => {})).toThrow(
        /request\.grammar must be a grammar that compileGrammar\(\) made/,
      )
    } finally {
      await other.dispose()
    }
  })

  it('needs the vocabulary', async () => {
    const other = await loadTiny()
    expect(() => other.compileGrammar(packGrammar(choices))).toThrow(/call setVocabulary\(\)/)
    await expect(other.setVocabulary(new Uint8Array(3), Int32Array.of(1, 1))).rejects.toThrow(
      'the tokens have 3 bytes; their lengths say 2',
    )
    await other.dispose()
  })
})
