#include "gemv_quantized_entries.cuh"

QVL_QUANTIZED_GEMV_ENTRIES(4)
