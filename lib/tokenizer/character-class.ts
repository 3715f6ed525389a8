/** Classes of characters as the pre-tokeniser tells them apart. */

/** Punctuation, symbols, marks, controls: what is in none of the other classes. */
export const OTHER = 0
/** `\p{L}` */
export const LETTER = 1
/** `\p{N}` */
export const NUMBER = 2
/** `\s` but for CR and LF. */
export const SPACE = 3
/** CR and LF. */
export const NEWLINE = 4
/** First half of a character above U+FFFF: look at both halves with {@link astralClass}. */
export const HIGH_SURROGATE = 5

// The reference's \s is Unicode's White_Space. JavaScript's lacks U+0085 and has U+FEFF besides.
const patterns: readonly (readonly [number, RegExp])[] = [
  [LETTER, /\p{L}+/gu],
  [NUMBER, /\p{N}+/gu],
  [SPACE, /\p{White_Space}+/gu],
  [NEWLINE, /[\r\n]+/gu],
]

let table: Uint8Array | undefined

/** The class of each UTF-16 code unit, [65536]. Made on first use, in about 2 ms. */
export function unitClasses(): Uint8Array {
  if (table) return table
  const classes = new Uint8Array(0x10000)
  // Lone surrogates would end a string's runs all the same, but a pair must not be made by accident.
  const units = Uint16Array.from(classes, (_, unit) => (unit >= 0xd800 && unit < 0xe000 ? 0 : unit))
  const text = Array.from({ length: 16 }, (_, i) =>
    String.fromCharCode(...units.subarray(i << 12, (i + 1) << 12)),
  ).join('')
  for (const [value, pattern] of patterns) {
    for (const match of text.matchAll(pattern)) {
      classes.fill(value, match.index, match.index + match[0].length)
    }
  }
  classes.fill(HIGH_SURROGATE, 0xd800, 0xdc00)
  table = classes
  return classes
}

const astralPages = new Map<number, Uint8Array>()

/** The class of a character above U+FFFF by its two halves. None of them is white space. */
export function astralClass(high: number, low: number): number {
  const codePoint = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
  const page = codePoint >> 8
  let classes = astralPages.get(page)
  if (!classes) {
    classes = Uint8Array.from({ length: 256 }, (_, i) => {
      const character = String.fromCodePoint((page << 8) + i)
      return /\p{L}/u.test(character) ? LETTER : /\p{N}/u.test(character) ? NUMBER : OTHER
    })
    astralPages.set(page, classes)
  }
  return classes[codePoint & 0xff] ?? OTHER
}

/** The class of a character of any plane. */
export function classOf(codePoint: number): number {
  if (codePoint < 0x10000) return unitClasses()[codePoint] ?? OTHER
  return astralClass(0xd800 + ((codePoint - 0x10000) >> 10), 0xdc00 + (codePoint & 0x3ff))
}
