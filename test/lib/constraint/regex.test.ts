/** Regular expressions as grammars, with JavaScript's own as the judge. */
import { describe, expect, it } from 'vitest'
import { GrammarBuilder } from '../../../lib/constraint/expression.js'
import type { Grammar } from '../../../lib/constraint/grammar.js'
import { readResponseFormat } from '../../../lib/constraint/response-format.js'
import { SchemaError } from '../../../lib/errors.js'
import { matches, randomNumbers, sample } from './recognizer.js'

function grammarOf(pattern: string | RegExp): Grammar {
  const builder = new GrammarBuilder()
  return builder.build(readResponseFormat({ type: 'regex', pattern })!.expr(builder))
}

/** Texts near to what patterns are about. */
function randomText(random: () => number, alphabet: string): string {
  const characters = Array.from(alphabet)
  const length = Math.floor(random() * 7)
  return Array.from({ length }, () => characters[Math.floor(random() * characters.length)]).join('')
}

const cases: [string | RegExp, string][] = [
  ['a', 'ab'],
  ['', 'a'],
  ['ab|cd?', 'abcd'],
  ['(?:a|b)*c+', 'abc'],
  ['(a)(?<name>b)?', 'ab'],
  ['a{2}b{1,}c{0,2}', 'abc'],
  ['a*?b+?c??', 'abc'],
  ['^abc$', 'abc'],
  ['^a|b$', 'ab'],
  ['[^a]b', 'ab\n'],
  ['[a-c-]+', 'abc-d'],
  ['.x', 'x\n\r\u2028é😀'],
  ['\\d\\D', '09a٣'],
  ['\\w\\W', 'aZ_9-é'],
  ['\\s\\S', ' \t\n\u00a0\ufeffa'],
  ['[\\s\\d]+', ' \n5a'],
  ['[^\\w]+', 'a_-é'],
  ['\\t\\n\\x41\\u0042\\u{1F600}', '\t\nAB😀'],
  ['\\.\\*\\/\\-?', '.*/-'],
  ['[\\]\\\\^]+', ']\\^a'],
  ['\\p{Lu}\\p{Script=Greek}+', 'ABaαΩ1'],
  ['\\P{L}+', 'a1-é'],
  ['[\\p{N}_]+', '1٣_a'],
  ['[^\\p{L}]', 'aé1'],
  ['\\_\\a', '_a'],
  [/straße|ÄB/i, 'straßeSTRAẞEäÄbB'],
  [/[a-c]+x/i, 'abcABCxX'],
  [/a.b/s, 'ab\n'],
  [new RegExp('[\\p{L}--[a-z]]+', 'v'), 'aAéÉ1'],
  [new RegExp('[[a-z]&&[aeiou]]', 'v'), 'abe'],
  ['(?!ab)[abc]+', 'abc'],
  ['(?=.*b)(?=.*c)[abc]*', 'abc'],
  ['^(?!.*aa)[ab]*$', 'ab'],
  ['(?![^]*b$)[ab]*', 'ab'],
  ['(?:a{0,2}b){1,3}', 'ab'],
  ['(?:)*', 'a'],
  ['(?:a?)*b', 'ab'],
]

describe.each(cases)('%s', (pattern, alphabet) => {
  const grammar = grammarOf(pattern === '' ? '(?:)' : pattern)
  const { source, flags } = pattern instanceof RegExp ? pattern : { source: pattern, flags: '' }
  // A character is a whole one, as with the flag u, but where the expression would not be valid so.
  const isAsItIs = /v/.test(flags) || /\\[_-]/.test(source)
  const judge = new RegExp(`^(?:${source})$`, isAsItIs ? flags : `${flags}u`)

  it('matches what the expression matches as a whole', () => {
    const random = randomNumbers(5)
    for (let i = 0; i < 300; ++i) {
      const text = randomText(random, alphabet)
      expect(matches(grammar, text), JSON.stringify(text)).toBe(judge.test(text))
    }
  })

  it('gives only what the expression matches', () => {
    const random = randomNumbers(9)
    for (let i = 0; i < 40; ++i) {
      const text = sample(grammar, random)
      expect(judge.test(text), JSON.stringify(text)).toBe(true)
    }
  })
})

describe('an expression is refused', () => {
  it.each<[string | RegExp, RegExp]>([
    ['(a', /is not a regular expression: Unterminated group at character 3\./],
    ['[b-a]', /Range out of order/],
    [
      '(a)\\1',
      /has a backreference \(\\1 at character 4\), which cannot be guaranteed.*check the answer afterwards/,
    ],
    ['a(?=b)b', /has a lookahead that is not at the beginning \(\(\?=b\) at character 2\)/],
    ['(?<=a)b', /has a lookbehind/],
    ['\\bword', /has a word boundary \(\\b at character 1\)/],
    ['a(?:^b)', /has an anchor that is not at an end/],
    ['(?=a)a|b', /has a lookahead in one of several alternatives/],
    ['(?=(?=a)b)a', /has a lookahead inside of another/],
    [/^a$/m, /has the flag m/],
    ['\\ud800', /has half a character/],
    ['(?=(?:a|b)*a(?:a|b){18})(?:a|b)*', /too many states/],
  ])('%s', (pattern, message) => {
    expect(() => grammarOf(pattern)).toThrow(SchemaError)
    expect(() => grammarOf(pattern)).toThrow(message)
  })
})
