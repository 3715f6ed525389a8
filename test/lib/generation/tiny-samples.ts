/** The samples of the bundled checkpoint, as requests. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ChatMessage, ContentPart } from '../../../lib/chat/messages.js'
import { ChatTemplate } from '../../../lib/chat/template.js'
import { openCheckpoint } from '../../../lib/checkpoint/checkpoint.js'
import { MediaPlaces } from '../../../lib/generation/media-places.js'
import type { GenerateRequest } from '../../../lib/generation/options.js'
import type { PromptContext } from '../../../lib/generation/prompt.js'
import { packageRoot } from '../../../lib/package-root.js'
import { Tokenizer } from '../../../lib/tokenizer/tokenizer.js'

export const tinyFolder = join(packageRoot, 'models', 'qwen2-vl-tiny')

/** One conversation with the reference's answer. */
export interface Sample {
  id: string
  messages: ChatMessage[]
  add_vision_id: boolean
  prompt: string
  prompt_token_ids: number[]
  image_grid_thw: number[][]
  video_grid_thw: number[][]
  max_new_tokens: number
  reference: {
    /** The closing <|im_end|> included. */
    token_ids: number[]
    text_skip_special: string
    first_steps_top5: { id: number; logit: number }[][]
  }
}

const file = JSON.parse(readFileSync(join(tinyFolder, 'samples.json'), 'utf8')) as {
  samples: Sample[]
}

export const samples = file.samples.map((sample) => ({
  ...sample,
  messages: sample.messages.map(withPaths),
}))

export function sampleOf(id: string): Sample {
  const found = samples.find((sample) => sample.id === id)
  if (!found) throw new Error(`no sample ${id}`)
  return found
}

/** Greedy, as the reference answered. */
export function requestOf(sample: Sample): Extract<GenerateRequest, { messages: ChatMessage[] }> {
  return {
    messages: sample.messages,
    addVisionId: sample.add_vision_id,
    maxTokens: sample.max_new_tokens,
    temperature: 0,
  }
}

const tokensOf = (grids: number[][]) =>
  grids.reduce((sum, grid) => sum + grid.reduce((product, side) => product * side, 1) / 4, 0)

/** What `usage` must say about the prompt. */
export function countsOf({ prompt_token_ids, image_grid_thw, video_grid_thw }: Sample) {
  const promptTokens = prompt_token_ids.length
  const imageTokens = tokensOf(image_grid_thw)
  const videoTokens = tokensOf(video_grid_thw)
  return {
    promptTokens,
    textTokens: promptTokens - imageTokens - videoTokens,
    imageTokens,
    videoTokens,
  }
}

/** Paths in the file are relative to it. */
function withPaths(message: ChatMessage): ChatMessage {
  if (typeof message.content === 'string' || message.content === null) return message
  const absolute = (path: unknown) => join(tinyFolder, path as string)
  const content = message.content.map((part): ContentPart => {
    if (part.type === 'image') return { ...part, image: absolute(part.image) }
    if (part.type === 'video') return { ...part, video: (part.video as string[]).map(absolute) }
    return part
  })
  return { ...message, content }
}

/** What preparing a prompt needs of the bundled checkpoint. */
export async function tinyContext(): Promise<PromptContext> {
  const checkpoint = await openCheckpoint(tinyFolder)
  return {
    checkpoint,
    tokenizer: await Tokenizer.load(checkpoint.tokenizerFiles),
    template: ChatTemplate.ofCheckpoint(checkpoint.chatTemplate),
    mediaPlaces: new MediaPlaces(2),
  }
}
