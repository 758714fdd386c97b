# cmake -DOUTPUT=FILE -DFILES="PATH;TYPE;FILE;PATH;TYPE;FILE;..." -P embed.cmake
# Writes a source file that holds FILES as assets(), see assets.h.
set(arrays "")
set(list "")
set(number 0)
while(FILES)
  list(POP_FRONT FILES path type file)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND arrays
    "constexpr unsigned char kAsset${number}[] = {${bytes}0};\n")
  string(APPEND list "    Asset{\"${path}\", \"${type}\", text(kAsset${number})},\n")
  math(EXPR number "${number} + 1")
endwhile()
file(WRITE ${OUTPUT} "#include \"launcher/monitor/assets.h\"

#include <array>
#include <cstddef>

namespace catena::launcher {
namespace {

${arrays}
template <std::size_t size>
std::string_view text(const unsigned char (&bytes)[size]) {
  return {reinterpret_cast<const char*>(bytes), size - 1};
}

}  // namespace

std::span<const Asset> assets() {
  static const std::array<Asset, ${number}> all = {
${list}  };
  return all;
}

}  // namespace catena::launcher
")
