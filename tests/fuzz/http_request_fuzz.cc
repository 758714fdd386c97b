// Any bytes as a request to the dashboard: the parser refuses them, or there is
// an answer with a code that Site gives, and to HEAD one without content. The
// first byte says how long the pieces are in which they come.

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "launcher/monitor/http_exchange.h"

namespace {

namespace http = boost::beast::http;
using catena::launcher::HttpParser;
using catena::launcher::HttpResponse;
using catena::launcher::Site;

void check(const HttpParser::value_type& request) {
  static Site site("no-such-run");
  const HttpResponse response = respond(site, request);
  const bool head = request.method() == http::verb::head;
  if (head && !response.body().empty()) std::abort();
  switch (response.result_int()) {
    case 200:
    case 304:
    case 403:
    case 404:
    case 405:
      return;
    default:
      std::abort();
  }
}

/// Whether a whole request has come.
bool read(HttpParser& parser, const char* bytes, std::size_t size,
          std::size_t piece) {
  std::string held;
  for (std::size_t at = 0; at < size && !parser.is_done(); at += piece) {
    held.append(bytes + at, std::min(piece, size - at));
    boost::system::error_code error;
    held.erase(
        0, parser.put(boost::asio::buffer(held.data(), held.size()), error));
    if (error && error != http::error::need_more) return false;
  }
  return parser.is_done();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size == 0) return 0;
  HttpParser parser;
  parser.eager(true);
  catena::launcher::limit(parser);
  const char* bytes = reinterpret_cast<const char*>(data + 1);
  if (read(parser, bytes, size - 1, 1 + std::size_t{data[0]})) {
    check(parser.get());
  }
  return 0;
}
