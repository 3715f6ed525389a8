import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../../lib/checkpoint/checkpoint.js'
import { parseGenerationConfig } from '../../../lib/checkpoint/generation-config.js'
import { parsePreprocessorConfig } from '../../../lib/checkpoint/preprocessor-config.js'
import { UnsupportedModelError } from '../../../lib/errors.js'
import { checkpointFolder } from './folder.js'

describe('generation_config.json', () => {
  it('gives what the file says and undefined for the rest', () => {
    const json = {
      ...{ do_sample: false, eos_token_id: 7, top_k: null, temperature: 0, extra: 1 },
      ...{ min_p: 0.1, no_repeat_ngram_size: 3 },
    }
    expect(parseGenerationConfig(json, 'g.json')).toEqual({
      doSample: false,
      temperature: 0,
      topP: undefined,
      topK: undefined,
      minP: 0.1,
      repetitionPenalty: undefined,
      noRepeatNgramSize: 3,
      eosTokenIds: [7],
      padTokenId: undefined,
    })
  })

  it.each([
    [{ do_sample: 1 }, /do_sample is 1; expected true or false/],
    [{ temperature: -0.5 }, /temperature is -0\.5/],
    [{ temperature: '0.7' }, /temperature is "0\.7"/],
    [{ top_p: 1.5 }, /top_p is 1\.5; expected a number from 0 to 1/],
    [{ top_k: 2.5 }, /top_k is 2\.5; expected an integer/],
    [{ min_p: 2 }, /min_p is 2; expected a number from 0 to 1/],
    [{ no_repeat_ngram_size: -1 }, /no_repeat_ngram_size is -1/],
    [{ repetition_penalty: 0 }, /repetition_penalty is 0/],
    [{ eos_token_id: -1 }, /eos_token_id is -1/],
    [{ pad_token_id: {} }, /pad_token_id is \{\}/],
  ])('refuses %j', (json, message) => {
    expect(() => parseGenerationConfig(json, 'g.json')).toThrow(message)
  })

  it('is refused when Python wrote NaN into it', async () => {
    const folder = await checkpointFolder({ 'generation_config.json': '{"temperature": NaN}' })
    await expect(openCheckpoint(folder)).rejects.toThrow(/the number NaN after "temperature"/)
  })
})

describe('preprocessor_config.json', () => {
  it('has the defaults of the class, whose maximum is below the published one', () => {
    expect(parsePreprocessorConfig({}, 'p.json')).toEqual({
      minPixels: 3136,
      maxPixels: 1003520,
      imageMean: [0.48145466, 0.4578275, 0.40821073],
      imageStd: [0.26862954, 0.26130258, 0.27577711],
      rescaleFactor: 1 / 255,
    })
  })

  it.each([
    [{ min_pixels: 784, max_pixels: 12845056 }, 784, 12845056],
    [{ size: { min_pixels: 784, max_pixels: 50176 } }, 784, 50176],
    [{ size: { shortest_edge: 784, longest_edge: 50176 } }, 784, 50176],
    [{ max_pixels: 100352, size: { shortest_edge: 784, longest_edge: 50176 } }, 784, 100352],
    [{ min_pixels: null, max_pixels: null, size: { longest_edge: 50176 } }, 3136, 50176],
  ])('reads limits from %j', (json, minPixels, maxPixels) => {
    expect(parsePreprocessorConfig(json, 'p.json')).toMatchObject({ minPixels, maxPixels })
  })

  it('reads mean, standard deviation and rescale factor', () => {
    const json = { image_mean: [0.5, 0.5, 0.5], image_std: [1, 1, 1], rescale_factor: 0.5 }
    expect(parsePreprocessorConfig(json, 'p.json')).toMatchObject({
      imageMean: [0.5, 0.5, 0.5],
      imageStd: [1, 1, 1],
      rescaleFactor: 0.5,
    })
  })

  it.each([
    [{ min_pixels: 0 }, /min_pixels is 0/],
    [{ max_pixels: 1e12 }, /max_pixels is 1000000000000/],
    [
      { min_pixels: 5000, max_pixels: 4000 },
      /min_pixels is 5000; expected at most max_pixels, 4000/,
    ],
    [{ size: 4 }, /size is 4; expected an object/],
    [{ size: { longest_edge: 'x' } }, /size\.longest_edge is "x"/],
    [{ patch_size: 16 }, /patch_size is 16; expected 14/],
    [{ merge_size: 1 }, /merge_size is 1; expected 2/],
    [{ temporal_patch_size: 1 }, /temporal_patch_size is 1; expected 2/],
    [{ image_mean: [0.5] }, /image_mean is \[0\.5\]; expected three numbers/],
    [{ image_std: [0, 1, 1] }, /image_std\[0\] is 0/],
    [{ rescale_factor: -1 }, /rescale_factor is -1/],
    [{ resample: 2 }, /resample is 2; Qwen2-VL resizes with 3, bicubic/],
    [{ do_resize: false }, /switches do_resize off/],
    [{ do_normalize: false }, /switches do_normalize off/],
  ])('refuses %j', (json, message) => {
    expect(() => parsePreprocessorConfig(json, 'p.json')).toThrow(message)
  })

  it('is an unsupported model, not a damaged file, that leaves steps out', () => {
    expect(() => parsePreprocessorConfig({ do_rescale: false }, 'p.json')).toThrow(
      UnsupportedModelError,
    )
  })

  it('is read from processor_config.json where only that exists', async () => {
    const processor = { 'processor_config.json': { image_processor: { max_pixels: 50176 } } }
    const alone = await openCheckpoint(await checkpointFolder(processor))
    expect(alone.preprocessor.maxPixels).toBe(50176)
    const both = { ...processor, 'preprocessor_config.json': { max_pixels: 25088 } }
    const preferred = await openCheckpoint(await checkpointFolder(both))
    expect(preferred.preprocessor.maxPixels).toBe(25088)
  })

  it('is refused when it is no JSON object', async () => {
    for (const text of ['', '[]', '{"min_pixels": }']) {
      const folder = await checkpointFolder({ 'preprocessor_config.json': text })
      await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'ERR_CHECKPOINT_JSON' })
    }
  })
})
