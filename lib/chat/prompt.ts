/** Gives every image and video the room it needs in the prompt. */
import { InvalidArgumentError } from '../errors.js'

/** An image or video of the prompt, by the number of its merged patches. */
export interface PlaceholderItem {
  tokens: number
  kind: 'image' | 'video'
}

/**
 * Replaces the k-th image pad of `ids` by as many copies as the k-th image has merged patches, and
 * likewise for videos, which are counted on their own.
 *
 * The reference does this to the text, before it tokenises. On ids it is the same: the pads are added
 * tokens, the text is split at them before anything else happens, so neither the copies nor what
 * stands beside them can tokenise differently. And it never has to scan a text of 16,384 pads.
 *
 * @param path of the request's part that the ids come from, for errors.
 * @throws InvalidArgumentError if the prompt has more or fewer pads than there are items.
 */
export function expandPlaceholders(
  ids: readonly number[],
  items: readonly PlaceholderItem[],
  imageTokenId: number,
  videoTokenId: number,
  path: 'messages' | 'prompt' = 'messages',
): Int32Array {
  const images = items.filter((item) => item.kind === 'image')
  const videos = items.filter((item) => item.kind === 'video')
  checkCount(ids, imageTokenId, images.length, 'image', path)
  checkCount(ids, videoTokenId, videos.length, 'video', path)

  const padTokens = items.reduce((sum, item) => sum + item.tokens, 0)
  const expanded = new Int32Array(ids.length - items.length + padTokens)
  let length = 0
  let image = 0
  let video = 0
  for (const id of ids) {
    let copies = 1
    if (id === imageTokenId) copies = images[image++]?.tokens ?? 0
    else if (id === videoTokenId) copies = videos[video++]?.tokens ?? 0
    expanded.fill(id, length, length + copies)
    length += copies
  }
  return expanded
}

function checkCount(
  ids: readonly number[],
  padId: number,
  expected: number,
  kind: 'image' | 'video',
  path: 'messages' | 'prompt',
): void {
  const found = ids.reduce((count, id) => (id === padId ? count + 1 : count), 0)
  if (found === expected) return
  const reason =
    found > expected
      ? `${path === 'prompt' ? 'The prompt' : 'A message'} contains the text <|${kind}_pad|>, which is kept for ` +
        `${kind}s. Remove it from the text.`
      : `The chat template left out a part. Use the template of a Qwen2-VL Instruct checkpoint.`
  throw new InvalidArgumentError(
    `The prompt has ${found} ${kind} placeholder${found === 1 ? '' : 's'} for ` +
      `${expected} ${kind}${expected === 1 ? '' : 's'}. ${reason}`,
    { path, details: { placeholders: found, items: expected, kind } },
  )
}
