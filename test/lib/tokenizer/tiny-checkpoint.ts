/** The files of the bundled checkpoint: a small tokenizer of the same kind as the published ones. */
import { readFileSync } from 'node:fs'

const folder = new URL('../../../models/qwen2-vl-tiny/', import.meta.url)

export function tinyFile(name: string): string {
  return readFileSync(new URL(name, folder), 'utf8')
}

export interface Sample {
  id: string
  messages: { role: string; content: unknown }[]
  add_vision_id: boolean
  prompt: string
  prompt_token_ids: number[]
  image_grid_thw: [number, number, number][]
  video_grid_thw: [number, number, number][]
  reference: { token_ids: number[]; text: string; text_skip_special: string }
}

export function tinySamples(): Sample[] {
  return (JSON.parse(tinyFile('samples.json')) as { samples: Sample[] }).samples
}
