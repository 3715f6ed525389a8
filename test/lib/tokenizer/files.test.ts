/** Tokenizer files: the two groups of them, and everything that can be wrong with them. */
import { describe, expect, it } from 'vitest'
import { CheckpointError } from '../../../lib/errors.js'
import { Tokenizer, type TokenizerFiles } from '../../../lib/tokenizer/tokenizer.js'
import { randomSource, randomText } from './random-text.js'
import type { TokenizerDescription } from './real-vocabulary.js'
import { tinyFile, tinySamples } from './tiny-checkpoint.js'

const tokenizerConfigJson = tinyFile('tokenizer_config.json')
const vocabJson = tinyFile('vocab.json')
const mergesTxt = tinyFile('merges.txt')

function describedBy(change: (description: TokenizerDescription) => void): TokenizerFiles {
  const description = JSON.parse(tinyFile('tokenizer.json')) as TokenizerDescription
  change(description)
  return { tokenizerJson: JSON.stringify(description) }
}

function loadWith(change: (description: TokenizerDescription) => void): Promise<Tokenizer> {
  return Tokenizer.load(describedBy(change))
}

async function failure(files: TokenizerFiles): Promise<CheckpointError> {
  const error: unknown = await Tokenizer.load(files).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(CheckpointError)
  expect(error).toHaveProperty('code', 'ERR_CHECKPOINT_TOKENIZER')
  return error as CheckpointError
}

describe('the bundled checkpoint', () => {
  it.each([
    ['tokenizer.json', { tokenizerJson: tinyFile('tokenizer.json'), tokenizerConfigJson }],
    ['vocab.json and merges.txt', { vocabJson, mergesTxt, tokenizerConfigJson }],
  ])('encodes and decodes its samples from %s', async (_, files) => {
    const tokenizer = await Tokenizer.load(files)
    expect(tokenizer.vocabSize).toBe(1260)
    for (const { prompt, prompt_token_ids, reference } of tinySamples()) {
      // Runs of pads are one placeholder in the text of the prompt.
      const pads = [1258, 1259]
      const unexpanded = prompt_token_ids.filter(
        (id, i) => !(pads.includes(id) && prompt_token_ids[i - 1] === id),
      )
      expect(tokenizer.encode(prompt)).toEqual(unexpanded)
      const { token_ids, text_skip_special } = reference
      expect(tokenizer.decode(token_ids)).toBe(text_skip_special)
    }
  })

  it('has the same tokenizer in both groups of files', async () => {
    const a = await Tokenizer.load({ tokenizerJson: tinyFile('tokenizer.json') })
    const b = await Tokenizer.load({ vocabJson, mergesTxt, tokenizerConfigJson })
    const random = randomSource(11)
    for (let i = 0; i < 500; i++) {
      const text = randomText(random, 40, ['<|im_start|>', '<|image_pad|>'])
      expect(a.encode(text)).toEqual(b.encode(text))
    }
    for (let id = 0; id < 1300; id++) {
      expect(a.idToToken(id)).toBe(b.idToToken(id))
      expect(a.isSpecial(id)).toBe(b.isSpecial(id))
    }
  })

  it('may have its merges as pairs, as strings, or with CR LF', async () => {
    const pairs = await loadWith(() => undefined)
    const strings = await loadWith(({ model }) => {
      model.merges = (model.merges as string[][]).map((pair) => pair.join(' '))
    })
    const crlf = await Tokenizer.load({
      vocabJson,
      mergesTxt: mergesTxt.replaceAll('\n', '\r\n'),
      tokenizerConfigJson,
    })
    const text = 'Describe this image. What is in the picture? 你是谁？'
    expect(strings.encode(text)).toEqual(pairs.encode(text))
    expect(crlf.encode(text)).toEqual(pairs.encode(text))
  })
})

