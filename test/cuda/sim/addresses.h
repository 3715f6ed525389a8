#pragma once

// From the addresses that the lanes of a warp use to the host's, after every check of them.

#include <bit>
#include <cstdint>
#include <string>

#include "checker.h"
#include "warp.h"

namespace qvl::sim {

inline int first_lane(uint32_t lanes) { return std::countr_zero(lanes); }

/// Generic addresses of the lanes.
void gather(const Warp& w, const Instruction& in, uint64_t* at);

/// Host addresses of what `lanes` access at the generic addresses `at`, `bytes` each: bounds and
/// alignment are checked, the checker and the counters told. Throws KernelError.
void resolve(Warp& w, const Instruction& in, uint32_t lanes, const uint64_t* at, int bytes, Use use,
             unsigned char** host);
/// The same of addresses that can only be global, their alignment checked by the caller.
void resolve_global(Warp& w, const Instruction& in, uint32_t lanes, const uint64_t* at, int bytes,
                    Use use, unsigned char** host);

/// Throws KernelError: `where` is what the access missed.
[[noreturn]] void outside(const Warp& w, const Instruction& in, int lane, Use use,
                          const std::string& where);

}  // namespace qvl::sim
