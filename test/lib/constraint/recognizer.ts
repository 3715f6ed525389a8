/** What a grammar matches, worked out in the plainest way, and texts that it may give. */
import type { Grammar, GrammarRule, GrammarSymbol } from '../../../lib/constraint/grammar.js'

/** Whether the grammar matches the whole text. */
export function matches({ rules }: Grammar, text: string): boolean {
  const codePoints = Array.from(text, (character) => character.codePointAt(0)!)
  const known = new Map<string, Set<number>>()

  const endsOfRule = (rule: number, begin: number): Set<number> => {
    const key = `${rule} ${begin}`
    const ends = known.get(key) ?? new Set<number>()
    if (known.has(key)) return ends
    known.set(key, ends)
    for (const sequence of rules[rule]!) {
      let positions = new Set([begin])
      for (const symbol of sequence) positions = after(symbol, positions)
      for (const position of positions) ends.add(position)
    }
    return ends
  }
  const after = (symbol: GrammarSymbol, positions: Set<number>): Set<number> => {
    if ('min' in symbol) return repeated(symbol, positions)
    const step = (begin: number): Iterable<number> => {
      if ('rule' in symbol) return endsOfRule(symbol.rule, begin)
      if ('text' in symbol) {
        const wanted = Array.from(symbol.text, (character) => character.codePointAt(0)!)
        return wanted.every((code, i) => codePoints[begin + i] === code)
          ? [begin + wanted.length]
          : []
      }
      const code = codePoints[begin]
      const isIn = code !== undefined && symbol.chars.some(([a, b]) => code >= a && code <= b)
      return isIn ? [begin + 1] : []
    }
    return new Set([...positions].flatMap((begin) => [...step(begin)]))
  }
  const repeated = (
    { rule, min, max }: { rule: number; min: number; max: number | null },
    positions: Set<number>,
  ): Set<number> => {
    const result = new Set<number>()
    let current = positions
    for (let count = 0; count <= (max ?? Infinity) && current.size > 0; ++count) {
      if (count >= min) {
        const isOld = [...current].every((position) => result.has(position))
        if (isOld) break
        for (const position of current) result.add(position)
      }
      current = new Set([...current].flatMap((begin) => [...endsOfRule(rule, begin)]))
    }
    return result
  }
  return endsOfRule(0, 0).has(codePoints.length)
}

/** Numbers from 0 to 1, the same ones each time. */
export function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** Beyond this depth, the shortest way to an end is taken. */
const MAX_DEPTH = 24

/** A text that the grammar matches. */
export function sample({ rules }: Grammar, random: () => number): string {
  const costs = costsOf(rules)
  const costOf = (symbol: GrammarSymbol) =>
    'rule' in symbol && !('min' in symbol && symbol.min === 0) ? costs[symbol.rule]! : 0
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!

  const ofRule = (rule: number, depth: number): string => {
    const open = rules[rule]!.filter((sequence) => sequence.every((one) => costOf(one) < Infinity))
    if (open.length === 0) throw new Error(`rule ${rule} matches nothing`)
    const cost = (sequence: GrammarSymbol[]) => Math.max(0, ...sequence.map(costOf))
    const least = Math.min(...open.map(cost))
    const sequence = pick(depth < MAX_DEPTH ? open : open.filter((one) => cost(one) === least))
    return sequence.map((symbol) => ofSymbol(symbol, depth)).join('')
  }
  const ofSymbol = (symbol: GrammarSymbol, depth: number): string => {
    if ('text' in symbol) return symbol.text
    if ('chars' in symbol) {
      const [first, last] = pick(symbol.chars)
      return String.fromCodePoint(first + Math.floor(random() * (last - first + 1)))
    }
    if (!('min' in symbol)) return ofRule(symbol.rule, depth + 1)
    const { rule, min, max } = symbol
    const most =
      costs[rule] === Infinity || depth >= MAX_DEPTH ? min : Math.min(max ?? min + 4, min + 4)
    const count = min + Math.floor(random() * (most - min + 1))
    return Array.from({ length: count }, () => ofRule(rule, depth + 1)).join('')
  }
  return ofRule(0, 0)
}

/** How deep the shallowest match of each rule is. */
function costsOf(rules: readonly GrammarRule[]): number[] {
  const costs = rules.map(() => Infinity)
  const costOf = (symbol: GrammarSymbol) =>
    'rule' in symbol && !('min' in symbol && symbol.min === 0) ? costs[symbol.rule]! : 0
  for (let changed = true; changed;) {
    changed = false
    rules.forEach((rule, index) => {
      const cost = 1 + Math.min(...rule.map((sequence) => Math.max(0, ...sequence.map(costOf))))
      if (cost < costs[index]!) {
        costs[index] = cost
        changed = true
      }
    })
  }
  return costs
}
