#pragma once

// What a GPU reaches at most, measured on it: what rows of a benchmark stand beside.

namespace qvl::cuda {

/// Bytes read and written a second by copies within the device's memory, the best of several that
/// take about `seconds` together. Throws Error(ERR_BACKEND_UNAVAILABLE) without such a device, and
/// Error(ERR_OUT_OF_MEMORY) where a little memory is not to be had.
double measure_copy_rate(int ordinal, double seconds);

}  // namespace qvl::cuda
