/** Expressions that grammars are made of, and how they become rules. */
import { onlyChar, type CharRange, type CharSet } from './characters.js'
import type { Grammar, GrammarRule, GrammarSequence } from './grammar.js'

/** What a part of a grammar matches. An `alt` of nothing matches nothing, not even the empty text. */
export type Expr =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'chars'; readonly set: CharSet }
  | { readonly kind: 'seq'; readonly parts: readonly Expr[] }
  | { readonly kind: 'alt'; readonly options: readonly Expr[] }
  | {
      readonly kind: 'repeat'
      readonly item: Expr
      readonly min: number
      readonly max: number | null
    }
  | { readonly kind: 'rule'; readonly rule: number }

export const empty: Expr = { kind: 'text', text: '' }
export const never: Expr = { kind: 'alt', options: [] }

export function text(value: string): Expr {
  return value === '' ? empty : { kind: 'text', text: value }
}

export function chars(set: CharSet): Expr {
  const only = onlyChar(set)
  if (only !== undefined) return text(only)
  return set.length === 0 ? never : { kind: 'chars', set }
}

/** Texts beside each other become one; a part that matches nothing leaves nothing. */
export function seq(...parts: readonly Expr[]): Expr {
  const flat: Expr[] = []
  for (const part of parts.flatMap((one) => (one.kind === 'seq' ? one.parts : [one]))) {
    if (isNever(part)) return never
    const last = flat.at(-1)
    if (part.kind === 'text' && last?.kind === 'text') {
      flat[flat.length - 1] = text(last.text + part.text)
    } else if (part !== empty) flat.push(part)
  }
  const [only] = flat
  if (only === undefined) return empty
  return flat.length === 1 ? only : { kind: 'seq', parts: flat }
}

export function alt(...options: readonly Expr[]): Expr {
  const flat = options.flatMap((one) => (one.kind === 'alt' ? one.options : [one]))
  const [only] = flat
  return flat.length === 1 && only ? only : { kind: 'alt', options: flat }
}

export function repeat(item: Expr, min: number, max: number | null): Expr {
  if (max !== null && min > max) return never
  if (max === 0 || item === empty) return empty
  if (isNever(item)) return min === 0 ? empty : never
  return min === 1 && max === 1 ? item : { kind: 'repeat', item, min, max }
}

export function optional(item: Expr): Expr {
  return repeat(item, 0, 1)
}

/** Whether it can be seen to match nothing. A rule may turn out so later: see grammar-facts.ts. */
export function isNever(expr: Expr): boolean {
  return expr.kind === 'alt' && expr.options.length === 0
}

/** Collects rules, and lowers expressions to them. An expression that is used twice becomes one rule. */
export class GrammarBuilder {
  /** Rule 0 is kept for the start. */
  readonly #rules: GrammarRule[] = [[]]
  readonly #ruleOf = new WeakMap<Expr, number>()

  /** A rule to be defined later, so that it can stand in its own definition. */
  newRule(): Extract<Expr, { kind: 'rule' }> {
    return { kind: 'rule', rule: this.#rules.push([]) - 1 }
  }

  define({ rule }: Extract<Expr, { kind: 'rule' }>, expr: Expr): void {
    this.#rules[rule] = this.#alternatives(expr)
  }

  build(start: Expr): Grammar {
    this.#rules[0] = this.#alternatives(start)
    return { rules: this.#rules }
  }

  #alternatives(expr: Expr): GrammarRule {
    const options = expr.kind === 'alt' ? expr.options : [expr]
    return options.map((option) => this.#sequence(option))
  }

  #sequence(expr: Expr): GrammarSequence {
    switch (expr.kind) {
      case 'text':
        return expr === empty ? [] : [{ text: expr.text }]
      case 'chars':
        return [{ chars: expr.set.map(([first, last]): CharRange => [first, last]) }]
      case 'seq':
        return expr.parts.flatMap((part) => this.#sequence(part))
      case 'rule':
        return [{ rule: expr.rule }]
      case 'alt':
        return [{ rule: this.#ruleFor(expr) }]
      case 'repeat':
        return [{ rule: this.#ruleFor(expr.item), min: expr.min, max: expr.max }]
    }
  }

  #ruleFor(expr: Expr): number {
    if (expr.kind === 'rule') return expr.rule
    const known = this.#ruleOf.get(expr)
    if (known !== undefined) return known
    const rule = this.newRule()
    this.#ruleOf.set(expr, rule.rule)
    this.define(rule, expr)
    return rule.rule
  }
}
