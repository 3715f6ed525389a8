import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  normalizeMessages,
  normalizePrompt,
  type TemplateMessage,
} from '../../../lib/chat/messages.js'
import { ChatTemplate } from '../../../lib/chat/template.js'
import { CheckpointError, InvalidArgumentError } from '../../../lib/errors.js'
import { tinySamples } from '../tokenizer/tiny-checkpoint.js'

interface Recorded {
  templates: Record<string, string>
  conversations: Record<string, unknown>
  renderings: {
    template: string
    name: string
    addGenerationPrompt: boolean
    addVisionId: boolean
    rendered: string
  }[]
}

const recorded = JSON.parse(
  readFileSync(new URL('../../golden/chat/renderings.json', import.meta.url), 'utf8'),
) as Recorded
const instruct = ChatTemplate.compile(recorded.templates['instruct']!)

function render(
  template: ChatTemplate,
  messages: unknown,
  options?: Parameters<ChatTemplate['render']>[1],
): string {
  return template.render(normalizeMessages(messages).messages, options)
}

describe('renderings recorded from Jinja2', () => {
  const templates = new Map(
    Object.entries(recorded.templates).map(([name, source]) => [
      name,
      ChatTemplate.compile(source),
    ]),
  )

  it.each(Object.keys(recorded.conversations))('%s', (name) => {
    const renderings = recorded.renderings.filter((rendering) => rendering.name === name)
    expect(renderings).toHaveLength(8)
    for (const { template, rendered, ...options } of renderings) {
      const text = render(templates.get(template)!, recorded.conversations[name], options)
      expect(text, template).toBe(rendered)
    }
  })
})

describe('the Instruct template', () => {
  it('makes the prompts of the samples', () => {
    for (const { messages, prompt, add_vision_id } of tinySamples()) {
      expect(render(instruct, messages, { addVisionId: add_vision_id })).toBe(prompt)
    }
  })

  it('adds the generation prompt and no vision ids unless told otherwise', () => {
    const messages = [{ role: 'user', content: [{ type: 'image', image: 'a.png' }] }]
    expect(render(instruct, messages)).toBe(
      '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' +
        '<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n' +
        '<|im_start|>assistant\n',
    )
  })

  it('writes the vision ids of the README', () => {
    const prompt = render(instruct, recorded.conversations['readme'], { addVisionId: true })
    expect(prompt).toContain(
      '<|im_start|>user\nPicture 1: <|vision_start|><|image_pad|><|vision_end|>Hello, how are you?<|im_end|>\n',
    )
    expect(prompt).toContain(
      'Can you describe these images and video?' +
        'Picture 2: <|vision_start|><|image_pad|><|vision_end|>' +
        'Picture 3: <|vision_start|><|image_pad|><|vision_end|>' +
        'Video 1: <|vision_start|><|video_pad|><|vision_end|>' +
        'These are from my vacation.<|im_end|>\n',
    )
  })

  it('renders the same every time', () => {
    const messages = [{ role: 'user', content: [{ type: 'image', image: 'a.png' }] }]
    const first = render(instruct, messages, { addVisionId: true })
    expect(render(instruct, messages, { addVisionId: true })).toBe(first)
  })
})

describe('templates that cannot be used', () => {
  const messages = [{ role: 'user' as const, content: 'Hi' }]
  const base = ChatTemplate.compile(
    "{% if messages is string %}{{ messages }}{% else %}{% for content in messages %}{% if content['type'] == 'image' or 'image' in content %}" +
      '<|vision_start|><|image_pad|><|vision_end|>' +
      "{% elif content['type'] == 'video' or 'video' in content %}<|vision_start|><|video_pad|><|vision_end|>" +
      "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}",
  )

  it('a base model: explains the empty prompt', () => {
    expect(() => base.render(messages)).toThrow(InvalidArgumentError)
    expect(() => base.render(messages)).toThrow(
      /that of a base model.*Use the Instruct model.*give a prompt instead of messages/,
    )
  })

  it('agrees with how raw prompts are written', () => {
    const parts = [
      { type: 'image', image: 'a.png' },
      { type: 'text', text: ' a cap\n' },
      { type: 'video', video: ['0.png', '1.png'] },
      { type: 'text', text: 'x' },
    ]
    // This template takes the parts where others take messages.
    const rendered = base.render(parts as unknown as TemplateMessage[])
    expect(normalizePrompt(parts).text).toBe(rendered)
    expect(rendered).toContain('<|vision_start|><|image_pad|><|vision_end|> a cap')
  })

  it('none: says where to get one, but only when it is needed', () => {
    const none = ChatTemplate.ofCheckpoint(undefined)
    expect(none.source).toBeUndefined()
    expect(() => none.render(messages)).toThrow(InvalidArgumentError)
    expect(() => none.render(messages)).toThrow(/has no chat template/)
  })

  it('a damaged one of the caller: names the option', () => {
    expect(() => ChatTemplate.compile('{% for %}')).toThrow(InvalidArgumentError)
    expect(() => ChatTemplate.compile('{% for %}')).toThrow(/The chat template is not valid Jinja/)
    expect(() => ChatTemplate.compile('{{ x')).toThrow(
      expect.objectContaining({ path: 'chatTemplate' }),
    )
  })

  it('a damaged one of the checkpoint: is a fault of the checkpoint', () => {
    expect(() => ChatTemplate.ofCheckpoint('{% if %}')).toThrow(CheckpointError)
    expect(() => ChatTemplate.ofCheckpoint('{% if %}')).toThrow(
      expect.objectContaining({ code: 'ERR_CHECKPOINT_CHAT_TEMPLATE' }),
    )
  })

  it('one that fails or objects: passes the reason on', () => {
    const strict = ChatTemplate.compile("{{ raise_exception('Roles must alternate') }}")
    expect(() => strict.render(messages)).toThrow(InvalidArgumentError)
    expect(() => strict.render(messages)).toThrow(/Roles must alternate/)
    const wrong = ChatTemplate.compile('{{ messages | no_such_filter }}')
    expect(() => wrong.render(messages)).toThrow(/cannot render these messages/)
  })
})
