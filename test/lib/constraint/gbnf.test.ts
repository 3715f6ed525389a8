/** Grammars as text. */
import { describe, expect, it } from 'vitest'
import { GrammarBuilder } from '../../../lib/constraint/expression.js'
import { gbnfExpr } from '../../../lib/constraint/gbnf.js'
import { SchemaError } from '../../../lib/errors.js'
import { matches, randomNumbers, sample } from './recognizer.js'

function grammarOf(source: string) {
  const builder = new GrammarBuilder()
  return builder.build(gbnfExpr(source, builder))
}

const accepted = (source: string, ...texts: string[]) => {
  const grammar = grammarOf(source)
  return texts.filter((text) => matches(grammar, text))
}

describe('a grammar', () => {
  it('has literals, alternatives and other rules', () => {
    const source = 'root ::= "a" word | "b"\nword ::= "x" | "y" "z"'
    expect(accepted(source, 'ax', 'ayz', 'b', 'a', 'ay', 'bx')).toEqual(['ax', 'ayz', 'b'])
  })

  it('may go on in the next line, and have comments', () => {
    const source =
      '# first\nroot ::= # second\n  "a" |\n  "b"\n  other # "third"\n\nother ::= "c"\n'
    expect(accepted(source, 'a', 'bc', 'b')).toEqual(['a', 'bc'])
  })

  it('repeats what stands before a sign', () => {
    expect(accepted('root ::= "a"* "b"+ "c"?', 'b', 'aabbc', 'ac', 'bcc')).toEqual(['b', 'aabbc'])
    expect(
      accepted('root ::= ("ab"){2} "c"{1,} "d"{0,1}', 'ababc', 'ababccd', 'abc', 'ababcdd'),
    ).toEqual(['ababc', 'ababccd'])
  })

  it('has classes, their complements, and any character', () => {
    expect(accepted('root ::= [a-c_\\]] [^0-9\\n] .', 'a_x', ']a😀', 'd__', 'a1x', 'a_')).toEqual([
      'a_x',
      ']a😀',
    ])
    expect(accepted('root ::= [-a] [b-]', '-b', 'a-', 'b-')).toEqual(['-b', 'a-'])
  })

  it('has escapes', () => {
    const source = String.raw`root ::= "\n\t\r\"\\\x41\u00e9\U0001F600" [\x30-\x39]`
    expect(accepted(source, '\n\t\r"\\Aé😀7')).toHaveLength(1)
  })

  it('may refer to itself, and have nothing in a place', () => {
    const source = 'root ::= "(" root ")" | ""'
    expect(accepted(source, '', '()', '((()))', '(()', ')')).toEqual(['', '()', '((()))'])
  })

  it('gives texts that it matches', () => {
    const source = `
      root   ::= object
      object ::= "{" ws (pair ("," ws pair)*)? "}"
      pair   ::= string ":" ws value
      value  ::= object | string | "true" | [0-9]+
      string ::= "\\"" [^"\\\\\\x00-\\x1F]* "\\""
      ws     ::= [ \\n]?`
    const grammar = grammarOf(source)
    const random = randomNumbers(4)
    for (let i = 0; i < 50; ++i) {
      const text = sample(grammar, random)
      expect(matches(grammar, text)).toBe(true)
    }
  })
})

describe('a grammar is refused', () => {
  it.each<[string, number, number, RegExp]>([
    ['', 1, 1, /there is no rule 'root', with which the answer begins/],
    ['start ::= "a"', 1, 1, /there is no rule 'root'/],
    ['root = "a"', 1, 6, /there is "=" where '::=' behind 'root' was expected/],
    ['root ::= "a', 1, 10, /the text that begins here has no closing quote/],
    ['root ::= [a', 1, 10, /the class that begins here has no closing '\]'/],
    ['root ::= ("a"', 1, 14, /the grammar ends where '\)' was expected/],
    ['root ::= "a" )', 1, 14, /there is "\)" where a rule, or more/],
    [
      'root ::= "a"\n  wrod\nword ::= "b"',
      2,
      3,
      /the rule 'wrod' is not defined\. Did you mean 'word'\?/,
    ],
    ['root ::= "a"\nroot ::= "b"', 2, 1, /defined twice\. Join them with '\|'/],
    ['root ::= "a\\q"', 1, 12, /\\q is no escape of a character/],
    ['root ::= "\\ud800"', 1, 11, /\\ud800 is no escape/],
    ['root ::= [z-a]', 1, 12, /the range ends before it begins/],
    ['root ::= "a"{3,2}', 1, 13, /\{3,2\} counts backwards\. Write \{2,3\}/],
    [
      'root ::= list\nlist ::= list "," "a" | "a"',
      2,
      1,
      /the rule 'list' begins with itself \(left recursion\)/,
    ],
    ['root ::= a\na ::= "x"? b\nb ::= a "y"', 2, 1, /'a' begins with itself/],
    ['root ::= "a" root', 1, 1, /no text ever ends 'root'/],
  ])('%s', (source, line, column, message) => {
    expect(() => grammarOf(source)).toThrow(SchemaError)
    expect(() => grammarOf(source)).toThrow(message)
    expect(() => grammarOf(source)).toThrow(
      expect.objectContaining({
        details: { line, column, schemaPath: `line ${line}, column ${column}` },
      }) as Error,
    )
  })
})
