#include "addon/image_wrap.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "addon/addon.h"
#include "addon/async.h"
#include "addon/convert.h"
#include "addon/errors.h"

namespace qvl::addon {
namespace {

// Marks our objects, so that no other wrapped object is taken for an image.
constexpr napi_type_tag kImageTag = {0x5d1f4f1a9b0c4e21, 0x8e6a7b3cd2f04917};

constexpr int64_t kMaxSide = 1 << 20;
constexpr int kSideMultiple = kPatchSize * kMergeSize;

struct Resize {
  int width;
  int height;
  bool is_float;  // torchvision's filter for video frames instead of Pillow's
};

/// 'pillow', which is the default, or 'torchvision'.
bool read_filter(const ObjectReader& reader) {
  const Napi::Value value = reader.value("filter");
  if (value.IsUndefined()) return false;
  const std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (name != "pillow" && name != "torchvision") {
    throw_invalid(reader.path("filter"), "'pillow' or 'torchvision'");
  }
  return name == "torchvision";
}

std::vector<Resize> read_sizes(Napi::Value value) {
  if (!value.IsArray()) throw_invalid("sizes", "an array");
  const auto array = value.As<Napi::Array>();
  std::vector<Resize> sizes;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const ObjectReader reader(array.Get(i), "sizes[" + std::to_string(i) + "]");
    sizes.push_back({static_cast<int>(reader.integer("width", 1, kMaxSide)),
                     static_cast<int>(reader.integer("height", 1, kMaxSide)), read_filter(reader)});
  }
  return sizes;
}

AlphaRule read_alpha_rule(Napi::Value value) {
  const std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (name == "composite") return AlphaRule::kCompositeOnWhite;
  if (name == "drop") return AlphaRule::kDrop;
  throw_invalid("alpha", "'composite' or 'drop'");
}

Napi::Uint8Array read_bytes(const ObjectReader& reader, const char* key) {
  const Napi::Value value = reader.value(key);
  if (value.IsTypedArray()) {
    const napi_typedarray_type type = value.As<Napi::TypedArray>().TypedArrayType();
    if (type == napi_uint8_array || type == napi_uint8_clamped_array) {
      return value.As<Napi::Uint8Array>();
    }
  }
  throw_invalid(reader.path(key), "a Uint8Array");
}

/// Not zeroed first: of a large picture they are hundreds of megabytes.
struct Patches {
  std::shared_ptr<float[]> values;
  size_t count;
};

/// Over the same memory, because copying that much would hold the event loop; over a copy where the
/// runtime allows no memory of others.
Napi::Value to_float32_array(Napi::Env env, Patches patches) {
  const size_t bytes = patches.count * sizeof(float);
  auto owner = std::make_unique<std::shared_ptr<float[]>>(patches.values);
  const napi_finalize release = [](napi_env, void*, void* hint) {
    delete static_cast<std::shared_ptr<float[]>*>(hint);
  };
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(env, patches.values.get(), bytes,
                                                              release, owner.get(), &buffer);
  if (status == napi_ok) {
    static_cast<void>(owner.release());  // the buffer's from now on
    return Napi::Float32Array::New(env, patches.count, Napi::ArrayBuffer(env, buffer), 0);
  }
  if (status != napi_no_external_buffers_allowed) throw Napi::Error::New(env);
  Napi::Float32Array copy = Napi::Float32Array::New(env, patches.count);
  std::copy_n(patches.values.get(), patches.count, copy.Data());
  return copy;
}

int64_t byte_size(const RgbImage& image) { return static_cast<int64_t>(image.pixels.size()); }

}  // namespace

Napi::Function ImageWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeImage",
                     {InstanceAccessor<&ImageWrap::width>("width", napi_enumerable),
                      InstanceAccessor<&ImageWrap::height>("height", napi_enumerable),
                      InstanceMethod<&ImageWrap::to_rgb>("toRgb", napi_default_method)});
}

Napi::Object ImageWrap::create(Napi::Env env, std::shared_ptr<const RgbImage> image) {
  Addon& addon = Addon::of(env);
  return addon.construct(addon.image_constructor, addon.pending_image, std::move(image));
}

std::shared_ptr<const RgbImage> ImageWrap::read(Napi::Value value, const std::string& path) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kImageTag)) {
    throw_invalid(path, "an image that prepareImage() made");
  }
  return Unwrap(value.As<Napi::Object>())->image_;
}

ImageWrap::ImageWrap(const Napi::CallbackInfo& info)
    : ObjectWrap(info), image_(std::move(Addon::of(info.Env()).pending_image)) {
  if (image_ == nullptr) {
    throw Napi::TypeError::New(info.Env(), "NativeImage is made by prepareImage() only.");
  }
  info.This().As<Napi::Object>().TypeTag(&kImageTag);
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), byte_size(*image_));
}

