#pragma once

// Exact image preprocessing after decoding: conversion to RGB, Pillow's antialiased bicubic,
// patches.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "io/content_hash.h"

namespace qvl {

/// 3 GiB as RGB: the most that lib/ may be told to accept. What it does accept is its own affair.
inline constexpr int64_t kMaxImagePixels = int64_t{1} << 30;
/// Far above any picture within kMaxImagePixels whose sides are at most 200 to 1.
inline constexpr int kMaxImageSide = 1 << 20;

/// 8-bit RGB, rows top to bottom: pixels[(y * width + x) * 3 + channel].
struct RgbImage {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> pixels;
  ContentHash content{};  // of size and pixels, where somebody has worked it out
};

/// Of size and pixels, worked out anew.
ContentHash content_hash(const RgbImage& image);

/// Decoded samples as the decoder gives them: interleaved, 1 (grey), 2 (grey, alpha), 3 (RGB) or
/// 4 (RGB, alpha; or CMYK) channels.
struct RawPixels {
  const uint8_t* data = nullptr;
  size_t size_bytes = 0;
  int width = 0;
  int height = 0;
  int channels = 3;
  bool cmyk = false;
};

enum class AlphaRule : uint8_t { kCompositeOnWhite, kDrop };

/// Converts to RGB by the rules of the reference: alpha of RGBA is composited on white (or
/// dropped), alpha of grey is always dropped, grey is replicated, CMYK is converted without a
/// profile. Throws Error(ERR_IMAGE_PIXELS) when size_bytes does not match width * height *
/// channels, ERR_IMAGE_TOO_LARGE above kMaxImagePixels or kMaxImageSide, ERR_INVALID_ARGUMENT for
/// sizes below 1.
RgbImage to_rgb(const RawPixels& pixels, AlphaRule alpha);

/// Pillow's Image.resize(..., BICUBIC) on RGB, bit for bit: antialiased separable bicubic, a =
/// -0.5, 22-bit fixed-point weights, horizontal pass first with an 8-bit result in between. Errors
/// as for to_rgb().
RgbImage resize_bicubic(const RgbImage& image, int width, int height);

/// torchvision's functional resize(..., BICUBIC, antialias=True) of an 8-bit tensor, which the
/// reference applies to the frames of video files: float32 throughout, then clamped and rounded
/// half to even. Errors as for to_rgb().
RgbImage resize_bicubic_float(const RgbImage& image, int width, int height);

inline constexpr int kPatchSize = 14;
inline constexpr int kTemporalPatchSize = 2;
inline constexpr int kMergeSize = 2;
inline constexpr int kPatchValues = 3 * kTemporalPatchSize * kPatchSize * kPatchSize;  // 1176

/// An image or a video ready for the vision tower: frames of one size, sides multiples of 28. One
/// frame (an image) is used twice; an odd number of frames is padded by repeating the last.
struct VisionItem {
  std::vector<std::shared_ptr<const RgbImage>> frames;
  bool is_video = false;

  int64_t grid_t() const { return (static_cast<int64_t>(frames.size()) + 1) / 2; }
  int64_t grid_h() const { return frames.front()->height / kPatchSize; }
  int64_t grid_w() const { return frames.front()->width / kPatchSize; }
  int64_t num_patches() const { return grid_t() * grid_h() * grid_w(); }
  int64_t num_tokens() const { return num_patches() / (kMergeSize * kMergeSize); }
};

/// Of kind and frames: equal for items that the vision tower cannot tell apart.
ContentHash content_hash(const VisionItem& item);

/// Rescale and normalise constants of preprocessor_config.json, as one table of 3 x 256 floats.
struct PixelTable {
  float value[3][256];

  /// value[c][u8] = (f32(u8 * rescale_factor) - f32(mean[c])) / f32(std[c]), as the reference's
  /// Pillow path rounds. Throws Error(ERR_INVALID_ARGUMENT) for numbers that are not finite or std
  /// of 0.
  static PixelTable make(std::span<const double, 3> mean, std::span<const double, 3> std,
                         double rescale_factor = 1.0 / 255.0);
};

/// Writes patch rows [first, first + count) of the item to out [count, 1176], in the order of
/// Qwen2VLImageProcessor: rows grouped by 2x2 merge block, columns channel, time, y, x. Throws
/// Error(ERR_INVALID_ARGUMENT) for an item that breaks its rules or rows that it does not have.
void extract_patches(const VisionItem& item, const PixelTable& table, int64_t first, int64_t count,
                     float* out);

}  // namespace qvl
