"""Records linear layers as AWQ and GPTQ checkpoints store them, with the matrices they stand for and products with them.

Recorded with numpy. Run: python record.py
Packing and dequantisation are written here as the formats define them, number by number, and so apart from the reader under
test, which works on whole words:

    AWQ    w[i, o] = (q[i, o] - z[i // group, o]) * s[i // group, o]
    GPTQ   w[i, o] = s[g, o] * (q[i, o] - ((stored zero + 1) & mask)),  g = g_idx[i];  v2: without the + 1

Writes layers.safetensors. A layer NAME has NAME.qweight, .qzeros, .scales, perhaps .g_idx, and
    NAME.matrix    F32 [out, in], exact: a code has few bits and a scale is fp16
    NAME.x         F32 [2, in]
    NAME.y         F32 [2, out], the product of x and matrix in float64
and cases.txt a line for each: NAME METHOD BITS GROUP(0 = all inputs) ZEROS_LESS_ONE OUT IN HAS_ZEROS
"""

import json
import os
import struct

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # nibble k of a word holds this output of its eight


def pack_awq(values):
    """[rows, out] of 4 bits -> int32 [rows, out / 8]."""
    rows, out = values.shape
    words = np.zeros((rows, out // 8), dtype=np.uint32)
    for r in range(rows):
        for c in range(out // 8):
            for k in range(8):
                words[r, c] |= np.uint32(values[r, 8 * c + AWQ_ORDER[k]]) << np.uint32(4 * k)
    return words.view(np.int32)


def pack_rows(values, bits):
    """[in, out] -> int32 [in * bits / 32, out]: neighbouring inputs, lowest bits first."""
    unit = 32 // bits
    words = np.zeros((values.shape[0] // unit, values.shape[1]), dtype=np.uint32)
    for i in range(values.shape[0]):
        for o in range(values.shape[1]):
            words[i // unit, o] |= np.uint32(values[i, o]) << np.uint32(i % unit * bits)
    return words.view(np.int32)


def pack_columns(values, bits):
    """[groups, out] -> int32 [groups, out * bits / 32]: neighbouring outputs, lowest bits first."""
    return np.ascontiguousarray(pack_rows(np.ascontiguousarray(values.T), bits).T)


def layer(name, method, bits, group, out, inputs, sym=False, v2=False, order=None, scale_type=np.float16, seed=0):
    random = np.random.RandomState(seed)
    size = group or inputs
    groups = -(-inputs // size)
    most = 2**bits - 1
    q = random.randint(0, most + 1, (inputs, out))
    z = np.full((groups, out), (most + 1) // 2) if sym else random.randint(0, most + 1, (groups, out))
    s = (random.uniform(0.002, 0.05, (groups, out))).astype(np.float16)
    s[0, 0] = np.float16(6e-8)  # the smallest there is
    g = np.arange(inputs) // size
    if order == "random":
        g = g[random.permutation(inputs)]
    w = np.zeros((inputs, out), dtype=np.float64)
    for i in range(inputs):
        w[i] = (q[i] - z[g[i]]) * s[g[i]].astype(np.float64)
    weight = w.T.astype(np.float32)
    assert (weight.astype(np.float64) == w.T).all()
    x = random.standard_normal((2, inputs)).astype(np.float32)
    y = (x.astype(np.float64) @ w).astype(np.float32)
    tensors = {}
    if method == "awq":
        tensors["qweight"] = pack_awq(q)
        tensors["qzeros"] = pack_awq(z)
    else:
        tensors["qweight"] = pack_rows(q, bits)
        tensors["qzeros"] = pack_columns(z if v2 else (z - 1) & most, bits)
        if order is not None:
            tensors["g_idx"] = g.astype(np.int32)
    tensors["scales"] = s.astype(scale_type)
    tensors.update(matrix=weight, x=x, y=y)
    less = int(method == "gptq" and not v2)
    line = f"{name} {method} {bits} {group} {less} {out} {inputs} {int(not sym)}"
    return line, {f"{name}.{kind}": np.ascontiguousarray(value) for kind, value in tensors.items()}


LAYERS = [
    dict(name="awq_128", method="awq", bits=4, group=128, out=40, inputs=256),
    dict(name="awq_64", method="awq", bits=4, group=64, out=32, inputs=128),
    dict(name="awq_32", method="awq", bits=4, group=32, out=24, inputs=96),
    dict(name="awq_row", method="awq", bits=4, group=0, out=40, inputs=88),
    dict(name="awq_sym", method="awq", bits=4, group=32, out=40, inputs=64, sym=True),
    dict(name="awq_part", method="awq", bits=4, group=64, out=72, inputs=100),
    dict(name="gptq4_128", method="gptq", bits=4, group=128, out=40, inputs=256, order="sequential"),
    dict(name="gptq4_sym", method="gptq", bits=4, group=128, out=40, inputs=128, sym=True),
    dict(name="gptq4_64_v2", method="gptq", bits=4, group=64, out=32, inputs=128, v2=True),
    dict(name="gptq4_row", method="gptq", bits=4, group=0, out=24, inputs=72),
    dict(name="gptq4_act", method="gptq", bits=4, group=32, out=40, inputs=128, order="random"),
    dict(name="gptq4_act_sym", method="gptq", bits=4, group=32, out=40, inputs=104, sym=True, order="random"),
    dict(name="gptq4_f32", method="gptq", bits=4, group=32, out=32, inputs=64, scale_type=np.float32),
    dict(name="gptq8_128", method="gptq", bits=8, group=128, out=40, inputs=256),
    dict(name="gptq8_sym", method="gptq", bits=8, group=128, out=36, inputs=132, sym=True, order="sequential"),
    dict(name="gptq8_32", method="gptq", bits=8, group=32, out=32, inputs=96),
    dict(name="gptq8_row", method="gptq", bits=8, group=0, out=24, inputs=60, sym=True),
    dict(name="gptq8_act", method="gptq", bits=8, group=64, out=40, inputs=128, order="random"),
    dict(name="gptq8_act_v2", method="gptq", bits=8, group=32, out=40, inputs=76, v2=True, order="random"),
]
TYPES = {"int32": "I32", "float16": "F16", "float32": "F32"}


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, value in tensors.items():
        end = offset + value.nbytes
        header[name] = {"dtype": TYPES[value.dtype.name], "shape": value.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(value.tobytes() for value in tensors.values()))


# The formats' own examples.
assert pack_awq(np.array([[0, 1, 2, 3, 4, 5, 6, 7]]))[0, 0] == 1966171168
assert pack_awq(np.array([[15, 14, 13, 12, 11, 10, 9, 8]]))[0, 0] == -1966171169
assert pack_rows(np.arange(8).reshape(8, 1), 4)[0, 0] == 1985229328
assert pack_rows(np.array([[0], [1], [2], [255]]), 8)[0, 0] == -16645888

lines, every = [], {}
for seed, options in enumerate(LAYERS):
    line, tensors = layer(**options, seed=seed + 1)
    lines.append(line)
    every.update(tensors)
write_safetensors(os.path.join(HERE, "layers.safetensors"), every)
with open(os.path.join(HERE, "cases.txt"), "w") as file:
    file.write("\n".join(lines) + "\n")
