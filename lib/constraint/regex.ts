/** Regular expressions of ECMAScript, as far as they are regular: from their text to what they match. */
import { RegExpParser, type AST } from '@eslint-community/regexpp'
import { SchemaError } from '../errors.js'
import { anyChar, charsOf, complement, subtract, union, type CharSet } from './characters.js'

/** What a part of a regular expression matches, over characters. */
export type Regular =
  | { readonly kind: 'chars'; readonly set: CharSet }
  | { readonly kind: 'seq'; readonly parts: readonly Regular[] }
  | { readonly kind: 'alt'; readonly options: readonly Regular[] }
  | {
      readonly kind: 'repeat'
      readonly item: Regular
      readonly min: number
      readonly max: number | null
    }

/** A text matches as a whole: `body` and each of `required`, and none of `forbidden`. */
export interface Pattern {
  readonly body: Regular
  readonly required: readonly Regular[]
  readonly forbidden: readonly Regular[]
}

export const anyText: Regular = {
  kind: 'repeat',
  item: { kind: 'chars', set: anyChar },
  min: 0,
  max: null,
}

/** A text and nothing else. */
export function literal(text: string): Regular {
  return seq(Array.from(text, (character) => ({ kind: 'chars', set: charsOf(character) })))
}

export interface PatternOptions {
  /** `i`, `s`, `u`, `v` have their effect; `g`, `y` and `d` have none. */
  flags?: string
  /** A match of the whole text, or as in JSON Schema of any part of it. */
  match: 'whole' | 'part'
  /** Where the pattern stands, for messages. */
  path: string
}

/**
 * Parses a regular expression.
 *
 * @throws SchemaError for one that is not valid, or needs what no grammar can say.
 */
export function parsePattern(source: string, options: PatternOptions): Pattern {
  const { flags = '', match } = options
  const reader = new PatternReader(source, options)
  const isWhole = match === 'whole'
  const branches = parse(source, reader, flags).alternatives.map((alternative) =>
    reader.branch(alternative, isWhole),
  )
  const [only] = branches
  if (branches.length === 1 && only) return only
  if (branches.some(({ required, forbidden }) => required.length + forbidden.length > 0)) {
    throw reader.refusal('a lookahead in one of several alternatives')
  }
  return { body: alt(branches.map(({ body }) => body)), required: [], forbidden: [] }
}

function parse(source: string, reader: PatternReader, flags: string): AST.Pattern {
  const parser = new RegExpParser()
  const flagV = flags.includes('v')
  const parseAs = (mode: { unicode?: boolean; unicodeSets?: boolean }) =>
    parser.parsePattern(source, 0, source.length, mode)
  if (flagV) reader.mode = 'v'
  try {
    return parseAs(flagV ? { unicodeSets: true } : { unicode: true })
  } catch (error) {
    // Older patterns escape what needs none. Without the flag u, characters above U+FFFF are two.
    if (!/[ugv]/.test(flags) && !/[\ud800-\udfff]/.test(source)) {
      try {
        const pattern = parseAs({})
        reader.mode = ''
        return pattern
      } catch {
        // What is said of it with the flag is as good.
      }
    }
    throw reader.invalid(error)
  }
}

class PatternReader {
  mode: 'u' | 'v' | '' = 'u'
  readonly #source: string
  readonly #flags: string
  readonly #path: string

  constructor(source: string, { flags = '', path }: PatternOptions) {
    this.#source = source
    this.#flags = flags
    this.#path = path
    if (flags.includes('m')) throw this.refusal('the flag m')
  }

