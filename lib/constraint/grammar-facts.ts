/** What can be said of a grammar before it is used. */
import type { Grammar, GrammarSymbol } from './grammar.js'

/** Whether the start can match any text at all. */
export function isSatisfiable({ rules }: Grammar): boolean {
  const productive = new Set<number>()
  const isMatched = (symbol: GrammarSymbol) => {
    if ('text' in symbol) return true
    if ('chars' in symbol) return symbol.chars.length > 0
    return productive.has(symbol.rule) || ('min' in symbol && symbol.min === 0)
  }
  // Back and forth, because most rules depend on rules to one side.
  const order = [...rules.keys()]
  for (let before = -1; before < productive.size;) {
    before = productive.size
    for (const index of order.reverse()) {
      if (!productive.has(index) && rules[index]?.some((sequence) => sequence.every(isMatched))) {
        productive.add(index)
      }
    }
  }
  return productive.has(0)
}

/** Rules that begin with each other, in a circle: what they are can never be read. */
export function leftRecursion({ rules }: Grammar): number[] | undefined {
  const nullable = new Set<number>()
  const isEmpty = (symbol: GrammarSymbol) => {
    if ('text' in symbol) return symbol.text === ''
    if ('chars' in symbol) return false
    return nullable.has(symbol.rule) || ('min' in symbol && symbol.min === 0)
  }
  for (let before = -1; before < nullable.size;) {
    before = nullable.size
    rules.forEach((rule, index) => {
      if (rule.some((sequence) => sequence.every(isEmpty))) nullable.add(index)
    })
  }
  const calls = rules.map((rule) =>
    rule.flatMap((sequence) => {
      const end = sequence.findIndex((symbol) => !isEmpty(symbol))
      const first = sequence.slice(0, end < 0 ? sequence.length : end + 1)
      return first.flatMap((symbol) => ('rule' in symbol ? [symbol.rule] : []))
    }),
  )
  return circle(calls)
}

/** A circle of calls, found without recursion: chains of rules can be long. */
function circle(calls: readonly (readonly number[])[]): number[] | undefined {
  const done = new Set<number>()
  for (const start of calls.keys()) {
    const path: { rule: number; next: number }[] = [{ rule: start, next: 0 }]
    for (let here = path.at(-1); here; here = path.at(-1)) {
      const callee = done.has(here.rule) ? undefined : calls[here.rule]?.[here.next++]
      if (callee === undefined) {
        done.add(here.rule)
        path.pop()
        continue
      }
      const begin = path.findIndex(({ rule }) => rule === callee)
      if (begin >= 0) return path.slice(begin).map(({ rule }) => rule)
      path.push({ rule: callee, next: 0 })
    }
  }
  return undefined
}
