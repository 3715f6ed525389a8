/** Intersections: what several regular expressions match at once, as states that read a character each. */
import { intersect, subtract, union, anyChar, type CharSet } from './characters.js'
import type { Regular } from './regex.js'

/** All that a text must match, and must not, and how long it may be in characters. */
export interface TextRules {
  readonly required: readonly Regular[]
  readonly forbidden: readonly Regular[]
  readonly minLength: number
  readonly maxLength: number
}

/** A state that can still end well. State 0 is the first. */
export interface State {
  accepts: boolean
  edges: { set: CharSet; to: number }[]
}

/** More states than anyone's schema needs, and few enough to be found in a second. */
const MAX_STATES = 20_000

/** The states of a text that is to follow all rules; undefined where that takes too many. None: no text does. */
export function statesOf(rules: TextRules): State[] | undefined {
  const machines = [...rules.required, ...rules.forbidden].map((regular) => new Nfa(regular))
  if (machines.some(({ isTooLarge }) => isTooLarge)) return undefined
  const classes = classesOf(machines.flatMap((machine) => machine.sets))
  const product = new Product(
    machines.map((machine) => new Dfa(machine, classes)),
    rules,
  )
  return product.explore(classes)
}

/** Characters that no set tells apart. */
function classesOf(sets: readonly CharSet[]): CharSet[] {
  let classes: CharSet[] = [anyChar]
  for (const set of new Map(sets.map((one) => [one.join(), one])).values()) {
    classes = classes.flatMap((one) =>
      [intersect(one, set), subtract(one, set)].filter((part) => part.length > 0),
    )
  }
  return classes
}

interface Node {
  next: number[]
  edge?: { set: CharSet; to: number }
}

/** Nodes that are connected by characters or by nothing. */
class Nfa {
  readonly nodes: Node[] = []
  readonly sets: CharSet[] = []
  readonly start: number
  readonly end: number
  isTooLarge = false

  constructor(regular: Regular) {
    this.end = this.#node()
    this.start = this.#before(regular, this.end)
  }

  /** A node from which `regular` leads to the node `to`. */
  #before(regular: Regular, to: number): number {
    if (this.nodes.length > MAX_STATES) this.isTooLarge = true
    if (this.isTooLarge) return to
    switch (regular.kind) {
      case 'chars': {
        this.sets.push(regular.set)
        return this.#node([], { set: regular.set, to })
      }
      case 'seq':
        return regular.parts.reduceRight((next, part) => this.#before(part, next), to)
      case 'alt':
        return this.#node(regular.options.map((option) => this.#before(option, to)))
      case 'repeat':
        return this.#beforeRepeat(regular, to)
    }
  }

  #beforeRepeat({ item, min, max }: Extract<Regular, { kind: 'repeat' }>, to: number): number {
    let next = to
    if (max === null) {
      const loop = this.#node([to])
      this.nodes[loop]?.next.push(this.#before(item, loop))
      next = loop
    } else {
      for (let count = min; count < max && !this.isTooLarge; ++count) {
        next = this.#node([to, this.#before(item, next)])
      }
    }
    for (let count = 0; count < min && !this.isTooLarge; ++count) next = this.#before(item, next)
    return next
  }

  #node(next: number[] = [], edge?: Node['edge']): number {
    return this.nodes.push({ next, ...(edge && { edge }) }) - 1
  }
}

/** An automaton without choices, made as far as it is used. State 0 is the first; -1 is none. */
class Dfa {
  readonly #nfa: Nfa
  /** For each node, by class: whether its edge reads it. */
  readonly #reads: (readonly boolean[] | undefined)[]
  readonly #numberOf = new Map<string, number>()
  readonly #members: number[][] = []
  readonly #moves: (number | undefined)[][] = []

