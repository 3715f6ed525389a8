"""Records what transformers' logits processors make of logits: which ids survive, their scores and probabilities.

Recorded with torch 2.13.0 (CPU) and transformers 5.18.0; the processors are the same in 4.57. Run: python record.py
Writes cases.txt, words separated by white space, one case after the other:

    case NAME temperature top_k top_p min_p repetition_penalty
    history COUNT ids...
    logits COUNT values...
    kept COUNT (id score probability)...      in order of id; those with a probability above 1e-30

Floats have nine digits, which identify a float32. The order is that of GenerationMixin._get_logits_processor:
repetition penalty, temperature, top-k, top-p, min-p, softmax. An option at its neutral value adds no processor.
"""

import os

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

torch.set_num_threads(1)

NEUTRAL = dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)


def processors(o):
    chain = LogitsProcessorList()
    if o["repetition_penalty"] != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(penalty=o["repetition_penalty"]))
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
    out.write(f"case {name} {o['temperature']:.9g} {o['top_k']} {o['top_p']:.9g} {o['min_p']:.9g} {o['repetition_penalty']:.9g}\n")
    out.write(f"history {len(history)} {' '.join(map(str, history))}\n")
    out.write(f"logits {len(logits)} {words(logits.tolist())}\n")
    out.write(f"kept {len(kept)} " + " ".join(f"{i} {scores[i]:.9g} {probabilities[i]:.9g}" for i in kept) + "\n")


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
        record(out, "masked", masked, history(50, 20), temperature=0.8, top_k=30, top_p=0.9, repetition_penalty=1.1)


if __name__ == "__main__":
    main()