describe('added tokens', () => {
  const token = {
    special: false,
    normalized: false,
    lstrip: false,
    rstrip: false,
    single_word: false,
  }

  it('match the leftmost first, then the longest', async () => {
    const tokenizer = await loadWith(({ added_tokens }) => {
      added_tokens.push(
        { ...token, id: 1260, content: '<a>' },
        { ...token, id: 1261, content: '<a><b>' },
        { ...token, id: 1262, content: '><b' },
        { ...token, id: 1263, content: '.*[x]$' },
      )
    })
    expect(tokenizer.encode('<a><b><a>')).toEqual([1261, 1260])
    expect(tokenizer.encode('<a><b')).toEqual([1260, ...tokenizer.encode('<b')])
    expect(tokenizer.encode('x><b')).toEqual([...tokenizer.encode('x'), 1262])
    expect(tokenizer.encode('.*[x]$')).toEqual([1263])
    expect(tokenizer.decode([1260, 1263, 1246])).toBe('<a>.*[x]$')
  })

  it('may be looked for after NFC', async () => {
    const tokenizer = await loadWith(({ added_tokens }) => {
      added_tokens.push(
        { ...token, id: 1260, content: 'caf\u00e9', normalized: true },
        { ...token, id: 1261, content: 'th\u00e9' },
      )
    })
    expect(tokenizer.encode('cafe\u0301')).toEqual([1260])
    expect(tokenizer.encode('the\u0301')).not.toContain(1261)
    expect(tokenizer.encode('caf\u00e9', { addedTokens: false })).not.toContain(1260)
    expect(tokenizer.decode([1260])).toBe('caf\u00e9')
    const long = 'cafe\u0301 '.repeat(5000)
    expect(tokenizer.encode(long).filter((id) => id === 1260)).toHaveLength(5000)
  })

  it('may contain white space, also in a text that is worked on in slices', async () => {
    const tokenizer = await loadWith(({ added_tokens }) => {
      added_tokens.push({ ...token, id: 1260, content: 'one two three' })
    })
    const ids = await tokenizer.encodeAsync('one two three'.repeat(8000))
    expect(ids).toEqual(new Array(8000).fill(1260))
  })

  it('of tokenizer_config.json are added to those of tokenizer.json', async () => {
    const { tokenizerJson } = describedBy((description) => {
      description.added_tokens = description.added_tokens.slice(0, 3)
    })
    const without = await Tokenizer.load({ tokenizerJson: tokenizerJson! })
    expect(without.tokenToId('<|image_pad|>')).toBeUndefined()
    const tokenizer = await Tokenizer.load({ tokenizerJson: tokenizerJson!, tokenizerConfigJson })
    expect(tokenizer.encode('<|image_pad|>')).toEqual([1258])
  })
})

