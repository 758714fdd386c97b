#include "launcher/monitor/http_exchange.h"

#include <utility>

namespace catena::launcher {
namespace {

namespace http = boost::beast::http;

constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' "
    "data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'";

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

void limit(HttpParser& parser) {
  parser.header_limit(kMostHeaderBytes);
  parser.body_limit(0);
}

HttpResponse respond(Site& site, const HttpParser::value_type& request) {
  SiteResponse answer =
      site.answer({.method = view(request.method_string()),
                   .target = view(request.target()),
                   .host = request.count(http::field::host) == 1
                               ? view(request[http::field::host])
                               : std::string_view(),
                   .if_none_match = view(request[http::field::if_none_match])});
  HttpResponse response(static_cast<http::status>(answer.status),
                        request.version());
  if (!answer.type.empty()) {
    response.set(http::field::content_type, answer.type);
  }
  if (!answer.etag.empty()) response.set(http::field::etag, answer.etag);
  if (answer.status == 405) response.set(http::field::allow, "GET, HEAD");
  response.set(http::field::cache_control, "no-cache");
  response.set("Content-Security-Policy", kPolicy);
  response.set("Cross-Origin-Resource-Policy", "same-origin");
  response.set("Referrer-Policy", "no-referrer");
  response.set("X-Content-Type-Options", "nosniff");
  response.keep_alive(request.keep_alive() && answer.status < 400);
  const auto length = answer.body.size();
  if (request.method() != http::verb::head) {
    response.body() = std::move(answer.body);
  }
  if (answer.status != 304) response.content_length(length);
  return response;
}

}  // namespace catena::launcher
