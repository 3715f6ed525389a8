/**
 * JSON Schema to a grammar whose texts are JSON that fits it: properties in the order of the schema, no white
 * space but at most one space behind ':' and ','.
 */
import { formatNames, formatPattern } from './formats.js'
import {
  alt,
  empty,
  GrammarBuilder,
  isNever,
  never,
  optional,
  repeat,
  seq,
  text,
  type Expr,
} from './expression.js'
import type { Grammar } from './grammar.js'
import { isSatisfiable } from './grammar-facts.js'
import { integerExpr, numberExpr } from './numbers.js'
import { literal, parsePattern, type Regular } from './regex.js'
import { below, schemaError } from './schema-error.js'
import {
  merge,
  SchemaReader,
  type Conjunction,
  type Facts,
  type JsonType,
  type StringRule,
} from './schema-facts.js'
import type { JsonSchema } from './schema-source.js'
import { accepts, areDisjoint, typesOf } from './schema-values.js'
import { jsonCharWriter, textExpr } from './text-grammar.js'

/**
 * The grammar of the JSON texts that fit a schema.
 *
 * @throws SchemaError for what cannot be guaranteed, and for a schema that nothing fits.
 */
export function schemaGrammar(schema: JsonSchema): Grammar {
  const builder = new GrammarBuilder()
  return builder.build(schemaExpr(schema, builder))
}

/**
 * The same as a part of a grammar that is being built.
 *
 * @throws SchemaError
 */
export function schemaExpr(schema: JsonSchema, builder: GrammarBuilder): Expr {
  const compiler = new SchemaCompiler(schema, builder)
  const expr = compiler.conjunction([{ schema, path: '#' }])
  if (isNever(expr)) throw compiler.unsatisfiable()
  if (isSatisfiable(builder.build(expr))) return expr
  throw schemaError(
    '#',
    'fits nothing: each value would have to contain another one without end. Do not require that.',
  )
}

/** More than this many combinations of choices are refused. */
const MAX_COMBINATIONS = 1000

const colon = seq(text(':'), optional(text(' ')))
const comma = seq(text(','), optional(text(' ')))

class SchemaCompiler {
  readonly #builder: GrammarBuilder
  readonly #reader: SchemaReader
  readonly #write = jsonCharWriter()
  /** By the places of the schemas in them. */
  readonly #known = new Map<string, { rule: Extract<Expr, { kind: 'rule' }>; expr?: Expr }>()
  /** Why the first thing that nothing fits is so. */
  #conflict: { path: string; reason: string } | undefined
  #numCombinations = 0

  constructor(root: JsonSchema, builder: GrammarBuilder) {
    this.#builder = builder
    this.#reader = new SchemaReader(root)
  }

  unsatisfiable(): Error {
    const { path = '#', reason = 'fits nothing.' } = this.#conflict ?? {}
    return schemaError(path, reason)
  }

  /** What fits all of the schemas. One that contains itself becomes a rule. */
  conjunction(schemas: Conjunction): Expr {
    const paths = new Set(schemas.map(({ path }) => path))
    const key = [...paths].sort().join(' ')
    const known = this.#known.get(key)
    if (known) return known.expr ?? known.rule
    const rule = this.#builder.newRule()
    this.#known.set(key, { rule })
    const expr = this.#facts(this.#reader.facts(schemas))
    this.#builder.define(rule, expr)
    const isSmall = expr.kind === 'text' || isNever(expr)
    this.#known.set(key, { rule, expr: isSmall ? expr : rule })
    return isSmall ? expr : rule
  }

