/** Cuts long texts where nothing can depend on what stands across the cut. */
import { classOf, LETTER, NEWLINE, NUMBER, SPACE } from './character-class.js'

const mark = /\p{M}/u

/** Looking for a cut in text without any, give way after this many units. */
const unitsPerStep = 1 << 14

/**
 * Yields `undefined` to give way and otherwise the windows of a text, which together are the text:
 * of about `size` units, or as much longer as it takes to find a place for a cut.
 */
export function* windowsOf(
  text: string,
  size: number,
  isInsideToken: (cut: number) => boolean,
): Generator<string | undefined, void, void> {
  let start = 0
  while (text.length - start > size) {
    let cut = start + size
    // Back first; what is behind half the window is too small to be worth it.
    while (cut > start + size / 2 && !isSafeCut(text, cut, isInsideToken)) cut--
    if (cut <= start + size / 2) {
      cut = start + size + 1
      while (cut < text.length && !isSafeCut(text, cut, isInsideToken)) {
        if (++cut % unitsPerStep === 0) yield undefined
      }
    }
    yield text.slice(start, cut)
    start = cut
  }
  if (start < text.length) yield text.slice(start)
}

/**
 * Whether NFC, added tokens and words all end at `cut`, whatever else the text is. After a letter or
 * newline no word goes on with a character of another kind, after a digit with any; the only
 * characters that compose with one before them are marks and letters.
 */
function isSafeCut(text: string, cut: number, isInsideToken: (cut: number) => boolean): boolean {
  const before = text.charCodeAt(cut - 1)
  // Pairs of surrogates are left alone: there is always another place.
  if ((before & 0xf800) === 0xd800) return false
  const after = text.codePointAt(cut) ?? 0
  const classBefore = classOf(before)
  const classAfter = classOf(after)
  const ends =
    (classBefore === LETTER && classAfter !== LETTER) ||
    classBefore === NUMBER ||
    (classBefore === NEWLINE && classAfter !== NEWLINE && classAfter !== SPACE)
  if (!ends) return false
  if (mark.test(String.fromCodePoint(after))) return false
  // A few letters decompose into a letter and a mark, and a mark would go on as punctuation.
  const character = String.fromCharCode(before)
  return character.normalize('NFC') === character && !isInsideToken(cut)
}
