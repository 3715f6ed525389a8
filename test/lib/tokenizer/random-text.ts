/** Random but repeatable texts in many scripts, with everything that tokenizers stumble over. */

/** Mulberry32: numbers in [0, 1) from a seed. */
export function randomSource(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Code points by script or kind: lists of characters, or first and last of a range. */
export const scripts: Record<string, string | readonly [number, number]> = {
  words: 'the quick brown fox jumps over lazy dogs and says hello to you',
  latin: [0x41, 0x24f],
  greek: [0x370, 0x3ff],
  cyrillic: [0x400, 0x4ff],
  hebrew: [0x590, 0x5ff],
  arabic: [0x600, 0x6ff],
  devanagari: [0x900, 0x97f],
  tamil: [0xb80, 0xbff],
  thai: [0xe00, 0xe7f],
  georgian: [0x10a0, 0x10ff],
  jamo: [0x1100, 0x11ff],
  kana: [0x3040, 0x30ff],
  han: [0x4e00, 0x9fff],
  hangul: [0xac00, 0xd7a3],
  'han, second plane': [0x20000, 0x2a6df],
  mathematical: [0x1d400, 0x1d7ff],
  emoji: [0x1f300, 0x1f6ff],
  'emoji parts': '\u200d\ufe0f🏽🏿♀♂🧑👩🚀❤🇩🇪',
  'combining marks': [0x300, 0x36f],
  numbers: '0123456789²½Ⅷ٣०𝟘',
  controls: [0, 0x1f],
  'more controls': [0x7f, 0xa0],
  contractions: "'s'T're'VE'm'LL'd'ſ'x",
  newlines: '\r\n\r\n\n \t ',
  spaces: '   \u00a0\u2003\u3000\u2028\t',
  punctuation: '!?.,;:-_=+*/\\|@#$%^&()[]{}<>"~`',
  'half specials': '<|im_start|end|><|vision_pad|>',
}

const pools = Object.values(scripts).map((script) =>
  typeof script === 'string'
    ? Array.from(script)
    : Array.from({ length: script[1] - script[0] + 1 }, (_, i) =>
        String.fromCodePoint(script[0] + i),
      ),
)

/** A text of about `length` characters in up to four of the scripts. */
export function randomText(random: () => number, length: number, added: readonly string[]): string {
  const pick = <Item>(list: readonly Item[]) => list[Math.floor(random() * list.length)]!
  const chosen = Array.from({ length: 1 + Math.floor(random() * 4) }, () => pick(pools))
  let text = ''
  while (text.length < length) {
    const pool = pick(chosen)
    const run = 1 + Math.floor(random() * 8)
    for (let i = 0; i < run; i++) text += pick(pool)
    if (random() < 0.15) text += ' '
    if (random() < 0.02) text += pick(added)
    if (random() < 0.02) text += pick([' ', '\n', '\t', '!', 'a']).repeat(Math.floor(random() * 80))
  }
  return text
}
