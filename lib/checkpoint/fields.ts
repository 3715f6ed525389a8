/** Checked access to the values of a checkpoint's JSON files. */
import { CheckpointError } from '../errors.js'
import { describeJson, isJsonObject, type JsonObject } from './files.js'

/** Inclusive bounds of a number. */
export interface Range {
  min: number
  max: number
}

/**
 * One or more JSON objects read as one: a key is taken from the first that has it. `null` counts as
 * absent, as Python writes settings that were left alone. Every error names file and key.
 */
export class Fields {
  readonly #file: string
  readonly #objects: { path: string; object: JsonObject }[]

  /** @param path of `object` within the file, `text_config` for example; '' for the root. */
  constructor(file: string, object: JsonObject, path = '') {
    this.#file = file
    this.#objects = [{ path, object }]
  }

  /** The same fields, with `fallback` asked for the keys that these lack. */
  or(fallback: Fields): Fields {
    const both = new Fields(this.#file, {})
    both.#objects.splice(0, 1, ...this.#objects, ...fallback.#objects)
    return both
  }

  /** The raw value and where it stands; `value` is undefined for null and for a missing key. */
  get(key: string): { value: unknown; path: string } {
    for (const { path, object } of this.#objects) {
      const value = Object.hasOwn(object, key) ? object[key] : undefined
      if (value !== undefined && value !== null) return { value, path: join(path, key) }
    }
    return { value: undefined, path: join(this.#objects[0]?.path ?? '', key) }
  }

  integer(key: string, range: Range): number {
    return this.optionalInteger(key, range) ?? this.missing(key)
  }

  optionalInteger(key: string, range: Range): number | undefined {
    const { value, path } = this.get(key)
    return value === undefined ? undefined : this.#integer(value, path, range)
  }

  optionalNumber(key: string, range: Range): number | undefined {
    const { value, path } = this.get(key)
    return value === undefined ? undefined : this.#number(value, path, range)
  }

  optionalBoolean(key: string): boolean | undefined {
    const { value, path } = this.get(key)
    if (value === undefined || typeof value === 'boolean') return value
    throw this.invalid(path, value, 'true or false')
  }

  optionalString(key: string): string | undefined {
    const { value, path } = this.get(key)
    if (value === undefined || typeof value === 'string') return value
    throw this.invalid(path, value, 'a string')
  }

  optionalObject(key: string): Fields | undefined {
    const { value, path } = this.get(key)
    if (value === undefined) return undefined
    if (isJsonObject(value)) return new Fields(this.#file, value, path)
    throw this.invalid(path, value, 'an object')
  }

  /** Three integers, as `mrope_section` has them. */
  optionalIntegerTriple(key: string, range: Range): [number, number, number] | undefined {
    return this.#triple(key, 'three integers', (value, path) => this.#integer(value, path, range))
  }

  /** Three numbers, one a colour channel. */
  optionalNumberTriple(key: string, range: Range): [number, number, number] | undefined {
    return this.#triple(key, 'three numbers', (value, path) => this.#number(value, path, range))
  }

  /** Token ids, written as one integer or as a list. */
  optionalIds(key: string, range: Range): number[] | undefined {
    const { value, path } = this.get(key)
    if (value === undefined) return undefined
    const list: unknown[] = Array.isArray(value) ? value : [value]
    if (list.length > 1024) throw this.invalid(path, value, 'at most 1024 token ids')
    return list.map((id, i) =>
      this.#integer(id, Array.isArray(value) ? `${path}[${i}]` : path, range),
    )
  }

  /** An error about a value that stands in the file. */
  invalid(path: string, found: unknown, expected: string): CheckpointError {
    return new CheckpointError(
      'ERR_CHECKPOINT_CONFIG',
      `${this.#file}: ${path} is ${describeJson(found)}; expected ${expected}.`,
      { details: { file: this.#file, key: path } },
    )
  }

  missing(key: string): never {
    const places = this.#objects.map(({ path }) => join(path, key)).join(' or ')
    throw new CheckpointError(
      'ERR_CHECKPOINT_CONFIG',
      `${this.#file} has no ${places}, and there is no default that would be right. The file is ` +
        'incomplete; take it from the published checkpoint.',
      { details: { file: this.#file, key } },
    )
  }

  #triple(
    key: string,
    expected: string,
    check: (value: unknown, path: string) => number,
  ): [number, number, number] | undefined {
    const { value, path } = this.get(key)
    if (value === undefined) return undefined
    if (!Array.isArray(value) || value.length !== 3) throw this.invalid(path, value, expected)
    const [a, b, c] = value as [unknown, unknown, unknown]
    return [check(a, `${path}[0]`), check(b, `${path}[1]`), check(c, `${path}[2]`)]
  }

  #integer(value: unknown, path: string, range: Range): number {
    const number = this.#number(value, path, range, 'an integer')
    if (Number.isSafeInteger(number)) return number
    throw this.invalid(path, value, `an integer from ${range.min} to ${range.max}`)
  }

  #number(value: unknown, path: string, { min, max }: Range, kind = 'a number'): number {
    if (typeof value === 'number' && value >= min && value <= max) return value
    throw this.invalid(path, value, `${kind} from ${min} to ${max}`)
  }
}

function join(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`
}
