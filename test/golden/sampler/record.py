"""Records what transformers' logits processors make of logits: which ids survive, their scores and probabilities.

Recorded with torch 2.13.0 (CPU) and transformers 5.18.0; the processors are the same in 4.57. Run: python record.py
Writes cases.txt, words separated by white space, one case after the other:

    case NAME temperature top_k top_p min_p repetition_penalty no_repeat_ngram_size
    bias COUNT (id value)...
    history COUNT ids...
    logits COUNT values...
    kept COUNT (id score probability)...      in order of id; those with a probability above 1e-30

Floats have nine digits, which identify a float32. The order is that of GenerationMixin._get_logits_processor:
sequence bias (of single tokens), repetition penalty, no-repeat n-gram, temperature, top-k, top-p, min-p, softmax. An option at its neutral value adds no processor.
"""

import os

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

torch.set_num_threads(1)

NEUTRAL = dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0, no_repeat_ngram_size=0, bias={})


def processors(o):
    chain = LogitsProcessorList()
    if o["bias"]:
        chain.append(SequenceBiasLogitsProcessor(sequence_bias={(i,): b for i, b in o["bias"].items()}))
    if o["repetition_penalty"] != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(penalty=o["repetition_penalty"]))
    if o["no_repeat_ngram_size"] != 0:
        chain.append(NoRepeatNGramLogitsProcessor(o["no_repeat_ngram_size"]))
    if o["temperature"] != 1.0:
        chain.append(TemperatureLogitsWarper(o["temperature"]))
    if o["top_k"] != 0:
        chain.append(TopKLogitsWarper(top_k=o["top_k"]))
    if o["top_p"] < 1.0:
        chain.append(TopPLogitsWarper(top_p=o["top_p"]))
    if o["min_p"] > 0.0:
        chain.append(MinPLogitsWarper(min_p=o["min_p"]))
    return chain


def words(values):
    return " ".join(f"{v:.9g}" for v in values)


def record(out, name, logits, history, **options):
    o = {**NEUTRAL, **options}
    scores = processors(o)(torch.tensor([history]), logits[None].clone())[0]
    probabilities = torch.softmax(scores, dim=-1)
    kept = [i for i in range(len(logits)) if probabilities[i] > 1e-30]
    out.write(f"case {name} {o['temperature']:.9g} {o['top_k']} {o['top_p']:.9g} {o['min_p']:.9g} {o['repetition_penalty']:.9g} {o['no_repeat_ngram_size']}\n")
    out.write(" ".join([f"bias {len(o['bias'])}"] + [f"{i} {b:.9g}" for i, b in o["bias"].items()]) + "\n")
    out.write(f"history {len(history)} {' '.join(map(str, history))}\n")
    out.write(f"logits {len(logits)} {words(logits.tolist())}\n")
    out.write(f"kept {len(kept)} " + " ".join(f"{i} {scores[i]:.9g} {probabilities[i]:.9g}" for i in kept) + "\n")


def record_rest(out, logits, history):
    for n in (1, 2, 3, 4):
        # Few ids, so that n-grams do repeat; 12 of the 20 at most, so that n = 1 leaves some.
        record(out, f"ngram-{n}", logits(20, 2.0), history(12, 60), no_repeat_ngram_size=n)
    record(out, "ngram-longer-than-all", logits(20, 2.0), history(12, 3), no_repeat_ngram_size=4)
    record(out, "ngram-just-fits", logits(20, 2.0), [1, 1, 1], no_repeat_ngram_size=3)
    record(out, "ngram-repetition", logits(20, 2.0), history(12, 40), no_repeat_ngram_size=2, repetition_penalty=1.3)
    record(out, "ngram-warm", logits(40, 2.0), history(8, 60), no_repeat_ngram_size=2, temperature=0.7, top_k=20, top_p=0.9)
    # The bans take the best ones, so the k-th largest is another.
    record(out, "ngram-top-k", torch.arange(12.0), [11, 10, 11, 9, 11], no_repeat_ngram_size=2, top_k=3)
    record(out, "ngram-min-p", torch.arange(12.0) / 3, [11, 10, 11, 9, 11], no_repeat_ngram_size=1, min_p=0.2)
    record(out, "bias", logits(40, 2.0), history(40, 5), bias={0: 5.0, 7: -2.5, 39: 100.0})
    record(out, "bias-ban", logits(40, 2.0), history(40, 5), bias={i: -100.0 for i in range(30)}, top_p=0.8)
    record(out, "bias-repetition", logits(40, 1.0), list(range(20)), bias={3: 2.0, 30: 2.0, 5: -2.0}, repetition_penalty=1.4)
    record(out, "bias-warm", logits(60, 2.0), history(60, 5), bias={1: 1.5, 2: -1.5}, temperature=0.6, top_k=20, min_p=0.02)
    everything = dict(repetition_penalty=1.15, no_repeat_ngram_size=3, temperature=0.85, top_k=30, top_p=0.93, min_p=0.01)
    record(out, "everything", logits(100, 3.0), history(10, 80), bias={4: 3.0, 50: -1.0, 99: 2.0}, **everything)


def main():
    generator = torch.Generator().manual_seed(20240912)

    def logits(size, spread):
        return torch.randn(size, generator=generator, dtype=torch.float32) * spread

    def history(size, length):
        return torch.randint(0, size, (length,), generator=generator).tolist()

    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases.txt"), "w") as out:
        record(out, "spec", torch.tensor([2.0, -1.0, 0.5]), [0, 1, 0], repetition_penalty=1.05)
        record(out, "neutral", logits(40, 2.0), history(40, 5))
        for t in (0.1, 0.7, 1.3, 2.0):
            record(out, f"temperature-{t}", logits(60, 3.0), history(60, 5), temperature=t)
        for r in (0.8, 1.05, 1.5):
            record(out, f"repetition-{r}", logits(60, 3.0), history(60, 80), repetition_penalty=r)
        for k in (1, 5, 59, 60, 500):
            record(out, f"top-k-{k}", logits(60, 3.0), history(60, 5), top_k=k)
        ties = torch.tensor([1.0, 3.0, 2.0, 2.0, -1.0, 2.0, 0.0])
        record(out, "top-k-ties", ties, [0], top_k=2)
        for p in (0.001, 0.3, 0.8, 0.95, 0.999):
            record(out, f"top-p-{p}", logits(60, 2.0), history(60, 5), top_p=p)
        record(out, "top-p-flat", logits(300, 0.05), history(300, 5), top_p=0.9)
        for p in (0.01, 0.1, 0.5, 1.0):
            record(out, f"min-p-{p}", logits(60, 2.0), history(60, 5), min_p=p)
        record(out, "checkpoint", logits(200, 4.0), history(200, 30), temperature=0.01, top_k=1, top_p=0.001)
        record(out, "readme-vllm", logits(200, 4.0), history(200, 30), temperature=0.1, top_p=0.001, repetition_penalty=1.05)
        record(out, "all", logits(200, 3.0), history(200, 50), temperature=0.9, top_k=40, top_p=0.92, min_p=0.05, repetition_penalty=1.1)
        record(out, "all-warm", logits(400, 2.0), history(400, 50), temperature=1.5, top_k=300, top_p=0.97, min_p=0.02, repetition_penalty=1.2)
        masked = logits(50, 2.0)
        masked[::3] = -float("inf")
        record_rest(out, logits, history)
        record(out, "masked", masked, history(50, 20), temperature=0.8, top_k=30, top_p=0.9, repetition_penalty=1.1)


if __name__ == "__main__":
    main()
