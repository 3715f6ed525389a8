/** Sets of characters as sorted lists of ranges of code points. Surrogates are in none of them. */

/** Code points `[first, last]`. */
export type CharRange = [first: number, last: number]

/** Sorted, without overlaps or neighbours. */
export type CharSet = readonly CharRange[]

/** Every character. */
export const anyChar: CharSet = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
]

export function union(...sets: readonly CharSet[]): CharSet {
  const sorted = sets.flat().sort((a, b) => a[0] - b[0])
  const result: CharRange[] = []
  for (const [first, last] of sorted) {
    const before = result.at(-1)
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last)
    else result.push([first, last])
  }
  return result
}

export function intersect(a: CharSet, b: CharSet): CharSet {
  const result: CharRange[] = []
  let [i, j] = [0, 0]
  for (;;) {
    const [left, right] = [a[i], b[j]]
    if (!left || !right) return result
    const first = Math.max(left[0], right[0])
    const last = Math.min(left[1], right[1])
    if (first <= last) result.push([first, last])
    if (left[1] < right[1]) ++i
    else ++j
  }
}

export function complement(set: CharSet): CharSet {
  const result: CharRange[] = []
  let next = 0
  for (const [first, last] of set) {
    if (first > next) result.push([next, first - 1])
    next = last + 1
  }
  if (next <= 0x10ffff) result.push([next, 0x10ffff])
  return intersect(result, anyChar)
}

export function subtract(a: CharSet, b: CharSet): CharSet {
  return intersect(a, complement(b))
}

/** The set of the characters of a text. */
export function charsOf(text: string): CharSet {
  return union(...Array.from(text, (character): CharSet => [single(character)]))
}

function single(character: string): CharRange {
  const codePoint = character.codePointAt(0) ?? 0
  return [codePoint, codePoint]
}

/** The only character of a set that has no other. */
export function onlyChar(set: CharSet): string | undefined {
  const [range] = set
  return set.length === 1 && range?.[0] === range?.[1] && range
    ? String.fromCodePoint(range[0])
    : undefined
}
