#include "parallel/tag.h"

#include <gtest/gtest.h>

#include "parallel/complaint.h"

namespace catena {
namespace {

TEST(TagTest, AnExchangeIsFoundInWhatIsSaidOfIt) {
  const Tag inside{
      .phase = Phase::kDispatch, .layer = 2, .iteration = 1, .chunk = 0};
  for (const Tag& tag : {inside, Tag{.phase = Phase::kControl},
                         Tag{.phase = Phase::kCombineGradient, .layer = 3}}) {
    for (const auto collective :
         {Collective::kAllToAllV, Collective::kAllGatherV,
          Collective::kReduceScatter, Collective::kAllReduce,
          Collective::kBroadcast, Collective::kGatherV, Collective::kBarrier}) {
      const auto exchange = packed(collective, tag);
      const std::string text = has_ended(2, 0, exchange);
      EXPECT_EQ(exchange_in(text), text_of(exchange));
      EXPECT_EQ(exchange_in(text + "; look for what (if anything) stopped it"),
                text_of(exchange));
    }
  }
}

TEST(TagTest, OfSeveralTheLastIsMeant) {
  EXPECT_EQ(exchange_in("rank 1 gave up: barrier (plan), then in gather_v "
                        "(control), (no more)"),
            "gather_v (control)");
}

TEST(TagTest, WhereThereIsNoneNothingIsFound) {
  for (const char* text : {"", "rank 2 has died", "barrier", "barrier (control",
                           "a bad shard (data/a.bin)"}) {
    EXPECT_EQ(exchange_in(text), "") << text;
  }
}

}  // namespace
}  // namespace catena
