// Any bytes as a config.json: a model, or an Error; nothing else.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "runtime/base/error.h"
#include "training/checkpoint/hugging_face.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  try {
    (void)catena::model_from_hugging_face(
        {reinterpret_cast<const char*>(data), size}, "config.json");
  } catch (const catena::Error&) {
  }
  return 0;
}
