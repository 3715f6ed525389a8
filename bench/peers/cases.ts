/** What every engine is asked to do, and the lines in which the scripts of this folder say how long it took. */

/** A figure of one engine in one round. */
export interface Figure {
  /** One of {@link cases}. */
  case: string
  value: number
}

/** The cases, in order, with their units. Of rates more is better, of times less. */
export const cases: Readonly<Record<string, 's' | 'tokens/s'>> = {
  load: 's',
  'prefill 128': 'tokens/s',
  'prefill 512': 'tokens/s',
  decode: 'tokens/s',
  'image 448×448': 's',
  'image 1024×768': 's',
}

/** Tokens of the answer in the case `decode`, and of the prompt before it. */
export const decodeTokens = 32
export const decodePrompt = 64

export function print(figure: Figure): void {
  console.log(JSON.stringify(figure))
}

/** Pseudo-random token ids, below the added ones of the Qwen2 vocabulary. */
export function randomTokens(count: number, seed: number): number[] {
  let state = seed
  return Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647
    return state % 150000
  })
}
