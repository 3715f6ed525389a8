import { describe, expect, it } from 'vitest'
import { type Json, readJson } from '../../../lib/tokenizer/json.js'
import { runAtOnce } from '../../../lib/tokenizer/time-slice.js'
import { tinyFile } from './tiny-checkpoint.js'

/** The value as JSON.parse would give it. */
function read(text: string): unknown {
  const plain = (value: Json): unknown => {
    if (value instanceof Map) {
      return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]))
    }
    return Array.isArray(value) ? value.map(plain) : value
  }
  return plain(runAtOnce(readJson(text)))
}

describe('readJson', () => {
  it.each([
    '{}',
    '[]',
    ' [ 1 , 2.5e-3 , -0 , true , false , null , "" ] \n',
    '{"a":{"b":[{"c":[]}]},"d":"e"}',
    '"\\u0120\\n\\"\\\\ \\ud83d\\ude00 Ġ😀"',
    '{"a":1,"a":2}',
    '{"\\"":"\\"","long enough to be a slice of the text":1}',
  ])('reads %s as JSON.parse does', (text) => {
    expect(read(text)).toEqual(JSON.parse(text))
  })

  it('reads the files of a tokenizer as JSON.parse does', () => {
    for (const name of ['tokenizer.json', 'vocab.json', 'tokenizer_config.json']) {
      expect(read(tinyFile(name))).toEqual(JSON.parse(tinyFile(name)))
    }
  })

  it('takes every key for a key', () => {
    const object = runAtOnce(readJson('{"__proto__":1,"constructor":2}'))
    expect(object).toEqual(
      new Map([
        ['__proto__', 1],
        ['constructor', 2],
      ]),
    )
  })

  it('hands the entries of what is visited over instead of keeping them', () => {
    const seen: unknown[] = []
    const visit = (key: string | number, value: Json) => seen.push([key, value])
    const text =
      '{"model":{"vocab":{"a":1,"model.vocab":{"a":2}},"merges":[["a","b"],"c d"]},"b":[3]}'
    const rest = runAtOnce(readJson(text, { 'model.vocab': visit, 'model.merges': visit }))
    expect(seen).toEqual([
      ['a', 1],
      ['model.vocab', new Map([['a', 2]])],
      [0, ['a', 'b']],
      [1, 'c d'],
    ])
    expect(rest).toEqual(
      new Map<string, unknown>([
        [
          'model',
          new Map<string, unknown>([
            ['vocab', new Map()],
            ['merges', []],
          ]),
        ],
        ['b', [3]],
      ]),
    )
    seen.length = 0
    runAtOnce(readJson('{"x":{"y":1}}', { '': visit }))
    expect(seen).toEqual([['x', new Map([['y', 1]])]])
  })

  it('skips a byte order mark', () => {
    expect(read('\ufeff[1]')).toEqual([1])
  })

  it.each([
    ['', /ends too early/],
    ['{"a":', /ends too early/],
    ['{"a":1', /lacks a comma or a closing brace/],
    ['[1', /lacks a comma or a closing bracket/],
    ['[1,]', /no value/],
    ['{"a" 1}', /lacks a colon/],
    ['{a:1}', /no key/],
    ['"abc', /string that does not end/],
    ['"a\nb"', /string that does not end/],
    ['"\\x"', /string that is not valid/],
    ['01', /goes on after its end/],
    ['[1] 2', /goes on after its end/],
    ['NaN', /no value/],
    ['['.repeat(100_000), /nested more than 64 deep/],
  ])('refuses %.20s', (text, message) => {
    expect(() => read(text)).toThrow(message)
  })
})
