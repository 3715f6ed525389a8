#include "engine/generation.h"

#include <algorithm>
#include <string>

#include "common/error.h"
#include "engine/sampler.h"
#include "model/positions.h"

namespace qvl {
namespace {

constexpr int64_t kSideMultiple = kPatchSize * kMergeSize;

[[noreturn]] void refuse(const std::string& path, const std::string& message) {
  throw Error("ERR_INVALID_ARGUMENT", message, {{"path", path}});
}

void check_ids(const GenerationRequest& request, int64_t vocab_size) {
  if (request.prompt.empty()) refuse("prompt", "the prompt is empty; it needs at least one token");
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    const int32_t id = request.prompt[i];
    if (id >= 0 && id < vocab_size) continue;
    refuse("prompt", "token " + std::to_string(i) + " of the prompt has id " + std::to_string(id) +
                         "; the model's vocabulary is 0 to " + std::to_string(vocab_size - 1) +
                         ": use the tokenizer of the same checkpoint");
  }
}

void check_options(const GenerationRequest& request, int64_t vocab_size) {
  check_sampling_options(request.sampling, vocab_size);
  if (request.max_tokens < 1) {
    refuse("maxTokens",
           "maxTokens is " + std::to_string(request.max_tokens) + "; it must be at least 1");
  }
  if (request.top_logits < 0 || request.top_logits > vocab_size) {
    refuse("topLogits", "topLogits is " + std::to_string(request.top_logits) +
                            "; it must be between 0 and the vocabulary's size, " +
                            std::to_string(vocab_size));
  }
  if (request.max_draft_tokens < 0 || request.max_draft_tokens > kMaxDraftTokens) {
    refuse("maxDraftTokens", "maxDraftTokens is " + std::to_string(request.max_draft_tokens) +
                                 "; it must be between 0 (off) and " +
                                 std::to_string(kMaxDraftTokens));
  }
  if (request.grammar == nullptr) return;
  const size_t grammar_vocab_size = request.grammar->vocabulary().size();
  if (grammar_vocab_size != static_cast<size_t>(vocab_size)) {
    refuse("grammar", "the grammar was made for a vocabulary of " +
                          std::to_string(grammar_vocab_size) + " tokens; the model's has " +
                          std::to_string(vocab_size) + ": make it for this model");
  }
}

void check_item(const VisionItem& item, size_t index) {
  const std::string name = "visual item " + std::to_string(index);
  if (item.frames.empty()) refuse("items", name + " has no frames; it needs at least one");
  const RgbImage* first = item.frames.front().get();
  for (const auto& frame : item.frames) {
    if (frame == nullptr) refuse("items", name + " has a frame without pixels");
    if (frame->width != first->width || frame->height != first->height) {
      refuse("items", name + " has frames of different sizes; resize them to one size");
    }
    const int64_t width = frame->width;
    const int64_t height = frame->height;
    if (width < 1 || height < 1 || width % kSideMultiple != 0 || height % kSideMultiple != 0) {
      refuse("items", name + " is " + std::to_string(width) + " x " + std::to_string(height) +
                          " pixels; both sides must be multiples of 28");
    }
    const uint64_t expected = static_cast<uint64_t>(width) * static_cast<uint64_t>(height) * 3;
    if (frame->pixels.size() != expected) {
      refuse("items", name + " has " + std::to_string(frame->pixels.size()) +
                          " bytes of pixels; its size needs " + std::to_string(expected));
    }
  }
}

void check_context(int64_t num_prompt, int64_t num_vision, int64_t limit) {
  if (num_prompt < limit) return;
  throw Error("ERR_CONTEXT_LENGTH",
              "the prompt has " + std::to_string(num_prompt) + " tokens, " +
                  std::to_string(num_vision) + " of them visual; the context of " +
                  std::to_string(limit) +
                  " tokens must also hold the answer: shorten the text, lower maxPixels or the "
                  "number of frames, or load the model with a larger contextSize",
              {{"prompt_tokens", num_prompt}, {"image_tokens", num_vision}, {"limit", limit}});
}

void check_memory(int64_t required, int64_t available) {
  if (required <= available) return;
  throw Error("ERR_OUT_OF_MEMORY",
              "prompt and answer need " + std::to_string(required) +
                  " tokens in the KV cache; all of it holds " + std::to_string(available) +
                  ": lower maxTokens or maxPixels, or load the model with a larger memoryLimit",
              {{"required_tokens", required}, {"available_tokens", available}});
}

/// Where each item's pads are. compute_positions() has checked that runs and items match.
std::vector<VisionRun> find_runs(std::span<const int32_t> prompt, std::span<const VisionItem> items,
                                 const ModelConfig& config) {
  std::vector<VisionRun> runs;
  size_t next_of_kind[2] = {0, 0};  // images, videos
  const auto next_item = [&](bool is_video) {
    size_t& next = next_of_kind[is_video ? 1 : 0];
    while (items[next].is_video != is_video) ++next;
    return next++;
  };
  for (size_t i = 0; i < prompt.size();) {
    const bool is_video = prompt[i] == config.video_token_id;
    if (!is_video && prompt[i] != config.image_token_id) {
      ++i;
      continue;
    }
    const size_t index = next_item(is_video);
    const VisionItem& item = items[index];
    runs.push_back({static_cast<int64_t>(i), item.num_tokens(), index, item.grid_t(), item.grid_h(),
                    item.grid_w(), content_hash(item)});
    i += static_cast<size_t>(item.num_tokens());
  }
  return runs;
}

}  // namespace