  constructor(nfa: Nfa, classes: readonly CharSet[]) {
    this.#nfa = nfa
    const known = new Map<string, readonly boolean[]>()
    this.#reads = nfa.nodes.map(({ edge }) => {
      if (!edge) return undefined
      const key = edge.set.join()
      const reads = known.get(key) ?? classes.map((one) => intersect(edge.set, one).length > 0)
      known.set(key, reads)
      return reads
    })
    this.#state([nfa.start])
  }

  accepts(state: number): boolean {
    return this.#members[state]?.includes(this.#nfa.end) ?? false
  }

  move(state: number, characterClass: number): number {
    const moves = this.#moves[state]
    if (!moves) return -1
    return (moves[characterClass] ??= this.#moveFrom(state, characterClass))
  }

  #moveFrom(state: number, characterClass: number): number {
    const reached = (this.#members[state] ?? []).flatMap((node) => {
      const { edge } = this.#nfa.nodes[node] ?? {}
      return edge && this.#reads[node]?.[characterClass] ? [edge.to] : []
    })
    return reached.length === 0 ? -1 : this.#state(reached)
  }

  #state(nodes: readonly number[]): number {
    const members = new Set(nodes)
    for (const node of members)
      for (const next of this.#nfa.nodes[node]?.next ?? []) members.add(next)
    const sorted = [...members].sort((a, b) => a - b)
    const key = sorted.join()
    const known = this.#numberOf.get(key)
    if (known !== undefined) return known
    const state = this.#members.push(sorted) - 1
    this.#moves.push([])
    this.#numberOf.set(key, state)
    return state
  }
}

/** Several automatons that read the same text, and its length. */
class Product {
  readonly #machines: readonly Dfa[]
  readonly #rules: TextRules
  /** From here on, the length makes no difference. */
  readonly #lastLength: number

  constructor(machines: readonly Dfa[], rules: TextRules) {
    this.#machines = machines
    this.#rules = rules
    this.#lastLength = rules.maxLength === Infinity ? rules.minLength : rules.maxLength
  }

  explore(classes: readonly CharSet[]): State[] | undefined {
    const first = [...this.#machines.map(() => 0), 0]
    const numberOf = new Map([[first.join(), 0]])
    const tuples = [first]
    const states: State[] = []
    for (const tuple of tuples) {
      const targets = new Map<number, CharSet[]>()
      for (const [index, set] of classes.entries()) {
        const next = this.#next(tuple, index)
        if (!next) continue
        const key = next.join()
        const to = numberOf.get(key) ?? tuples.push(next) - 1
        numberOf.set(key, to)
        targets.set(to, [...(targets.get(to) ?? []), set])
      }
      const edges = [...targets].map(([to, sets]) => ({ set: union(...sets), to }))
      states.push({ accepts: this.#accepts(tuple), edges })
      if (tuples.length > MAX_STATES) return undefined
    }
    return alive(states)
  }

  #next(tuple: readonly number[], characterClass: number): number[] | undefined {
    const length = tuple.at(-1) ?? 0
    if (length === this.#rules.maxLength) return undefined
    const next = this.#machines.map((machine, i) => machine.move(tuple[i] ?? -1, characterClass))
    const numRequired = this.#rules.required.length
    if (next.some((state, i) => state < 0 && i < numRequired)) return undefined
    return [...next, Math.min(length + 1, this.#lastLength)]
  }

  #accepts(tuple: readonly number[]): boolean {
    if ((tuple.at(-1) ?? 0) < this.#rules.minLength) return false
    const numRequired = this.#rules.required.length
    return this.#machines.every((machine, i) => machine.accepts(tuple[i] ?? -1) === i < numRequired)
  }
}

/** Without states from which no end is reached. */
function alive(states: readonly State[]): State[] {
  const sources = states.map((): number[] => [])
  states.forEach(({ edges }, from) => {
    for (const { to } of edges) sources[to]?.push(from)
  })
  const reached = new Set([...states.keys()].filter((state) => states[state]?.accepts))
  for (const state of reached) for (const source of sources[state] ?? []) reached.add(source)
  if (!reached.has(0)) return []
  const kept = [...states.keys()].filter((state) => reached.has(state))
  const numberOf = new Map(kept.map((state, index) => [state, index]))
  return kept.map((state) => ({
    accepts: states[state]?.accepts ?? false,
    edges: (states[state]?.edges ?? []).flatMap(({ set, to }) => {
      const target = numberOf.get(to)
      return target === undefined ? [] : [{ set, to: target }]
    }),
  }))
}
