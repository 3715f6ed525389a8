#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "io/image.h"

namespace qvl::addon {

/// The JavaScript object `NativeImage`: RGB pixels in native memory, whose size V8 is told so that
/// it collects them in time.
class ImageWrap : public Napi::ObjectWrap<ImageWrap> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object create(Napi::Env env, std::shared_ptr<const RgbImage> image);
  /// The image of an object that create() made; throws Error(ERR_INVALID_ARGUMENT) for any other.
  static std::shared_ptr<const RgbImage> read(Napi::Value value, const std::string& path);

  explicit ImageWrap(const Napi::CallbackInfo& info);
  void Finalize(Napi::BasicEnv env) override;

 private:
  Napi::Value width(const Napi::CallbackInfo& info);
  Napi::Value height(const Napi::CallbackInfo& info);
  Napi::Value to_rgb(const Napi::CallbackInfo& info);

  std::shared_ptr<const RgbImage> image_;
};

/// Reads `{ frames: NativeImage[], isVideo }`: at least one frame, all of one size, sides multiples
/// of 28.
VisionItem read_vision_item(Napi::Value value, const std::string& path);

/// prepareImage(pixels, alpha, sizes): to RGB, then one resize a size, off the JavaScript thread.
Napi::Value prepare_image(const Napi::CallbackInfo& info);

/// extractPatches(item, mean, std, rescaleFactor): all patch rows, [patches, 1176].
Napi::Value extract_patches(const Napi::CallbackInfo& info);

}  // namespace qvl::addon