Generation::Generation(GenerationRequest submitted, std::shared_ptr<GenerationListener> to,
                       const ModelConfig& config, const GenerationLimits& limits)
    : request(std::move(submitted)), listener(std::move(to)) {
  if (listener == nullptr) refuse("listener", "a request needs a listener");
  check_options(request, config.vocab_size);
  check_ids(request, config.vocab_size);
  if (request.grammar != nullptr) constraint.emplace(request.grammar, request.stop_ids);
  tokens = std::move(request.prompt);
  num_prompt = num_tokens = static_cast<int64_t>(tokens.size());
  const int64_t num_vision = std::count_if(tokens.begin(), tokens.end(), [&](int32_t token) {
    return token == config.image_token_id || token == config.video_token_id;
  });
  check_context(num_prompt, num_vision, limits.max_context);
  max_answer = std::min(request.max_tokens, limits.max_context - num_prompt);

  std::vector<VisionGrid> grids;
  for (size_t i = 0; i < request.items.size(); ++i) {
    const VisionItem& item = request.items[i];
    check_item(item, i);
    grids.push_back({item.grid_t(), item.grid_h(), item.grid_w(), item.is_video});
  }
  positions = compute_positions(tokens, grids, config.image_token_id, config.video_token_id);
  vision_runs = find_runs(tokens, request.items, config);
  if (!vision_runs.empty()) vision_end = vision_runs.back().end();
  embeddings.resize(request.items.size());
  uses_cache = request.use_cache;
  priority = request.priority;

  max_cached = num_prompt + max_answer - 1;  // the last token is never fed back
  check_memory(max_cached, limits.cache_tokens);
  if (request.max_draft_tokens > 0) {
    drafter.emplace(request.max_draft_tokens, config.image_token_id, config.video_token_id);
  }
  stats.prompt_tokens = num_prompt;
  stats.reused_items.assign(request.items.size(), true);
}

void Generation::append(int32_t token) {
  const int32_t position = static_cast<int32_t>(tokens.size()) + positions.delta;
  tokens.push_back(token);
  for (auto* axis : {&positions.t, &positions.h, &positions.w}) axis->push_back(position);
  ++stats.completion_tokens;
  if (drafter) drafter->note(token);
}

void Generation::guess_draft() {
  if (!drafter) return;
  // The row behind the last guess gives a token too, and behind a stop id nothing is wanted.
  draft = drafter->guess(tokens, max_answer - num_answer() - 1);
  const auto stop =
      std::find_if(draft.begin(), draft.end(), [&](int32_t token) { return is_stop(token); });
  draft = draft.first(static_cast<size_t>(stop - draft.begin()));
  num_draft = static_cast<int64_t>(draft.size());
}

bool Generation::is_stop(int32_t token) const {
  return std::find(request.stop_ids.begin(), request.stop_ids.end(), token) !=
         request.stop_ids.end();
}

BlockContent Generation::block_content(int64_t index) const {
  const int64_t first = index * kKvBlockTokens;
  BlockContent content;
  content.tokens =
      std::span<const int32_t>(tokens).subspan(static_cast<size_t>(first), kKvBlockTokens);
  for (const VisionRun& run : vision_runs) {
    const int64_t begin = std::max(run.first_token, first);
    const int64_t end = std::min(run.end(), first + kKvBlockTokens);
    if (begin >= end) continue;
    content.visual.push_back({begin - first, end - begin, run.content, run.grid_t, run.grid_h,
                              run.grid_w, begin - run.first_token});
  }
  return content;
}

const VisionRun* Generation::next_to_encode() const {
  for (const VisionRun& run : vision_runs) {
    if (run.end() > num_cached && embeddings[run.item].buffer == nullptr) return &run;
  }
  return nullptr;
}

bool Generation::advance_vision(Model& model, EmbeddingCache& cache) {
  if (encoding == nullptr) {
    encoding_run = next_to_encode();
    if (encoding_run == nullptr) return true;
    if (uses_cache) {
      if (const auto known = cache.find(encoding_run->content)) {
        take_embedding(*encoding_run, *known);
        return next_to_encode() == nullptr;
      }
    }
    stats.reused_items[encoding_run->item] = false;
    encoding = model.begin_vision(std::move(request.items[encoding_run->item]));
  }
  if (!encoding->advance()) return false;
  VisionEmbedding embedding = encoding->take_result();
  encoding.reset();
  take_embedding(*encoding_run, embedding);
  if (uses_cache) cache.insert(encoding_run->content, embedding);
  return next_to_encode() == nullptr;
}

void Generation::take_embedding(const VisionRun& run, VisionEmbedding embedding) {
  if (embedding.rows.rows != run.count) {
    throw Error("ERR_INTERNAL", "the vision tower gave " + std::to_string(embedding.rows.rows) +
                                    " tokens for an item of " + std::to_string(run.count) +
                                    ": please report this");
  }
  embeddings[run.item] = std::move(embedding);
  vision_end = 0;
  for (const VisionRun& other : vision_runs) {
    if (embeddings[other.item].buffer == nullptr) vision_end = other.end();
  }
}

void Generation::note_computed(int64_t first_token, int64_t count) {
  const int64_t taken_over = std::min(first_token, num_prompt) - num_seen;
  if (taken_over > 0) stats.cached_tokens += taken_over;
  num_seen = std::max(num_seen, first_token + count);
}

std::vector<VisionSpan> Generation::vision_spans(int64_t first, int64_t count) const {
  std::vector<VisionSpan> spans;
  for (const VisionRun& run : vision_runs) {
    const int64_t begin = std::max(run.first_token, first);
    const int64_t end = std::min(run.end(), first + count);
    if (begin >= end) continue;
    spans.push_back({begin - first, end - begin, &embeddings[run.item], begin - run.first_token});
  }
  return spans;
}

}  // namespace qvl
