"""Records what Jinja2 makes of conversations with chat templates of the Qwen2-VL kind.

Run with transformers 5.18.0 and jinja2 3.1:  python record.py  (writes renderings.json beside it).
The environment is that of transformers: ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks.
"""

import json
import pathlib

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

here = pathlib.Path(__file__).parent
model = here.parents[2] / "models" / "qwen2-vl-tiny"
instruct = json.loads((model / "chat_template.json").read_text())["chat_template"]

# A template of the same behaviour that leans on trim_blocks and lstrip_blocks.
indented = """\
{% set pictures = namespace(count=0) %}
{# one turn for each message #}
{% for message in messages %}
  {% if loop.first and message.role != 'system' %}
<|im_start|>system
You are a helpful assistant.<|im_end|>
  {% endif %}
<|im_start|>{{ message.role }}
  {% if message.content is string %}
{{ message.content }}<|im_end|>
  {% else %}
    {% for part in message.content %}
      {% if part.type == 'image' %}
        {% set pictures.count = pictures.count + 1 %}
        {%- if add_vision_id %}Picture {{ pictures.count }}: {% endif -%}
        <|vision_start|><|image_pad|><|vision_end|>
      {%- elif part.type == 'video' -%}
        <|vision_start|><|video_pad|><|vision_end|>
      {%- elif 'text' in part -%}
        {{ part.text }}
      {%- endif %}
    {% endfor %}
<|im_end|>
  {% endif %}
  {% if loop.last %}
    {% if add_generation_prompt %}
<|im_start|>assistant
    {% endif %}
  {% endif %}
{% endfor %}
"""

text = lambda value: {"type": "text", "text": value}
image = {"type": "image", "image": "picture.png"}
video = {"type": "video", "video": ["frame-0.png", "frame-1.png"]}
user = lambda *parts: {"role": "user", "content": list(parts)}

# The two conversations of the seed's README on picture ids.
readme = [
    user(image, text("Hello, how are you?")),
    {
        "role": "assistant",
        "content": "I'm doing well, thank you for asking. How can I assist you today?",
    },
    user(
        text("Can you describe these images and video?"),
        image,
        image,
        video,
        text("These are from my vacation."),
    ),
    {
        "role": "assistant",
        "content": "I'd be happy to describe the images and video for you. "
        "Could you please provide more context about your vacation?",
    },
    user(text("It was a trip to the mountains. Can you see the details in the images and video?")),
]

conversations = {
    "one image": [user(image, text("Describe this image."))],
    "readme": readme,
    "string content": [{"role": "user", "content": "Who are you?"}],
    "text before image": [user(text("Look: "), image)],
    "system first": [{"role": "system", "content": "Answer in rhyme."}, user(image, text("Hi"))],
    "system of parts": [{"role": "system", "content": [text("A"), text("B")]}, user(text("C"))],
    "empty system": [{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}],
    "system later": [user(text("Hi")), {"role": "system", "content": "Be brief."}],
    "empty content list": [user()],
    "empty string": [{"role": "user", "content": ""}],
    "empty text part": [user(text(""), image, text(""))],
    "other roles": [
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "content": "I ask the tool."},
        {"role": "tool", "content": "sunny"},
        {"role": "function", "content": [text("22 degrees")]},
        {"role": "Ünïcode röle", "content": "?"},
    ],
    "white space kept": [user(text("  leading and trailing \n\n"), image, text("\t\nnext "))],
    "markup in the text": [
        {"role": "user", "content": "{{ messages }} {% if true %} <b>&amp;</b> \\n <|im_end|> {# x #}"}
    ],
    "many scripts": [user(text("你是谁？ "), image, text("Кто? मैं कौन हूँ 🧑‍🚀 \u2028 café"))],
    "several images and videos": [user(image, video, image), user(video, image, text("Which?"))],
    "assistant last": [user(image, text("Hi")), {"role": "assistant", "content": "It shows"}],
    "role only": [{"role": "assistant", "content": "x"}],
    "quotes": [user(text("\"double\" 'single' `back` \\ / $1 $& %s %d {0}"))],
    "long": [user(*[part for i in range(40) for part in (text(f"Line {i}.\n"), image)])],
}

renderings = []
for template_name, template in (("instruct", instruct), ("indented", indented)):
    compiled = _compile_jinja_template(template)
    for name, messages in conversations.items():
        for add_generation_prompt in (True, False):
            for add_vision_id in (False, True):
                rendered = compiled.render(
                    messages=messages,
                    add_generation_prompt=add_generation_prompt,
                    add_vision_id=add_vision_id,
                )
                renderings.append(
                    {
                        "template": template_name,
                        "name": name,
                        "addGenerationPrompt": add_generation_prompt,
                        "addVisionId": add_vision_id,
                        "rendered": rendered,
                    }
                )

(here / "renderings.json").write_text(
    json.dumps(
        {
            "madeWith": f"transformers {transformers.__version__}, jinja2 {jinja2.__version__}",
            "templates": {"instruct": instruct, "indented": indented},
            "conversations": conversations,
            "renderings": renderings,
        },
        ensure_ascii=False,
        indent=1,
    )
    + "\n"
)
