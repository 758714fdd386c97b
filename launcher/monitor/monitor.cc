#include "launcher/monitor/monitor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>
#include <charconv>
#include <csignal>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

#include "launcher/monitor/http_exchange.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kMostConnections = 64;
constexpr std::chrono::seconds kForRequest(5), kIdle(15), kForAnswer(10);
constexpr std::chrono::milliseconds kAfterTrouble(100);
constexpr int kNice = 10;
constexpr unsigned kVersion = 11;  // HTTP/1.1

std::string text_of(const tcp::endpoint& endpoint) {
  std::ostringstream text;
  text << endpoint;
  return text.str();
}

/// One connection: a request, its answer, and the next one. It lives as long
/// as something of it is under way.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Site& site, int& open)
      : stream_(std::move(socket)), site_(site), open_(open) {
    ++open_;
  }
  ~Connection() { --open_; }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void begin(std::chrono::seconds patience = kForRequest) {
    parser_.emplace();
    limit(*parser_);
    stream_.expires_after(patience);
    http::async_read(
        stream_, buffer_, *parser_,
        [self = shared_from_this()](error_code error, std::size_t) {
          self->answer(error);
        });
  }

 private:
  void answer(error_code error) {
    if (error) return refuse(error);
    try {
      response_ = respond(site_, parser_->get());
    } catch (const std::exception& problem) {
      log::warning("dashboard: {}", problem.what());
      response_ = HttpResponse(http::status::internal_server_error, kVersion);
      response_.prepare_payload();
    }
    send();
  }

  // A request that is none, or too large, gets its code; one that never came
  // whole is closed.
  void refuse(error_code error) {
    if (error == http::error::end_of_stream || error == beast::error::timeout ||
        error.category() !=
            make_error_code(http::error::bad_method).category()) {
      return;
    }
    const bool too_large = error == http::error::header_limit ||
                           error == http::error::body_limit ||
                           error == http::error::buffer_overflow;
    response_ = HttpResponse(
        too_large ? http::status::payload_too_large : http::status::bad_request,
        kVersion);
    response_.keep_alive(false);
    response_.prepare_payload();
    send();
  }

  void send() {
    stream_.expires_after(kForAnswer);
    http::async_write(
        stream_, response_,
        [self = shared_from_this()](error_code error, std::size_t) {
          if (error) return;
          if (self->response_.keep_alive()) {
            self->begin(kIdle);
          } else {
            self->stream_.socket().shutdown(tcp::socket::shutdown_send, error);
          }
        });
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_{2 * kMostHeaderBytes};
  std::optional<HttpParser> parser_;
  HttpResponse response_;
  Site& site_;
  int& open_;
};

}  // namespace

class Monitor::Service {
 public:
  Service(const std::filesystem::path& run, const MonitorPlace& place)
      : site_(run), acceptor_(context_) {
    error_code error;
    const auto address = asio::ip::make_address(place.address, error);
    if (error) {
      fail(ErrorKind::kUsage,
           "dashboard: {} is no numeric address, such as 127.0.0.1 or 0.0.0.0",
           place.address);
    }
    const tcp::endpoint wanted(address, place.port);
    acceptor_.open(wanted.protocol(), error);
    if (!error) {
      ::fcntl(acceptor_.native_handle(), F_SETFD, FD_CLOEXEC);
      acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    }
    if (!error) acceptor_.bind(wanted, error);
    if (!error) acceptor_.listen(kMostConnections, error);
    if (error) {
      fail(ErrorKind::kIo,
           "dashboard: cannot listen on {}: {}; choose another port, or 0 for "
           "one that is free",
           text_of(wanted), error.message());
    }
    at_ = acceptor_.local_endpoint();
    accept();
    thread_ = std::thread([this] { serve(); });
  }
  ~Service() {
    context_.stop();
    thread_.join();
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  [[nodiscard]] const tcp::endpoint& at() const { return at_; }

 private:
  // Signals are for the program's own thread.
  void serve() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    // Of this thread alone, on Linux.
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
    context_.run();
  }

  void accept() {
    acceptor_.async_accept([this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) return accept_later();
      ::fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC);
      if (open_ < kMostConnections) {
        std::make_shared<Connection>(std::move(socket), site_, open_)->begin();
      }
      accept();
    });
  }

  // Out of descriptors, say.
  void accept_later() {
    pause_.expires_after(kAfterTrouble);
    pause_.async_wait([this](error_code error) {
      if (!error) accept();
    });
  }

  int open_ = 0;
  Site site_;
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer pause_{context_};
  tcp::endpoint at_;
  std::thread thread_;
};

Monitor::Monitor(const std::filesystem::path& run, const MonitorPlace& place)
    : service_(std::make_unique<Service>(run, place)) {}

Monitor::~Monitor() = default;

std::uint16_t Monitor::port() const { return service_->at().port(); }

std::string Monitor::address() const {
  return fmt::format("http://{}/", text_of(service_->at()));
}

std::string Monitor::announcement() const {
  return fmt::format("dashboard at {}{}", address(),
                     service_->at().address().is_loopback()
                         ? ""
                         : ", for everybody who reaches it, logs included, "
                           "without a password");
}

MonitorPlace parse_place(std::string_view text, const char* from) {
  MonitorPlace place;
  std::string_view port = text;
  if (const auto colon = text.rfind(':'); colon != std::string_view::npos) {
    std::string_view address = text.substr(0, colon);
    port.remove_prefix(colon + 1);
    if (address.starts_with('[') && address.ends_with(']')) {
      address = address.substr(1, address.size() - 2);
    }
    place.address = address;
    error_code error;
    static_cast<void>(asio::ip::make_address(place.address, error));
    if (error) {
      fail(ErrorKind::kUsage,
           "{}={}: {} is no numeric address, such as 0.0.0.0", from, text,
           place.address);
    }
  }
  const char* end = port.data() + port.size();
  const auto [stop, error] = std::from_chars(port.data(), end, place.port);
  if (error != std::errc() || stop != end) {
    fail(ErrorKind::kUsage, "{}={}: a port is a number from 0 to 65535", from,
         text);
  }
  return place;
}

}  // namespace catena::launcher
