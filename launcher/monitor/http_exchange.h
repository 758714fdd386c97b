#pragma once

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "launcher/monitor/site.h"

namespace catena::launcher {

using HttpParser =
    boost::beast::http::request_parser<boost::beast::http::empty_body>;
using HttpResponse =
    boost::beast::http::response<boost::beast::http::string_body>;

inline constexpr std::uint32_t kMostHeaderBytes = 8 << 10;

/// Takes no more than kMostHeaderBytes, and no body.
void limit(HttpParser& parser);

/// The site's answer to a request that was read whole, ready to be sent; to
/// HEAD without its content. Headers keep a browser from running, framing or
/// loading anything that is not the site's own.
[[nodiscard]] HttpResponse respond(Site& site,
                                   const HttpParser::value_type& request);

}  // namespace catena::launcher