void ImageWrap::Finalize(Napi::BasicEnv env) {
  if (image_) Napi::MemoryManagement::AdjustExternalMemory(env, -byte_size(*image_));
}

Napi::Value ImageWrap::width(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), image_->width);
}

Napi::Value ImageWrap::height(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), image_->height);
}

Napi::Value ImageWrap::to_rgb(const Napi::CallbackInfo& info) {
  Napi::Uint8Array copy = Napi::Uint8Array::New(info.Env(), image_->pixels.size());
  std::copy(image_->pixels.begin(), image_->pixels.end(), copy.Data());
  return copy;
}

VisionItem read_vision_item(Napi::Value value, const std::string& path) {
  const ObjectReader reader(value, path);
  VisionItem item;
  item.is_video = reader.boolean("isVideo");
  const Napi::Array frames = reader.array("frames");
  const std::string frames_path = reader.path("frames");
  for (uint32_t i = 0; i < frames.Length(); ++i) {
    item.frames.push_back(
        ImageWrap::read(frames.Get(i), frames_path + "[" + std::to_string(i) + "]"));
  }
  if (item.frames.empty()) throw_invalid(frames_path, "at least one frame");
  if (!item.is_video && item.frames.size() > 1)
    throw_invalid(frames_path, "one frame, as an image");
  const RgbImage& first = *item.frames.front();
  if (first.width % kSideMultiple != 0 || first.height % kSideMultiple != 0) {
    throw_invalid(frames_path, "resized to multiples of 28 pixels");
  }
  for (const auto& frame : item.frames) {
    if (frame->width != first.width || frame->height != first.height) {
      throw_invalid(frames_path, "frames of one size");
    }
  }
  return item;
}

Napi::Value prepare_image(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const ObjectReader reader(info[0], "pixels");
  const Napi::Uint8Array data = read_bytes(reader, "data");
  RawPixels pixels;
  pixels.data = data.Data();
  pixels.size_bytes = data.ByteLength();
  pixels.width = static_cast<int>(reader.integer("width", 1, kMaxSide));
  pixels.height = static_cast<int>(reader.integer("height", 1, kMaxSide));
  pixels.channels = static_cast<int>(reader.integer("channels", 1, 4));
  pixels.cmyk = reader.boolean("cmyk");
  const AlphaRule alpha = read_alpha_rule(info[1]);
  std::vector<Resize> sizes = read_sizes(info[2]);

  // The reference keeps the caller's bytes alive, and uncopied, until the promise is settled.
  auto keep_alive = std::make_shared<Napi::Reference<Napi::Uint8Array>>(Napi::Persistent(data));
  return run_async<std::shared_ptr<const RgbImage>>(
      env, "qwen2-vl.prepareImage",
      [pixels, alpha, sizes = std::move(sizes)] {
        RgbImage image = qvl::to_rgb(pixels, alpha);
        for (const Resize& size : sizes) {
          image = size.is_float ? resize_bicubic_float(image, size.width, size.height)
                                : resize_bicubic(image, size.width, size.height);
        }
        image.content = content_hash(image);
        return std::make_shared<const RgbImage>(std::move(image));
      },
      [keep_alive](Napi::Env settled, std::shared_ptr<const RgbImage> image) {
        return ImageWrap::create(settled, std::move(image));
      });
}

Napi::Value extract_patches(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const VisionItem item = read_vision_item(info[0], "item");
  Napi::Object arguments = Napi::Object::New(env);
  arguments.Set("imageMean", info[1]);
  arguments.Set("imageStd", info[2]);
  arguments.Set("rescaleFactor", info[3]);
  const ObjectReader reader(arguments, "arguments");
  const std::array<double, 3> mean = reader.triple("imageMean");
  const std::array<double, 3> std_deviation = reader.triple("imageStd");
  const double rescale_factor = reader.number("rescaleFactor", -1e6, 1e6);
  return run_async<Patches>(
      env, "qwen2-vl.extractPatches",
      [item, mean, std_deviation, rescale_factor] {
        const PixelTable table = PixelTable::make(mean, std_deviation, rescale_factor);
        const auto count = static_cast<size_t>(item.num_patches() * kPatchValues);
        Patches patches{std::make_shared_for_overwrite<float[]>(count), count};
        qvl::extract_patches(item, table, 0, item.num_patches(), patches.values.get());
        return patches;
      },
      to_float32_array);
}

}  // namespace qvl::addon
