/** Texts that follow regular expressions, as grammars: plain, or inside a JSON string. */
import { statesOf, type TextRules } from './automaton.js'
import { anyChar, charsOf, intersect, subtract, union, type CharSet } from './characters.js'
import {
  alt,
  chars,
  empty,
  never,
  repeat,
  seq,
  text,
  type Expr,
  type GrammarBuilder,
} from './expression.js'
import { lengthOf, type Regular } from './regex.js'

/** How a character of a set is written. */
export type WriteChar = (set: CharSet) => Expr

/** As it is. */
export const plainChar: WriteChar = chars

/**
 * Texts that follow the rules; undefined where the rules are too many to be followed at once.
 */
export function textExpr(
  rules: TextRules,
  write: WriteChar,
  builder: GrammarBuilder,
): Expr | undefined {
  const { required, forbidden, minLength, maxLength } = rules
  if (forbidden.length === 0 && required.length <= 1) {
    const [only] = required
    const max = maxLength === Infinity ? null : maxLength
    if (!only) return repeat(write(anyChar), minLength, max)
    const length = lengthOf(only)
    if (length.min >= minLength && length.max <= maxLength) return regularExpr(only, write)
  }
  const states = statesOf(rules)
  if (!states) return undefined
  if (states.length === 0) return never
  const stateRules = states.map(() => builder.newRule())
  states.forEach(({ accepts, edges }, index) => {
    const options = edges.map(({ set, to }) => seq(write(set), stateRules[to] ?? never))
    const rule = stateRules[index]
    if (rule) builder.define(rule, alt(...options, ...(accepts ? [empty] : [])))
  })
  return stateRules[0]
}

export function regularExpr(regular: Regular, write: WriteChar): Expr {
  switch (regular.kind) {
    case 'chars':
      return write(regular.set)
    case 'seq':
      return seq(...regular.parts.map((part) => regularExpr(part, write)))
    case 'alt':
      return alt(...regular.options.map((option) => regularExpr(option, write)))
    case 'repeat':
      return repeat(regularExpr(regular.item, write), regular.min, regular.max)
  }
}

/** As `JSON.stringify` writes it: one way for each character. One writer for all strings of a grammar. */
export function jsonCharWriter(): WriteChar {
  const known = new Map<string, Expr>()
  return (set) => {
    const key = set.join()
    const written = known.get(key) ?? jsonChar(set)
    known.set(key, written)
    return written
  }
}

const controls: CharSet = [[0, 0x1f]]
const escaped = union(controls, charsOf('"\\'))

function jsonChar(set: CharSet): Expr {
  const plain = chars(subtract(set, escaped))
  const escapes: Expr[] = []
  for (const [first, last] of intersect(set, escaped)) {
    for (let code = first; code <= last; ++code) {
      escapes.push(text(JSON.stringify(String.fromCharCode(code)).slice(1, -1)))
    }
  }
  return alt(plain, ...escapes)
}
