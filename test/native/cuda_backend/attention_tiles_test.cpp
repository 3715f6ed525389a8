#include "backend/cuda/attention_tiles.h"

#include <sstream>

#include "check.h"

using namespace qvl;

namespace {

std::string text(const std::vector<PrefillTile>& tiles) {
  std::ostringstream out;
  for (const PrefillTile& tile : tiles) out << tile.sequence << "@" << tile.first_token << " ";
  return out.str();
}

/// query rows <- key rows
std::string text(const std::vector<SegmentTile>& tiles) {
  std::ostringstream out;
  for (const SegmentTile& tile : tiles) {
    out << tile.first_query << "+" << tile.num_queries << "<-" << tile.first_key << "+"
        << tile.num_keys << " ";
  }
  return out.str();
}

}  // namespace

TEST(prefill_tiles_are_of_one_sequence_each_and_begin_with_the_longest) {
  const SequenceSpan sequences[] = {{0, 130, 0, {}}, {130, 1, 100, {}}, {131, 64, 5, {}}};
  CHECK_EQ(text(cuda::prefill_tiles(sequences)), "0@128 1@0 0@64 2@0 0@0 ");
  CHECK_EQ(text(cuda::prefill_tiles({})), "");
}

TEST(segment_tiles_cover_the_queries_of_every_segment) {
  const int32_t segments[] = {0, 70, 70, 74, 274};
  CHECK_EQ(text(cuda::segment_tiles(segments, 0, 274)),
           "74+64<-74+200 138+64<-74+200 202+64<-74+200 266+8<-74+200 0+64<-0+70 64+6<-0+70 "
           "70+4<-70+4 ");
  CHECK_EQ(text(cuda::segment_tiles(segments, 0, 274, kAttentionWideQueries)),
           "74+128<-74+200 202+72<-74+200 0+70<-0+70 70+4<-70+4 ");
}

TEST(segment_tiles_of_some_queries_count_rows_from_the_first_of_them) {
  const int32_t segments[] = {0, 70, 74, 274};
  CHECK_EQ(text(cuda::segment_tiles(segments, 60, 20)), "14+6<-74+200 0+10<-0+70 10+4<-70+4 ");
  CHECK_EQ(text(cuda::segment_tiles(segments, 74, 0)), "");
}
