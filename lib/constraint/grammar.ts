/** A context-free grammar over Unicode text, as the native constraint engine takes it. */

/** Rule 0 is the start. */
export interface Grammar {
  rules: GrammarRule[]
  /**
   * When given, the text is free until it contains one of these; the grammar says what follows. The
   * text may also end before.
   */
  triggers?: string[]
  /** Whether free text, and further triggers, may follow what the grammar has matched. */
  repeat?: boolean
}

/** Alternatives. */
export type GrammarRule = GrammarSequence[]

/** One after the other; empty = the empty string. */
export type GrammarSequence = GrammarSymbol[]

export type GrammarSymbol =
  /** One code point out of inclusive ranges. Surrogates match nothing. */
  | { chars: [first: number, last: number][] }
  | { text: string }
  | { rule: number }
  /** `null` = any number of times. */
  | { rule: number; min: number; max: number | null }

/** Kinds of symbols in a packed grammar; native/addon/grammar_wrap.cpp has the same. */
const chars = 0
const text = 1
const rule = 2

/**
 * A grammar as numbers, which cross to native code at once and can be read on any thread there. Counts
 * stand before what they count; texts are UTF-8, a number each byte; `max: null` is -1.
 */
export function packGrammar(grammar: Grammar): Int32Array {
  const packed: number[] = []
  const putText = (value: string) => {
    const bytes = Buffer.from(value, 'utf8')
    packed.push(bytes.length)
    for (const byte of bytes) packed.push(byte)
  }
  const putSymbol = (symbol: GrammarSymbol) => {
    if ('chars' in symbol) {
      packed.push(chars, symbol.chars.length)
      for (const [first, last] of symbol.chars) packed.push(first, last)
    } else if ('text' in symbol) {
      packed.push(text)
      putText(symbol.text)
    } else {
      const { min, max } = 'min' in symbol ? symbol : { min: 1, max: 1 }
      packed.push(rule, symbol.rule, min, max ?? -1)
    }
  }
  packed.push(grammar.rules.length)
  for (const alternatives of grammar.rules) {
    packed.push(alternatives.length)
    for (const sequence of alternatives) {
      packed.push(sequence.length)
      sequence.forEach(putSymbol)
    }
  }
  packed.push(grammar.triggers?.length ?? 0)
  grammar.triggers?.forEach(putText)
  packed.push(grammar.repeat ? 1 : 0)
  return Int32Array.from(packed)
}