  invalid(cause: unknown): SchemaError {
    const { message, index } = cause as Error & { index?: number }
    const reason = message.replace(/^Invalid regular expression: \/[\s\S]*\/\w*: /, '')
    const at = index === undefined ? '' : ` at character ${index + 1}`
    return new SchemaError(
      `The pattern /${this.#source}/ is not a regular expression: ${reason}${at}.`,
      { cause, details: { schemaPath: this.#path } },
    )
  }

  refusal(what: string, node?: AST.Node): SchemaError {
    const at = node ? ` (${node.raw} at character ${node.start + 1})` : ''
    return new SchemaError(
      `The pattern /${this.#source}/ has ${what}${at}, which cannot be guaranteed while an answer is written. ` +
        'Write the pattern without, or check the answer afterwards.',
      { details: { schemaPath: this.#path } },
    )
  }

  /** One of the alternatives of the whole: `^`, lookaheads, what is to match, `$`. */
  branch({ elements }: AST.Alternative, isWhole: boolean): Pattern {
    const rest = [...elements]
    const isEdge = (node: AST.Element | undefined, kind: 'start' | 'end') =>
      node?.type === 'Assertion' && node.kind === kind
    const hasStart = isEdge(rest[0], 'start')
    if (hasStart) rest.shift()
    const hasEnd = isEdge(rest.at(-1), 'end')
    if (hasEnd) rest.pop()
    const required: Regular[] = []
    const forbidden: Regular[] = []
    for (let node = rest[0]; node?.type === 'Assertion'; node = rest[0]) {
      if (node.kind !== 'lookahead') break
      if (!hasStart && !isWhole) throw this.refusal('a lookahead that is not behind ^', node)
      const bodies = node.alternatives.map((one) => this.branch(withStart(one), false))
      if (bodies.some((one) => one.required.length + one.forbidden.length > 0)) {
        throw this.refusal('a lookahead inside of another', node)
      }
      ;(node.negate ? forbidden : required).push(alt(bodies.map(({ body }) => body)))
      rest.shift()
    }
    const body = seq([
      ...(hasStart || isWhole ? [] : [anyText]),
      ...rest.map((node) => this.#element(node)),
      ...(hasEnd || isWhole ? [] : [anyText]),
    ])
    return { body, required, forbidden }
  }

  #element(node: AST.Element): Regular {
    switch (node.type) {
      case 'Assertion':
        throw this.#assertion(node)
      case 'Backreference':
        throw this.refusal('a backreference', node)
      case 'Character':
        return {
          kind: 'chars',
          set: this.#isPlain(node) ? [[node.value, node.value]] : this.#found(node),
        }
      case 'CharacterSet':
      case 'CharacterClass':
      case 'ExpressionCharacterClass':
        return { kind: 'chars', set: this.#set(node) }
      case 'Group':
        if (node.modifiers) throw this.refusal('modifiers', node)
        return this.#alternatives(node.alternatives)
      case 'CapturingGroup':
        return this.#alternatives(node.alternatives)
      case 'Quantifier': {
        const max = node.max === Infinity ? null : node.max
        return { kind: 'repeat', item: this.#element(node.element), min: node.min, max }
      }
    }
  }

  #alternatives(alternatives: readonly AST.Alternative[]): Regular {
    return alt(alternatives.map(({ elements }) => seq(elements.map((node) => this.#element(node)))))
  }

  #assertion(node: AST.Assertion): SchemaError {
    if (node.kind === 'word') return this.refusal('a word boundary', node)
    if (node.kind === 'lookbehind') return this.refusal('a lookbehind', node)
    if (node.kind === 'lookahead')
      return this.refusal('a lookahead that is not at the beginning', node)
    return this.refusal('an anchor that is not at an end', node)
  }

  #isPlain(node: AST.Character): boolean {
    if (node.value >= 0xd800 && node.value <= 0xdfff) throw this.refusal('half a character', node)
    return !this.#flags.includes('i')
  }

  #set(node: AST.CharacterSet | AST.CharacterClass | AST.ExpressionCharacterClass): CharSet {
    if (this.#flags.includes('i')) return this.#found(node)
    if (node.type === 'CharacterSet') return knownSet(node, this.#flags) ?? this.#found(node)
    if (node.type === 'ExpressionCharacterClass' || node.unicodeSets) return this.#found(node)
    const sets: CharSet[] = []
    for (const element of node.elements) {
      if (element.type === 'Character') sets.push([[element.value, element.value]])
      else if (element.type === 'CharacterClassRange') {
        sets.push([[element.min.value, element.max.value]])
      } else sets.push(knownSet(element, '') ?? this.#found(element))
    }
    const set = union(...sets)
    return node.negate ? complement(set) : subtract(set, surrogates)
  }

  /** Asks JavaScript itself, which knows cases and properties. */
  #found(node: AST.Element | AST.CharacterSet): CharSet {
    const flags = (this.#flags.match(/[is]/g) ?? []).join('') + this.mode
    const key = `${flags}/${node.raw}`
    const known = foundSets.get(key)
    if (known) return known
    const set: [number, number][] = []
    const matcher = new RegExp(`(?:${node.raw})+`, `g${flags}`)
    for (const { 0: run } of allCharacters().matchAll(matcher)) {
      const first = run.codePointAt(0) ?? 0
      const lastUnit = run.codePointAt(run.length - 1) ?? 0
      const isPair = lastUnit >= 0xdc00 && lastUnit <= 0xdfff
      set.push([first, isPair ? (run.codePointAt(run.length - 2) ?? 0) : lastUnit])
    }
    // Runs go from the last character below the surrogates to the first above.
    const result = subtract(union(set), surrogates)
    if (foundSets.size >= MAX_FOUND_SETS) foundSets.clear()
    foundSets.set(key, result)
    return result
  }
}

const MAX_FOUND_SETS = 256
const foundSets = new Map<string, CharSet>()
const surrogates: CharSet = [[0xd800, 0xdfff]]

let characters: string | undefined

/** Every character once; 4 MB. Made on first use. */
function allCharacters(): string {
  characters ??= anyChar
    .flatMap(([first, last]) =>
      Array.from({ length: Math.ceil((last + 1 - first) / 4096) }, (_, block) => {
        const begin = first + block * 4096
        const length = Math.min(4096, last + 1 - begin)
        return String.fromCodePoint(...Array.from({ length }, (_, index) => begin + index))
      }),
    )
    .join('')
  return characters
}

const digits = charsOf('0123456789')
const wordChars = union(digits, [[65, 90]], [[97, 122]], charsOf('_'))
const spaces = union(charsOf(' \t\n\v\f\r\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff'), [
  [0x2000, 0x200a],
])
const lineEnds = charsOf('\n\r\u2028\u2029')

/** The sets that patterns without flags mostly name. */
function knownSet(node: AST.CharacterSet, flags: string): CharSet | undefined {
  switch (node.kind) {
    case 'any':
      return flags.includes('s') ? anyChar : complement(lineEnds)
    case 'digit':
      return node.negate ? complement(digits) : digits
    case 'word':
      return node.negate ? complement(wordChars) : wordChars
    case 'space':
      return node.negate ? complement(spaces) : spaces
    case 'property':
      return undefined
  }
}

/** What a lookahead at the beginning looks at begins there. */
function withStart(alternative: AST.Alternative): AST.Alternative {
  const start = { type: 'Assertion', kind: 'start' } as AST.EdgeAssertion
  const [first] = alternative.elements
  if (first?.type === 'Assertion' && first.kind === 'start') return alternative
  return { ...alternative, elements: [start, ...alternative.elements] }
}

function seq(parts: readonly Regular[]): Regular {
  const [only] = parts
  return parts.length === 1 && only ? only : { kind: 'seq', parts }
}

function alt(options: readonly Regular[]): Regular {
  const [only] = options
  return options.length === 1 && only ? only : { kind: 'alt', options }
}

/** How many characters a match has, at least and at most. */
export function lengthOf(regular: Regular): { min: number; max: number } {
  switch (regular.kind) {
    case 'chars':
      return { min: 1, max: 1 }
    case 'seq':
      return regular.parts
        .map(lengthOf)
        .reduce((sum, part) => ({ min: sum.min + part.min, max: sum.max + part.max }), {
          min: 0,
          max: 0,
        })
    case 'alt':
      return regular.options.map(lengthOf).reduce(
        (all, option) => ({
          min: Math.min(all.min, option.min),
          max: Math.max(all.max, option.max),
        }),
        { min: Infinity, max: 0 },
      )
    case 'repeat': {
      const item = lengthOf(regular.item)
      const max = regular.max === 0 || item.max === 0 ? 0 : item.max * (regular.max ?? Infinity)
      return { min: item.min * regular.min, max }
    }
  }
}
