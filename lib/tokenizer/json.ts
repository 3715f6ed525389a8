/**
 * A JSON reader that can be interrupted. The vocabulary of a published checkpoint is 7 MB of JSON,
 * on which `JSON.parse` and the enumeration of its keys hold the event loop for more than 100 ms.
 */

/** A JSON value; objects are maps, so that a key such as `__proto__` is a key like any other. */
export type Json = string | number | boolean | null | Json[] | JsonObject

/** A JSON object. */
export type JsonObject = Map<string, Json>

/** Where and why a text is not JSON. */
export class JsonSyntaxError extends Error {}

const maxDepth = 64
const valuesPerStep = 1024

/**
 * Takes the entries of one large object or array as they are read, so that they need not be kept.
 * The key of an array's entry is its index.
 */
export type JsonVisitor = (key: string | number, value: Json) => void

/**
 * Reads a whole JSON text; yields every thousand values or so. Of two equal keys the last counts.
 *
 * @param visitors by path: '' for the whole, or keys of the first two levels (`model.vocab`). The
 * visited object or array itself is empty in the result.
 */
export function* readJson(
  text: string,
  visitors: Readonly<Record<string, JsonVisitor>> = {},
): Generator<void, Json, void> {
  // A byte order mark is not JSON, but editors write it, and Python's readers of these files skip it.
  const start = text.charCodeAt(0) === 0xfeff ? 1 : 0
  const reader = new Reader(text, start, new Map(Object.entries(visitors)))
  const value = yield* reader.value(0, '')
  reader.end()
  return value
}

class Reader {
  readonly #text: string
  #position: number
  readonly #visitors: ReadonlyMap<string, JsonVisitor>
  #values = 0

  constructor(text: string, position: number, visitors: ReadonlyMap<string, JsonVisitor>) {
    this.#text = text
    this.#position = position
    this.#visitors = visitors
  }

  /** `path` is undefined below the levels that can be visited. */
  *value(depth: number, path: string | undefined): Generator<void, Json, void> {
    if (depth > maxDepth) throw this.#error(`is nested more than ${maxDepth} deep`)
    switch (this.#peek()) {
      case openBrace:
        return yield* this.#object(depth, path)
      case openBracket:
        return yield* this.#array(depth, path)
      default:
        return this.#scalar()
    }
  }

  end(): void {
    if (this.#peek() !== undefined) throw this.#error('goes on after its end')
  }

  *#object(depth: number, path: string | undefined): Generator<void, JsonObject, void> {
    const object: JsonObject = new Map()
    const visit = this.#visitorOf(path)
    this.#position++
    if (this.#take(closeBrace)) return object
    do {
      if (this.#peek() !== quote) throw this.#error('has no key where one must be')
      const key = this.#string()
      if (!this.#take(colon)) throw this.#error('lacks a colon')
      const value = this.#isNested()
        ? yield* this.value(depth + 1, childPath(depth, path, key))
        : this.#scalar()
      if (visit) visit(key, value)
      else object.set(key, value)
      if (++this.#values % valuesPerStep === 0) yield
    } while (this.#take(comma))
    if (!this.#take(closeBrace)) throw this.#error('lacks a comma or a closing brace')
    return object
  }

  *#array(depth: number, path: string | undefined): Generator<void, Json[], void> {
    const array: Json[] = []
    const visit = this.#visitorOf(path)
    this.#position++
    if (this.#take(closeBracket)) return array
    let index = 0
    do {
      const value = this.#isNested() ? yield* this.value(depth + 1, undefined) : this.#scalar()
      if (visit) visit(index++, value)
      else array.push(value)
      if (++this.#values % valuesPerStep === 0) yield
    } while (this.#take(comma))
    if (!this.#take(closeBracket)) throw this.#error('lacks a comma or a closing bracket')
    return array
  }

  #visitorOf(path: string | undefined): JsonVisitor | undefined {
    return path === undefined ? undefined : this.#visitors.get(path)
  }

  #isNested(): boolean {
    const next = this.#peek()
    return next === openBrace || next === openBracket
  }

  #scalar(): Json {
    if (this.#peek() === quote) return this.#string()
    scalarPattern.lastIndex = this.#position
    const match = scalarPattern.exec(this.#text)
    if (match === null) {
      const ended = this.#position >= this.#text.length
      throw this.#error(ended ? 'ends too early' : 'has no value where one must be')
    }
    this.#position = scalarPattern.lastIndex
    switch (match[0]) {
      case 'true':
        return true
      case 'false':
        return false
      case 'null':
        return null
      default:
        return Number(match[0])
    }
  }

  #string(): string {
    const start = this.#position + 1
    for (let i = start; i < this.#text.length; i++) {
      const unit = this.#text.charCodeAt(i)
      if (unit === quote) {
        this.#position = i + 1
        return detached(this.#text.slice(start, i))
      }
      if (unit === backslash) return this.#escapedString(i)
      if (unit < 0x20) break
    }
    throw this.#error('has a string that does not end')
  }

  /** The string at the current position, whose first escape is at `escape`; JSON.parse does the work. */
  #escapedString(escape: number): string {
    let i = escape
    for (; i < this.#text.length; i++) {
      const unit = this.#text.charCodeAt(i)
      if (unit === backslash) i++
      else if (unit === quote) break
    }
    const literal = this.#text.slice(this.#position, i + 1)
    try {
      const value = JSON.parse(literal) as string
      this.#position = i + 1
      return value
    } catch {
      throw this.#error('has a string that is not valid')
    }
  }

  /** The next code unit that is not white space, if any; moves to it. */
  #peek(): number | undefined {
    for (; this.#position < this.#text.length; this.#position++) {
      const unit = this.#text.charCodeAt(this.#position)
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return unit
    }
    return undefined
  }

  #take(unit: number): boolean {
    if (this.#peek() !== unit) return false
    this.#position++
    return true
  }

  #error(fault: string): JsonSyntaxError {
    return new JsonSyntaxError(`${fault} (at character ${this.#position} of ${this.#text.length})`)
  }
}

function childPath(depth: number, path: string | undefined, key: string): string | undefined {
  if (path === undefined || depth > 1) return undefined
  return path === '' ? key : `${path}.${key}`
}

/** A copy of a long slice; the slice itself would keep the whole text of the file alive. */
function detached(slice: string): string {
  return slice.length < 13 ? slice : ` ${slice}`.slice(1)
}

const scalarPattern = /true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/y
const quote = 0x22
const comma = 0x2c
const colon = 0x3a
const openBracket = 0x5b
const backslash = 0x5c
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d
