/**
 * Grammars as text, in GBNF, the notation of llama.cpp:
 *
 *     root  ::= "yes" | "no" reason?    # a comment
 *     reason ::= ", " [a-z ]+ ("." | "!"){1,3}
 *
 * Literals are in double quotes, with `\n`, `\t`, `\r`, `\"`, `\\`, `\xHH`, `\uHHHH`, `\UHHHHHHHH`; classes in
 * brackets, with ranges and `^`; `.` is any character; `*`, `+`, `?`, `{n}`, `{n,}`, `{n,m}` repeat what
 * stands before them. The answer is a `root`.
 */
import { SchemaError } from '../errors.js'
import { nearestName } from '../suggest.js'
import { anyChar, complement, union, type CharRange } from './characters.js'
import { alt, chars, repeat, seq, text, type Expr, type GrammarBuilder } from './expression.js'
import type { Grammar } from './grammar.js'
import { isSatisfiable, leftRecursion } from './grammar-facts.js'

/**
 * Reads a grammar. It becomes a part of the one that is being built.
 *
 * @throws SchemaError with line and column of what is wrong.
 */
export function gbnfExpr(source: string, builder: GrammarBuilder): Expr {
  return new GbnfParser(source, builder).read()
}

type RuleExpr = Extract<Expr, { kind: 'rule' }>

interface NamedRule {
  rule: RuleExpr
  /** Where it was first spoken of. */
  index: number
  isDefined: boolean
}

class GbnfParser {
  readonly #source: string
  readonly #builder: GrammarBuilder
  readonly #rules = new Map<string, NamedRule>()
  #index = 0

  constructor(source: string, builder: GrammarBuilder) {
    this.#source = source
    this.#builder = builder
  }

  read(): Expr {
    this.#skipSpace()
    while (this.#index < this.#source.length) this.#readRule()
    for (const [name, { isDefined, index }] of this.#rules) {
      if (isDefined) continue
      const names = [...this.#rules].flatMap(([other, rule]) => (rule.isDefined ? [other] : []))
      const suggestion = nearestName(name, names)
      const hint = suggestion === undefined ? 'Define it.' : `Did you mean '${suggestion}'?`
      throw this.#error(`the rule '${name}' is not defined. ${hint}`, index)
    }
    const root = this.#rules.get('root')
    if (!root)
      throw this.#error("there is no rule 'root', with which the answer begins. Add one.", 0)
    this.#check(this.#builder.build(root.rule))
    return root.rule
  }

  #check(grammar: Grammar): void {
    const cycle = leftRecursion(grammar)
    const named = [...this.#rules].find(([, { rule }]) => cycle?.includes(rule.rule))
    if (named) {
      const [name, { index }] = named
      throw this.#error(
        `the rule '${name}' begins with itself (left recursion). Write it as a repetition: ` +
          'a ::= b ("," b)* instead of a ::= a "," b | b.',
        index,
      )
    }
    if (isSatisfiable(grammar)) return
    throw this.#error(
      "no text ever ends 'root': each way through it comes back to it. Add an end.",
      0,
    )
  }

  #readRule(): void {
    const begin = this.#index
    const name = this.#take(namePattern)
    if (name === undefined) throw this.#unexpected('the name of a rule')
    this.#skipSpace()
    if (this.#take(/::=/y) === undefined) throw this.#unexpected(`'::=' behind '${name}'`)
    this.#skipSpace()
    const named = this.#named(name, begin)
    if (named.isDefined)
      throw this.#error(`the rule '${name}' is defined twice. Join them with '|'.`, begin)
    named.isDefined = true
    named.index = begin
    this.#builder.define(named.rule, this.#alternatives())
    if (this.#index < this.#source.length && !this.#isRuleNext()) {
      throw this.#unexpected('a rule, or more of the one before')
    }
  }

  #named(name: string, index: number): NamedRule {
    const known = this.#rules.get(name)
    if (known) return known
    const named = { rule: this.#builder.newRule(), index, isDefined: false }
    this.#rules.set(name, named)
    return named
  }

