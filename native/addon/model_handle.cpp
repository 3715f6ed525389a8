#include "addon/model_handle.h"

#include <system_error>
#include <utility>

namespace qvl::addon {

Reaper::~Reaper() {
  for (std::thread& thread : threads_) thread.join();
}

void Reaper::release(std::shared_ptr<ModelHandle> model) {
  // References are counted on the JavaScript thread only, so the count cannot change meanwhile.
  if (model == nullptr || model.use_count() > 1) return;
  std::lock_guard lock(mutex_);
  try {
    threads_.emplace_back([handle = std::move(model)]() mutable { handle.reset(); });
  } catch (const std::system_error&) {
    // No thread to be had: the reference ends here and the model is freed at once.
  }
}

}  // namespace qvl::addon
