#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>

namespace catena {

/// A connection to a server on this machine that sends what it is told to.
class HttpClient {
 public:
  explicit HttpClient(std::uint16_t port)
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address),
                           sizeof address) == 0;
  }
  ~HttpClient() { ::close(socket_); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }
  void send(const std::string& bytes) const {
    std::size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t count = ::send(socket_, bytes.data() + sent,
                                   bytes.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return;
      sent += static_cast<std::size_t>(count);
    }
  }
  /// All that comes until it is closed, or nothing comes for `seconds`.
  [[nodiscard]] std::string receive(int seconds = 30) {
    std::string all;
    for (;;) {
      pollfd ready{socket_, POLLIN, 0};
      if (::poll(&ready, 1, seconds * 1000) <= 0) return all + "<open>";
      char piece[4096];
      const ssize_t count = ::recv(socket_, piece, sizeof piece, 0);
      if (count <= 0) return all;
      all.append(piece, static_cast<std::size_t>(count));
    }
  }

 private:
  int socket_;
  bool connected_ = false;
};

/// The content that a server answers with; "" where nobody answers.
inline std::string http_get(std::uint16_t port, const std::string& target) {
  HttpClient client(port);
  if (!client.connected()) return "";
  client.send("GET " + target +
              " HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
  const std::string answer = client.receive();
  const auto begin = answer.find("\r\n\r\n");
  return begin == std::string::npos ? "" : answer.substr(begin + 4);
}

/// The port of the first "http://127.0.0.1:PORT/" in a text; 0: there is none.
inline std::uint16_t port_in(const std::string& text) {
  const std::string before = "http://127.0.0.1:";
  const auto begin = text.find(before);
  if (begin == std::string::npos) return 0;
  const auto end = text.find('/', begin + before.size());
  if (end == std::string::npos) return 0;
  return static_cast<std::uint16_t>(
      std::stoi(text.substr(begin + before.size(), end)));
}

}  // namespace catena