describe('damaged files', () => {
  it('says that there are none', async () => {
    expect((await failure({})).message).toMatch(/neither tokenizer.json nor both of vocab.json/)
    expect((await failure({ vocabJson })).message).toMatch(/neither/)
  })

  it.each<[string, TokenizerFiles, string]>([
    ['tokenizer.json', { tokenizerJson: '{"model":' }, 'tokenizer.json'],
    ['vocab.json', { vocabJson: '{"a":1', mergesTxt, tokenizerConfigJson }, 'vocab.json'],
    [
      'tokenizer_config.json',
      { vocabJson, mergesTxt, tokenizerConfigJson: '<html>' },
      'tokenizer_config.json',
    ],
  ])('names %s when it is not JSON', async (_, files, file) => {
    const error = await failure(files)
    expect(error.file).toBe(file)
    expect(error.message).toMatch(/is not valid JSON: it .* \(at character \d+ of \d+\)/)
  })

  it('refuses a file that is JSON but not an object', async () => {
    expect((await failure({ tokenizerJson: '[]' })).message).toMatch(/is not a JSON object/)
  })

  it.each<[string, RegExp, (description: TokenizerDescription) => void]>([
    [
      'without a model',
      /model is missing, not an object/,
      (d) => Reflect.deleteProperty(d, 'model'),
    ],
    [
      'without a vocabulary',
      /model.vocab is missing/,
      ({ model }) => delete (model as Record<string, unknown>)['vocab'],
    ],
    ['with an empty vocabulary', /vocabulary is empty/, ({ model }) => (model.vocab = {})],
    ['without merges', /no list model.merges/, ({ model }) => (model.merges = {} as never)],
    [
      'with an id that is not whole',
      /id of the token "!" is 0.5, which is not a whole number/,
      ({ model }) => (model.vocab['!'] = 0.5),
    ],
    [
      'with an id that is a string',
      /id of the token "!" is "0"/,
      ({ model }) => (model.vocab['!'] = '0' as never),
    ],
    ['with an absurd id', /is 4000000000/, ({ model }) => (model.vocab['!'] = 4e9)],
    ['with a negative id', /is -1/, ({ model }) => (model.vocab['!'] = -1)],
    ['with one id twice', /gives the id 1 to two tokens/, ({ model }) => (model.vocab['!'] = 1)],
    [
      'without the token of a byte',
      /no token for the byte 0/,
      ({ model }) => delete model.vocab['Ā'],
    ],
    [
      'with a merge of unknown tokens',
      /merge 0 joins "Ġ" and "unheard", but the vocabulary has no token "unheard"/,
      ({ model }) => (model.merges[0] = ['Ġ', 'unheard']),
    ],
    [
      'with a merge into an unknown token',
      /no token "!!!"/,
      ({ model }) => {
        delete model.vocab['!!!']
        model.merges[1] = ['!', '!!']
        model.vocab['!!'] ??= 1300
      },
    ],
    ['with a merge of one', /merge 0 is \["Ġ"\]/, ({ model }) => (model.merges[0] = ['Ġ'])],
    ['with a merge of a number', /merge 0 is 5/, ({ model }) => (model.merges[0] = 5)],
    ['with a merge without a space', /merge 0 is "Ġt"/, ({ model }) => (model.merges[0] = 'Ġt')],
    [
      'with an added token that has no text',
      /added_tokens\[0\] has no content/,
      (d) => (d.added_tokens[0]!['content'] = ''),
    ],
    [
      'with an added token that has no id',
      /id of the token "<\|endoftext\|>" is missing/,
      (d) => delete d.added_tokens[0]!['id'],
    ],
    [
      'with one added id twice',
      /gives the id 1246 to both "<\|endoftext\|>" and "<\|im_start\|>"/,
      (d) => (d.added_tokens[1]!['id'] = 1246),
    ],
    [
      'with one added token twice',
      /adds "<\|endoftext\|>" twice/,
      (d) => (d.added_tokens[1]!['content'] = '<|endoftext|>'),
    ],
    [
      'with an added token in the place of another',
      /gives the id 5 to both "&" and "<\|endoftext\|>"/,
      (d) => (d.added_tokens[0]!['id'] = 5),
    ],
  ])('refuses a tokenizer.json %s', async (_, message, change) => {
    const error = await failure(describedBy(change))
    expect(error.message).toMatch(message)
    expect(error.file).toBe('tokenizer.json')
  })

  it.each<[string, RegExp, (description: TokenizerDescription) => void]>([
    ['model', /model.type is "WordPiece"/, ({ model }) => (model['type'] = 'WordPiece')],
    ['normaliser', /normalizer is null/, (d) => (d['normalizer'] = null)],
    [
      'pre-tokeniser',
      /pre_tokenizer is {"type":"ByteLevel"/,
      (d) => (d['pre_tokenizer'] = { type: 'ByteLevel', use_regex: true }),
    ],
    ['decoder', /decoder is {"type":"Metaspace"}/, (d) => (d['decoder'] = { type: 'Metaspace' })],
    [
      'post-processor',
      /post_processor is {"type":"TemplateProcessing"/,
      (d) => (d['post_processor'] = { type: 'TemplateProcessing' }),
    ],
    ['dropout', /model.dropout is 0.1/, ({ model }) => (model['dropout'] = 0.1)],
    [
      'byte fallback',
      /model.byte_fallback is true/,
      ({ model }) => (model['byte_fallback'] = true),
    ],
    ['merge rule', /model.ignore_merges is true/, ({ model }) => (model['ignore_merges'] = true)],
  ])('refuses another %s than that of Qwen2', async (_, message, change) => {
    const error = await failure(describedBy(change))
    expect(error.message).toMatch(message)
    expect(error.message).toMatch(/Only tokenizers of the Qwen2 family can be used/)
  })

  it('refuses the pattern of another model', async () => {
    const error = await failure(
      describedBy((description) => {
        const text = JSON.stringify(description['pre_tokenizer']).replace(
          '\\\\p{N}|',
          '\\\\p{N}{1,3}|',
        )
        description['pre_tokenizer'] = JSON.parse(text) as unknown
      }),
    )
    expect(error.message).toContain('{1,3}')
  })

  it('refuses an added token that swallows the space beside it', async () => {
    const error = await failure(describedBy((d) => (d.added_tokens[0]!['lstrip'] = true)))
    expect(error.message).toMatch(/"<\|endoftext\|>" has lstrip/)
  })

  it('needs tokenizer_config.json beside vocab.json, for the special tokens', async () => {
    expect((await failure({ vocabJson, mergesTxt })).file).toBe('tokenizer_config.json')
    const empty = await failure({ vocabJson, mergesTxt, tokenizerConfigJson: '{}' })
    expect(empty.message).toMatch(/no added_tokens_decoder/)
  })

  it('refuses merges.txt with a line that is no merge', async () => {
    const error = await failure({
      vocabJson,
      mergesTxt: `${mergesTxt}nonsense\n`,
      tokenizerConfigJson,
    })
    expect(error.file).toBe('merges.txt')
    expect(error.message).toMatch(/merge 990 is "nonsense"/)
  })

  it('refuses two files that contradict each other', async () => {
    const config = tokenizerConfigJson.replace('"1246"', '"1300"')
    const error = await failure({
      tokenizerJson: tinyFile('tokenizer.json'),
      tokenizerConfigJson: config,
    })
    expect(error.message).toMatch(
      /gives "<\|endoftext\|>" the id 1300, but tokenizer.json gives it 1246/,
    )
  })

  it('refuses an id of added_tokens_decoder that is no number', async () => {
    const config = tokenizerConfigJson.replace('"1246"', '"first"')
    const error = await failure({ vocabJson, mergesTxt, tokenizerConfigJson: config })
    expect(error.message).toMatch(/id of the token "<\|endoftext\|>" is "first"/)
  })
})
