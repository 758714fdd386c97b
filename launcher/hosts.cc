#include "launcher/hosts.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>

#include "launcher/host_text.h"
#include "launcher/node_list.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kSlots = "slots=";
constexpr const char* kNumberOfSlots = "the number of slots";
constexpr auto kNowhere = std::string_view::npos;

/// `text` begins with '['. Returns the address; `end` is behind its ']'.
std::string parse_address(std::string_view text, const TextPlace& at,
                          std::size_t& end) {
  const std::size_t close = text.find(']');
  if (close == kNowhere) at.refuse("'[' is not closed by a ']'");
  end = close + 1;
  std::string address(text.substr(1, close - 1));
  // Behind '%' stands the interface of a link-local one.
  const std::size_t percent = address.find('%');
  const std::string number = address.substr(0, percent);
  in6_addr parsed{};
  // inet_pton() would stop at a zero byte.
  if (number.find('\0') != std::string::npos ||
      ::inet_pton(AF_INET6, number.c_str(), &parsed) != 1) {
    at.refuse("in brackets stands an IPv6 address, such as [fe80::1]");
  }
  if (percent != std::string::npos) {
    check_name(std::string_view(address).substr(percent + 1),
               "an interface's name", at.after(percent + 2));
  }
  return address;
}

/// [user@]name[:slots]
Host parse_host(std::string_view text, const TextPlace& at) {
  Host host;
  std::size_t begin = 0;
  if (const std::size_t sign = text.find('@'); sign != kNowhere) {
    check_name(text.substr(0, sign), "a user's name", at);
    host.user = text.substr(0, sign);
    begin = sign + 1;
  }
  const TextPlace name_at = at.after(begin);
  std::size_t end = std::min(text.find(':', begin), text.size());
  if (text.substr(begin).starts_with('[')) {
    host.name = parse_address(text.substr(begin), name_at, end);
    end += begin;
  } else {
    if (end < text.size() && text.find(':', end + 1) != kNowhere) {
      name_at.refuse("an IPv6 address is written in brackets, such as [::1]:4");
    }
    host.name = text.substr(begin, end - begin);
    check_name(host.name, "a host's name", name_at);
  }
  if (end == text.size()) return host;
  if (text[end] != ':') {
    at.after(end).refuse("behind ']' stands nothing, or ':' and slots");
  }
  host.slots = parse_count(text.substr(end + 1), kNumberOfSlots, kMostHosts,
                           at.after(end + 1));
  return host;
}

class HostList {
 public:
  void add(Host host, const TextPlace& at) {
    if (hosts_.size() == kMostHosts) {
      at.refuse(fmt::format("more than {} hosts", kMostHosts));
    }
    seen_.add(host.name, at);
    hosts_.push_back(std::move(host));
  }
  [[nodiscard]] std::vector<Host> take() { return std::move(hosts_); }

 private:
  SeenNames seen_;
  std::vector<Host> hosts_;
};

/// Words of a line of a hostfile, where they begin, without its comment.
std::vector<std::pair<std::size_t, std::string_view>> words_of(
    std::string_view line) {
  line = line.substr(0, line.find('#'));
  std::vector<std::pair<std::size_t, std::string_view>> words;
  std::size_t end = 0;
  for (;;) {
    const std::size_t begin = line.find_first_not_of(kBlanks, end);
    if (begin == kNowhere) return words;
    end = std::min(line.find_first_of(kBlanks, begin), line.size());
    words.emplace_back(begin, line.substr(begin, end - begin));
  }
}

void parse_line(std::string_view line, const TextPlace& at, HostList& hosts) {
  const auto words = words_of(line);
  if (words.empty()) return;
  const TextPlace host_at = at.after(words[0].first);
  Host host = parse_host(words[0].second, host_at);
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i].second;
    const TextPlace word_at = at.after(words[i].first);
    if (!word.starts_with(kSlots)) {
      word_at.refuse("behind a host stands nothing, or slots=N");
    }
    if (host.slots > 0) word_at.refuse("slots are said twice; remove one");
    host.slots = parse_count(word.substr(kSlots.size()), kNumberOfSlots,
                             kMostHosts, word_at.after(kSlots.size()));
  }
  hosts.add(std::move(host), host_at);
}

}  // namespace

std::vector<Host> parse_hosts(std::string_view text, std::string_view source) {
  const TextPlace start = place_in_list(source);
  HostList hosts;
  for (std::size_t begin = 0;;) {
    const std::size_t comma = text.find(',', begin);
    const TextPlace at = start.after(begin);
    hosts.add(parse_host(text.substr(begin, comma - begin), at), at);
    if (comma == kNowhere) return hosts.take();
    begin = comma + 1;
  }
}

std::vector<Host> parse_hostfile(std::string_view text, std::string_view path) {
  HostList list;
  std::size_t line = 1;
  for (std::size_t begin = 0; begin < text.size(); ++line) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    parse_line(text.substr(begin, end - begin), place_in_file(path, line),
               list);
    begin = end + 1;
  }
  std::vector<Host> hosts = list.take();
  if (hosts.empty()) {
    place_in_file(path, line)
        .refuse(
            "no host is in this file; write one a line, such as node1 slots=4");
  }
  return hosts;
}

std::vector<Host> slurm_hosts(std::string_view node_list,
                              std::string_view tasks_per_node) {
  std::vector<Host> hosts;
  for (std::string& name : expand_node_list(node_list, "SLURM_JOB_NODELIST")) {
    hosts.push_back({.name = std::move(name)});
  }
  if (tasks_per_node.empty()) return hosts;
  const std::vector<int> slots =
      expand_counts(tasks_per_node, "SLURM_TASKS_PER_NODE");
  if (slots.size() != hosts.size()) {
    fail(ErrorKind::kConfig,
         "SLURM_JOB_NODELIST names {} nodes and SLURM_TASKS_PER_NODE counts "
         "tasks of {}; are both of one allocation?",
         hosts.size(), slots.size());
  }
  for (std::size_t i = 0; i < slots.size(); ++i) hosts[i].slots = slots[i];
  return hosts;
}

std::string host_text(const Host& host) {
  std::string text = host.user.empty() ? "" : host.user + "@";
  const bool address = host.name.find(':') != std::string::npos;
  text += address ? "[" + host.name + "]" : host.name;
  if (host.slots > 0) text += fmt::format(":{}", host.slots);
  return text;
}

std::string hosts_text(const std::vector<Host>& hosts) {
  std::string text;
  for (const Host& host : hosts) {
    if (!text.empty()) text += ",";
    text += host_text(host);
  }
  return text;
}

}  // namespace catena::launcher