  #never(path: string, reason: string): Expr {
    this.#conflict ??= { path, reason }
    return never
  }

  #facts(facts: Facts): Expr {
    if (facts.isNever !== undefined) return this.#never(facts.path, facts.isNever)
    const [choice, ...others] = facts.choices
    if (choice) return this.#choice({ ...facts, choices: others }, choice)
    if (facts.values) return this.#values(facts, facts.values)
    const types = typesOf(facts)
    if (types.length === 0)
      return this.#never(facts.path, 'fits nothing: its types exclude each other.')
    return alt(...types.map((type) => this.#type(facts, type)))
  }

  #choice(facts: Facts, { branches, isExclusive, path }: Facts['choices'][number]): Expr {
    if ((this.#numCombinations += branches.length) > MAX_COMBINATIONS) {
      throw schemaError(
        path,
        'has too many combinations with other anyOf and oneOf. Write the cases out.',
      )
    }
    const merged = branches.map((branch) => merge(facts, this.#reader.facts(branch)))
    if (isExclusive) this.#checkExclusive(merged, path)
    return alt(...merged.map((branch) => this.#facts(branch)))
  }

  /** A grammar cannot see that a value fits two branches, so that must not be possible. */
  #checkExclusive(branches: readonly Facts[], path: string): void {
    branches.forEach((branch, index) => {
      const other = branches
        .slice(0, index)
        .findIndex((one) => !areDisjoint(this.#reader, one, branch))
      if (other < 0) return
      throw schemaError(
        path,
        `may have values that fit both branch ${other} and branch ${index}, which oneOf forbids. Take anyOf, or ` +
          'give each branch a required property with a const of its own.',
      )
    })
  }

  #values(facts: Facts, values: readonly unknown[]): Expr {
    const types = typesOf(facts)
    const fitting = values.filter((value) => accepts(this.#reader, facts, value))
    if (fitting.length === 0 || types.length === 0) {
      return this.#never(
        facts.path,
        'fits nothing: none of the values that it lists fits the rest of it.',
      )
    }
    return alt(...fitting.map((value) => this.#value(value, facts.path)))
  }

  /** One value, with the same freedom of spaces. */
  #value(value: unknown, path: string): Expr {
    if (Array.isArray(value)) {
      const items = value.map((item) => this.#value(item, path))
      return seq(text('['), ...separated(items), text(']'))
    }
    if (typeof value === 'object' && value !== null) {
      const entries = Object.entries(value).map(([name, entry]) =>
        seq(text(JSON.stringify(name)), colon, this.#value(entry, path)),
      )
      return seq(text('{'), ...separated(entries), text('}'))
    }
    if (typeof value === 'string' && /\p{Surrogate}/u.test(value)) {
      throw schemaError(path, 'has a text with half a character (a lone surrogate). Take it out.')
    }
    return text(JSON.stringify(value))
  }

  #type(facts: Facts, type: JsonType): Expr {
    switch (type) {
      case 'null':
        return text('null')
      case 'boolean':
        return alt(text('true'), text('false'))
      case 'integer':
      case 'number':
        return this.#number(facts, type)
      case 'string':
        return seq(text('"'), this.#string(facts), text('"'))
      case 'array':
        return this.#array(facts)
      case 'object':
        return this.#object(facts)
    }
  }

  #number(facts: Facts, type: 'integer' | 'number'): Expr {
    let isInteger = type === 'integer'
    let places: number | undefined
    for (const { value, path } of facts.multiples) {
      // A power of ten only says how many digits there are behind the point.
      const match = /^(?:1|0\.(0*1)|1e-(\d+))$/.exec(value)
      const digits = match && (match[1]?.length ?? Number(match[2] ?? 0))
      if (digits === null || digits > 20) {
        throw schemaError(
          path,
          `is ${value}. Only 1, 0.1, 0.01 and so on can be guaranteed: leave out multipleOf and check it ` +
            'afterwards, or list the values as an enum.',
        )
      }
      if (digits === 0) isInteger = true
      places = Math.min(places ?? digits, digits)
    }
    const expr = isInteger ? integerExpr(facts) : numberExpr(facts, places)
    if (!isNever(expr)) return expr
    return this.#never(facts.path, `fits nothing: no ${type} is within its bounds.`)
  }

  #string(facts: Facts, forbidden: readonly Regular[] = []): Expr {
    if (facts.minLength > facts.maxLength) {
      return this.#never(facts.path, 'fits nothing: minLength is above maxLength.')
    }
    const rules = {
      required: this.#formats(facts),
      forbidden,
      minLength: facts.minLength,
      maxLength: facts.maxLength,
    }
    for (const { value, path } of facts.patterns) {
      const pattern = parsePattern(value, { match: 'part', path })
      rules.required = [...rules.required, pattern.body, ...pattern.required]
      rules.forbidden = [...rules.forbidden, ...pattern.forbidden]
    }
    const expr = textExpr(rules, this.#write, this.#builder)
    if (!expr) {
      throw schemaError(
        facts.path,
        'has patterns, formats and lengths that are too much together. Leave out maxLength, or one of them.',
      )
    }
    if (!isNever(expr)) return expr
    return this.#never(
      facts.path,
      'fits nothing: its patterns, formats and lengths exclude each other.',
    )
  }

  #formats({ formats, patterns }: Facts): Regular[] {
    return formats.flatMap(({ value, path }: StringRule) => {
      const pattern = formatPattern(value)
      if (pattern !== undefined) return [parsePattern(pattern, { match: 'whole', path }).body]
      // A library that writes a pattern beside a format of its own means the pattern.
      if (patterns.length > 0) return []
      throw schemaError(
        path,
        `is '${value}', which is not known. Known are ${formatNames.join(', ')}; otherwise give a pattern.`,
      )
    })
  }

  #array(facts: Facts): Expr {
    const { prefix, items, maxItems } = facts
    // A list that is described item by item is meant to be whole and to end there.
    const minItems = facts.minItems ?? Math.min(prefix.length, maxItems)
    const hasRest = items.length > 0 || prefix.length === 0
    const item = hasRest ? this.conjunction(items) : never
    const first = prefix.slice(0, maxItems).map((one) => this.conjunction(one))
    const numFirst = first.length
    const most = maxItems === Infinity ? null : maxItems - numFirst
    const least = Math.max(0, minItems - numFirst)
    const content =
      numFirst > 0
        ? first.reduceRight<Expr>(
            (after, one, index) => {
              const here = seq(index === 0 ? empty : comma, one, after)
              return index < minItems ? here : optional(here)
            },
            repeat(seq(comma, item), least, most),
          )
        : alt(least === 0 ? empty : never, some(item, least, most))
    if (isNever(content)) {
      return this.#never(
        facts.path,
        'fits nothing: no list has its number of items, or one of them fits nothing.',
      )
    }
    return seq(text('['), content, text(']'))
  }

  #object(facts: Facts): Expr {
    const names = this.#reader.facts(facts.names)
    const entries = this.#entries(facts, names)
    const missing = entries.find(({ isRequired, expr }) => isRequired && isNever(expr))
    if (missing) {
      return this.#never(
        below(facts.path, 'required'),
        `asks for '${missing.name}', which nothing may be. Allow it, or do not require it.`,
      )
    }
    const additional = this.#additional(facts, names)
    const { min, max } = this.#additionalCount(facts, entries, additional)
    const pair = additional ?? never
    // Behind an entry each further one has a comma; the first has none.
    let first = alt(min === 0 ? empty : never, some(pair, min, max))
    let later = repeat(seq(comma, pair), min, max)
    for (const { expr, isRequired } of entries.toReversed()) {
      const [firstRule, laterRule] = [this.#builder.newRule(), this.#builder.newRule()]
      this.#builder.define(firstRule, alt(seq(expr, later), isRequired ? never : first))
      this.#builder.define(laterRule, alt(seq(comma, expr, later), isRequired ? never : later))
      first = firstRule
      later = laterRule
    }
    return seq(text('{'), first, text('}'))
  }

  /** The listed properties in their order, then those that are only required. */
  #entries(facts: Facts, names: Facts): Entry[] {
    const unlisted = [...facts.required].filter((name) => !facts.properties.has(name))
    const all = [...facts.properties.keys(), ...unlisted]
    return all.map((name) => {
      const isAllowed = accepts(this.#reader, names, name)
      const value = isAllowed
        ? this.conjunction(facts.properties.get(name) ?? facts.additional)
        : never
      const expr = seq(this.#value(name, facts.path), colon, value)
      return { name, expr, isRequired: facts.required.has(name) }
    })
  }

  /** Any further property; undefined where there is none. Nothing is said: none beside listed ones. */
  #additional(facts: Facts, names: Facts): Expr | undefined {
    const { properties, required, additional } = facts
    const listed = [...new Set([...properties.keys(), ...required])]
    if (additional.length === 0 && listed.length > 0) return undefined
    const isNone = additional.some(({ schema }) => schema === false)
    if (isNone) return undefined
    const value = this.conjunction(additional)
    const name = names.values
      ? this.#values(
          names,
          names.values.filter((one) => !listed.includes(String(one))),
        )
      : seq(text('"'), this.#string(names, listed.map(literal)), text('"'))
    const pair = seq(name, colon, value)
    return isNever(pair) ? undefined : pair
  }

  #additionalCount(
    facts: Facts,
    entries: readonly Entry[],
    additional: Expr | undefined,
  ): { min: number; max: number | null } {
    const numRequired = entries.filter(({ isRequired }) => isRequired).length
    const { minProperties, maxProperties, path } = facts
    const hasAll = numRequired === entries.length
    const isMinMet = minProperties <= numRequired
    const isMaxMet = maxProperties === Infinity || (!additional && maxProperties >= entries.length)
    if (isMinMet && isMaxMet) return { min: 0, max: additional ? null : 0 }
    // A grammar does not see that a name comes twice, which would count once.
    if (!hasAll || minProperties > numRequired + 1 || !additional) {
      throw schemaError(
        below(path, isMinMet ? 'maxProperties' : 'minProperties'),
        'cannot be guaranteed while an answer is written: require the properties by name, or check it afterwards.',
      )
    }
    const max = maxProperties === Infinity ? null : maxProperties - numRequired
    return { min: isMinMet ? 0 : 1, max }
  }
}

interface Entry {
  name: string
  expr: Expr
  isRequired: boolean
}

/** One or more, with commas between. */
function some(item: Expr, min: number, max: number | null): Expr {
  if (max !== null && max < 1) return never
  return seq(item, repeat(seq(comma, item), Math.max(0, min - 1), max === null ? null : max - 1))
}

function separated(items: readonly Expr[]): Expr[] {
  return items.flatMap((item, index) => (index === 0 ? [item] : [comma, item]))
}
