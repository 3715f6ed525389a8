// The engine over device 'cuda' as a service uses it: from several threads, with models that come
// and go beside each other. What races is found under ThreadSanitizer.

#include "engine/engine.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>

#include "backend/cuda/cuda_backend.h"
#include "check.h"
#include "io/patterns.h"
#include "model/formula_checkpoint.h"
#include "model/model_runner.h"

using namespace qvl;
using namespace qvl::test;

namespace {

ModelConfig small_config() {
  ModelConfig config = tiny_config();
  config.hidden_size = 128;  // 4 heads of 32
  config.mrope_section = {4, 6, 6};
  config.vision.embed_dim = 64;  // 2 heads of 32
  config.vision.out_dim = config.hidden_size;
  return config;
}

/// A checkpoint's file, for loading it again and again.
class File {
 public:
  explicit File(const ModelConfig& config) : path_(folder_.path("model.safetensors")) {
    write_safetensors(path_, formula_tensors(config, {1, 3.4, "BF16", false}));
  }
  std::unique_ptr<Model> load(std::shared_ptr<Backend> backend,
                              const CancellationFlag* cancellation = nullptr) const {
    return load_qwen2_vl(Checkpoint::open({path_}), small_config(), std::move(backend),
                         {48, DType::kBF16, 96, true, DType::kBF16}, {}, cancellation);
  }

 private:
  TempFolder folder_;
  std::string path_;
};

std::shared_ptr<Backend> cuda() { return create_cuda_backend({0, DType::kBF16}); }

class Recorder final : public GenerationListener {
 public:
  void on_token(const TokenOutput& token) override {
    const std::lock_guard lock(mutex_);
    answer_.push_back(token.id);
    changed_.notify_all();
  }
  void on_finish(FinishReason reason, const GenerationStats&) override {
    const std::lock_guard lock(mutex_);
    reason_ = reason;
    has_ended_ = true;
    changed_.notify_all();
  }
  void on_error(std::exception_ptr error) override {
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
    has_ended_ = true;
    changed_.notify_all();
  }

  void wait_for_tokens(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return has_ended_ || answer_.size() >= count; });
  }
  /// Throws what ended the request.
  std::vector<int32_t> answer(FinishReason* reason = nullptr) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return has_ended_; });
    if (error_ != nullptr) std::rethrow_exception(error_);
    if (reason != nullptr) *reason = reason_;
    return answer_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> answer_;
  FinishReason reason_ = FinishReason::kStop;
  std::exception_ptr error_;
  bool has_ended_ = false;
};

/// Words that `seed` chooses, around an image for every other seed.
GenerationRequest request_of(uint32_t seed, int64_t max_tokens) {
  const ModelConfig config = small_config();
  std::mt19937 random(seed);
  GenerationRequest request;
  const auto words = [&](uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      request.prompt.push_back(static_cast<int32_t>(random() % 58));
    }
  };
  words(3 + static_cast<uint32_t>(random() % 30));
  if (seed % 2 == 0) {
    request.items.push_back(make_image(picture("waves", 56, 84, seed)));
    request.prompt.insert(request.prompt.end(), static_cast<size_t>(request.items[0].num_tokens()),
                          config.image_token_id);
    words(4);
  }
  request.max_tokens = max_tokens;
  request.sampling.temperature = seed % 3 == 0 ? 1.f : 0.f;
  return request;
}

std::vector<int32_t> answer_of(Engine& engine, const GenerationRequest& request) {
  const auto recorder = std::make_shared<Recorder>();
  engine.submit(request, recorder);
  return recorder->answer();
}

}  // namespace

TEST(threads_submit_cancel_clear_and_look_at_one_model) {
  const ModelConfig config = small_config();
  const File file(config);
  const std::shared_ptr<Backend> backend = cuda();
  Engine engine(file.load(backend), {});
  GenerationRequest request = request_of(4, 12);
  request.use_cache = false;
  const std::vector<int32_t> before = answer_of(engine, request);
  std::atomic<int> wrong{0};
  std::vector<std::thread> clients;
  for (uint32_t client = 0; client < 3; ++client) {
    clients.emplace_back([&, client] {
      for (uint32_t i = 0; i < 5; ++i) {
        const auto recorder = std::make_shared<Recorder>();
        const uint64_t id = engine.submit(request_of(1 + i + 10 * client, 10), recorder);
        const bool is_dropped = (i + client) % 3 == 0;
        if (is_dropped) {
          recorder->wait_for_tokens(2);
          engine.cancel(id);
        }
        if (i == 2) engine.clear_cache();
        if (backend->available_bytes() <= 0) ++wrong;
        FinishReason reason{};
        const std::vector<int32_t> answer = recorder->answer(&reason);
        const bool is_whole = reason == FinishReason::kLength && answer.size() == 10;
        const bool is_part = is_dropped && reason == FinishReason::kCancelled;
        if (!is_whole && !is_part) ++wrong;
        for (const int32_t token : answer) {
          if (token < 0 || token >= config.vocab_size) ++wrong;
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  CHECK_EQ(wrong.load(), 0);
  engine.clear_cache();
  CHECK_EQ(engine.metrics().kv_blocks_used, 0);
  // Nobody has written to what is not theirs.
  CHECK(answer_of(engine, request) == before);
}

TEST(models_come_and_go_beside_one_that_answers) {
  const File file(small_config());
  const std::shared_ptr<Backend> backend = cuda();
  Engine engine(file.load(backend), {});
  GenerationRequest request = request_of(2, 40);
  request.use_cache = false;
  const std::vector<int32_t> expected = answer_of(engine, request);
  const int64_t available = backend->available_bytes();

  const auto running = std::make_shared<Recorder>();
  engine.submit(request, running);
  std::atomic<bool> is_same{false};
  std::thread loading([&] {
    Engine other(file.load(cuda()), {});
    is_same = answer_of(other, request) == expected;
    const auto unfinished = std::make_shared<Recorder>();
    other.submit(request, unfinished);
    unfinished->wait_for_tokens(1);
    other.shutdown();
  });
  std::thread cancelling([&] {
    CancellationFlag cancellation;
    cancellation.cancel();
    try {
      file.load(cuda(), &cancellation);
    } catch (const Cancelled&) {
    }
  });
  loading.join();
  cancelling.join();
  CHECK(running->answer() == expected);
  CHECK(is_same);
  // All that the others had is back.
  CHECK_EQ(backend->available_bytes(), available);
}

TEST(an_engine_that_ends_in_the_middle_gives_all_memory_back) {
  const File file(small_config());
  const std::shared_ptr<Backend> watcher = cuda();
  const int64_t before = watcher->available_bytes();
  {
    Engine engine(file.load(cuda()), {});
    std::vector<std::shared_ptr<Recorder>> recorders;
    for (uint32_t seed = 1; seed <= 4; ++seed) {
      recorders.push_back(std::make_shared<Recorder>());
      engine.submit(request_of(seed, 100), recorders.back());
    }
    recorders[0]->wait_for_tokens(2);
    engine.shutdown();
    for (const auto& recorder : recorders) CHECK_ERROR("ERR_DISPOSED", recorder->answer());
  }
  CHECK_EQ(watcher->available_bytes(), before);
}
