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

/** Characters or sequences of them; as a range, the first and the last code point. */
type Script = string | readonly string[] | readonly [first: number, last: number]

/** Code points by script or kind. All texts of them survive encoding and decoding, but for NFC. */
export const scripts: Record<string, Script> = {
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

/** What is rarer, and what does not survive: half a surrogate pair becomes U+FFFD. */
const rareScripts: Record<string, Script> = {
  'latin, additional': [0x1e00, 0x1eff],
  phonetic: [0x250, 0x2af],
  'greek, extended': [0x1f00, 0x1fff],
  armenian: [0x530, 0x58f],
  syriac: [0x700, 0x74f],
  bengali: [0x980, 0x9ff],
  gurmukhi: [0xa00, 0xa7f],
  telugu: [0xc00, 0xc7f],
  malayalam: [0xd00, 0xd7f],
  sinhala: [0xd80, 0xdff],
  lao: [0xe80, 0xeff],
  tibetan: [0xf00, 0xfff],
  burmese: [0x1000, 0x109f],
  ethiopic: [0x1200, 0x137f],
  cherokee: [0x13a0, 0x13ff],
  runic: [0x16a0, 0x16ff],
  khmer: [0x1780, 0x17ff],
  mongolian: [0x1800, 0x18af],
  braille: [0x2800, 0x28ff],
  'general punctuation': [0x2000, 0x206f],
  'letter-like symbols': [0x2100, 0x218f],
  'arrows and operators': [0x2190, 0x22ff],
  'enclosed characters': [0x2460, 0x24ff],
  'half and full width': [0xff01, 0xffee],
  'compatibility ideographs': [0xf900, 0xfaff],
  'arabic presentation forms': [0xfb50, 0xfdff],
  'private use': [0xe000, 0xe0ff],
  gothic: [0x10330, 0x1034a],
  cuneiform: [0x12000, 0x12399],
  'musical symbols': [0x1d100, 0x1d1ff],
  tags: [0xe0020, 0xe007f],
  'non-characters': ['\ufffe', '\uffff', '\ufdd0', '\u{1ffff}', '\u{10ffff}', '\ufeff', '\ufffd'],
  'lone surrogates': [
    '\ud800',
    '\udbff',
    '\udc00',
    '\udfff',
    '\ud83d',
    '\ude00',
    'a',
    ' ',
    '\u0301',
  ],
  'emoji sequences': ['👨‍👩‍👧‍👦', '🏳️‍🌈', '👍🏽', '🧑🏿‍🚀', '🇩🇪', '1️⃣', '❤️‍🔥', '🏴󠁧󠁢󠁥󠁮󠁧󠁿', ' ', '👁️‍🗨️'],
  'runs of spaces': [' '.repeat(40), ' '.repeat(7), ' '.repeat(300), '\u00a0'.repeat(9), '\n', 'x'],
  'runs of line ends': ['\n'.repeat(30), '\r\n'.repeat(12), '\r\r', ' \n', '\t'.repeat(50), '.'],
  'runs of letters': [
    'a'.repeat(60),
    'ab'.repeat(40),
    '的'.repeat(30),
    'é'.repeat(25),
    '='.repeat(70),
  ],
}

const poolOf = (script: Script): readonly string[] => {
  if (typeof script === 'string') return Array.from(script)
  const [first, last] = script
  if (typeof first !== 'number' || typeof last !== 'number') return script as readonly string[]
  return Array.from({ length: last - first + 1 }, (_, i) => String.fromCodePoint(first + i))
}

const pools = Object.values(scripts).map(poolOf)

/** {@link scripts} and the rare ones: name, and a maker of texts in which it prevails. */
export const allScripts = Object.entries({ ...scripts, ...rareScripts }).map(
  ([name, script]) => [name, mainlyOf(poolOf(script))] as const,
)

type TextMaker = (random: () => number, length: number, added: readonly string[]) => string

/** Half of the runs are of `pool`, the others of any that {@link randomText} uses. */
function mainlyOf(pool: readonly string[]): TextMaker {
  return (random, length, added) => {
    const pick = <Item>(list: readonly Item[]) => list[Math.floor(random() * list.length)]!
    const guest = pick(pools)
    let text = ''
    while (text.length < length) {
      const chosen = random() < 0.5 ? pool : guest
      const run = 1 + Math.floor(random() * 8)
      for (let i = 0; i < run; i++) text += pick(chosen)
      if (random() < 0.15) text += ' '
      if (random() < 0.02) text += pick(added)
    }
    return text
  }
}

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