  #alternatives(): Expr {
    const options = [this.#sequence()]
    while (this.#take(/\|/y) !== undefined) {
      this.#skipSpace()
      options.push(this.#sequence())
    }
    return alt(...options)
  }

  #sequence(): Expr {
    const parts: Expr[] = []
    while (!this.#isRuleNext()) {
      const item = this.#item()
      if (!item) break
      parts.push(this.#repeated(item))
      this.#skipSpace()
    }
    return seq(...parts)
  }

  #isRuleNext(): boolean {
    ruleBegin.lastIndex = this.#index
    return ruleBegin.test(this.#source)
  }

  #item(): Expr | undefined {
    const begin = this.#index
    if (this.#take(/"/y) !== undefined) return text(this.#literal())
    if (this.#take(/\[/y) !== undefined) return this.#class(begin)
    if (this.#take(/\./y) !== undefined) return chars(anyChar)
    if (this.#take(/\(/y) !== undefined) {
      this.#skipSpace()
      const inner = this.#alternatives()
      if (this.#take(/\)/y) === undefined) throw this.#unexpected("')'")
      return inner
    }
    const name = this.#take(namePattern)
    return name === undefined ? undefined : this.#named(name, begin).rule
  }

  #repeated(item: Expr): Expr {
    this.#take(/[ \t]+/y)
    const begin = this.#index
    const sign = this.#take(/[*+?]/y)
    if (sign === '*') return this.#repeated(repeat(item, 0, null))
    if (sign === '+') return this.#repeated(repeat(item, 1, null))
    if (sign === '?') return this.#repeated(repeat(item, 0, 1))
    const counts = this.#take(/\{\s*\d{1,9}\s*(?:,\s*(?:\d{1,9}\s*)?)?\}/y)
    if (counts === undefined) return item
    const [min = '0', max] = counts.slice(1, -1).split(',')
    const most = max === undefined ? Number(min) : max.trim() === '' ? null : Number(max)
    if (most !== null && most < Number(min)) {
      throw this.#error(`${counts} counts backwards. Write {${most},${Number(min)}}.`, begin)
    }
    return this.#repeated(repeat(item, Number(min), most))
  }

  #literal(): string {
    const begin = this.#index - 1
    let value = ''
    for (;;) {
      const plain = this.#take(/[^"\\\n]+/y)
      if (plain !== undefined) value += plain
      else if (this.#take(/"/y) !== undefined) return value
      else if (this.#source[this.#index] === '\\') value += this.#escape()
      else throw this.#error('the text that begins here has no closing quote.', begin)
    }
  }

  #class(begin: number): Expr {
    const isNegated = this.#take(/\^/y) !== undefined
    const ranges: CharRange[] = []
    while (this.#take(/\]/y) === undefined) {
      const first = this.#classChar(begin)
      const at = this.#index
      const last = this.#take(/-(?!\])/y) === undefined ? first : this.#classChar(begin)
      if (last < first) throw this.#error('the range ends before it begins. Swap its ends.', at)
      ranges.push([first, last])
    }
    const set = union(ranges)
    return chars(isNegated ? complement(set) : set)
  }

  #classChar(begin: number): number {
    const character =
      this.#source[this.#index] === '\\' ? this.#escape() : this.#take(/[^\]\\\n]/uy)
    const codePoint = character?.codePointAt(0)
    if (codePoint !== undefined) return codePoint
    throw this.#error("the class that begins here has no closing ']'.", begin)
  }

  #escape(): string {
    const begin = this.#index
    const found = this.#take(/\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[^xuU])/uy)
    const kind = found?.[1] ?? ''
    if (found !== undefined && Object.hasOwn(escapes, kind)) return escapes[kind] ?? ''
    const codePoint = found === undefined ? NaN : parseInt(found.slice(2), 16)
    const isCharacter = codePoint <= 0x10ffff && (codePoint < 0xd800 || codePoint > 0xdfff)
    if (/[xuU]/.test(kind) && isCharacter) return String.fromCodePoint(codePoint)
    throw this.#error(
      `${found ?? this.#source.slice(begin, begin + 2)} is no escape of a character. Known are ` +
        '\\n, \\t, \\r, \\", \\\\, \\[, \\], \\-, \\^, \\xHH, \\uHHHH and \\UHHHHHHHH.',
      begin,
    )
  }

  #skipSpace(): void {
    this.#take(/(?:\s+|#[^\n]*)+/y)
  }

  /** The text that matches here, which is then behind us. */
  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#index
    const found = pattern.exec(this.#source)?.[0]
    if (found !== undefined) this.#index = pattern.lastIndex
    return found
  }

  #unexpected(expected: string): SchemaError {
    const found = this.#source[this.#index]
    const what = found === undefined ? 'the grammar ends' : `there is ${JSON.stringify(found)}`
    return this.#error(`${what} where ${expected} was expected.`, this.#index)
  }

  #error(message: string, index: number): SchemaError {
    const before = this.#source.slice(0, index).split('\n')
    const line = before.length
    const column = (before.at(-1)?.length ?? 0) + 1
    return new SchemaError(`The grammar, line ${line}, column ${column}: ${message}`, {
      details: { schemaPath: `line ${line}, column ${column}`, line, column },
    })
  }
}

const namePattern = /[A-Za-z_][\w-]*/y
const ruleBegin = /[A-Za-z_][\w-]*(?:\s|#[^\n]*\n)*::=/y

const escapes: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  ...Object.fromEntries(['"', "'", '\\', '[', ']', '-', '^', '/'].map((one) => [one, one])),
}
