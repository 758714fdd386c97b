#include "launcher/hosts.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <functional>

#include "launcher/node_list.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

using ::testing::StartsWith;
using Hosts = std::vector<Host>;

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    return error.what();
  }
  return "";
}

TEST(HostsTest, ListIsParsed) {
  EXPECT_EQ(parse_hosts("a,b:4,user@c,[::1]:2", "--hosts"),
            (Hosts{{"a"}, {"b", "", 4}, {"c", "user"}, {"::1", "", 2}}));
  EXPECT_EQ(parse_hosts("10.0.0.1:8,me@[fe80::1%eth0],n-1.b_c", "--hosts"),
            (Hosts{{"10.0.0.1", "", 8}, {"fe80::1%eth0", "me"}, {"n-1.b_c"}}));
}

TEST(HostsTest, HostfileIsParsed) {
  EXPECT_EQ(parse_hostfile("# ours\n"
                           "\n"
                           "node1 slots=4\n"
                           "\tnode2:2   # half\r\n"
                           "  me@node3\n"
                           "[::1] slots=1",
                           "f"),
            (Hosts{{"node1", "", 4},
                   {"node2", "", 2},
                   {"node3", "me"},
                   {"::1", "", 1}}));
}

struct Wrong {
  const char *text, *message;
};

TEST(HostsTest, WhatIsWrongInAListIsSaidWithItsColumn) {
  const Wrong cases[] = {
      {"", "--hosts: column 1: a host's name is missing here"},
      {"a,", "--hosts: column 3: a host's name is missing here"},
      {"a, b", "--hosts: column 3: byte 0x20 cannot be in a host's name"},
      {"a,-oProxyCommand=x",
       "--hosts: column 3: a host's name cannot begin with a dash"},
      {"-l@a", "--hosts: column 1: a user's name cannot begin with a dash"},
      {"u@-a", "--hosts: column 3: a host's name cannot begin with a dash"},
      {"@a", "--hosts: column 1: a user's name is missing here"},
      {"u@", "--hosts: column 3: a host's name is missing here"},
      {"a@b@c", "--hosts: column 4: '@' cannot be in a host's name"},
      {"a:", "--hosts: column 3: the number of slots is a whole number"},
      {"a:0", "--hosts: column 3: the number of slots is a whole number"},
      {"a:65537",
       "--hosts: column 3: the number of slots is a whole number "
       "from 1 to 65536"},
      {"a:1x", "--hosts: column 3: the number of slots is a whole number"},
      {"fe80::1", "--hosts: column 1: an IPv6 address is written in brackets"},
      {"[::1", "--hosts: column 1: '[' is not closed by a ']'"},
      {"[]", "--hosts: column 1: in brackets stands an IPv6 address"},
      {"[a]", "--hosts: column 1: in brackets stands an IPv6 address"},
      {"u@[1.2.3.4]", "--hosts: column 3: in brackets stands an IPv6 address"},
      {"[fe80::1%]", "--hosts: column 10: an interface's name is missing"},
      {"[::1]2", "--hosts: column 6: behind ']' stands nothing, or ':'"},
      {"n[1-2]", "--hosts: column 2: '[' cannot be in a host's name"},
      {"a,b:2,A:3",
       "--hosts: column 7: A is there twice, first at --hosts: column 1"},
      {"u@a,a", "--hosts: column 5: a is there twice"},
  };
  for (const Wrong& wrong : cases) {
    EXPECT_THAT(message_of([&] { (void)parse_hosts(wrong.text, "--hosts"); }),
                StartsWith(wrong.message));
  }
}

TEST(HostsTest, WhatIsWrongInAFileIsSaidWithLineAndColumn) {
  const Wrong cases[] = {
      {"", "f:1:1: no host is in this file"},
      {"# a\n\n", "f:3:1: no host is in this file"},
      {"a\n b slots=0\n", "f:2:10: the number of slots is a whole number"},
      {"a\nb slot=2", "f:2:3: behind a host stands nothing, or slots=N"},
      {"a 4", "f:1:3: behind a host stands nothing, or slots=N"},
      {"a slots= 4", "f:1:9: the number of slots is a whole number"},
      {"a:2 slots=2", "f:1:5: slots are said twice"},
      {"a slots=2 slots=2", "f:1:11: slots are said twice"},
      {"a\n\nb\nme@a slots=1",
       "f:4:1: a is there twice, first at f:1:1; remove one of them"},
      {"a,b", "f:1:2: ',' cannot be in a host's name"},
      {"\n  -a", "f:2:3: a host's name cannot begin with a dash"},
      {"\xef\xbb\xbf"
       "a",
       "f:1:1: byte 0xef cannot be in a host's name"},
  };
  for (const Wrong& wrong : cases) {
    EXPECT_THAT(message_of([&] { (void)parse_hostfile(wrong.text, "f"); }),
                StartsWith(wrong.message));
  }
}

TEST(HostsTest, AddressHasNoHiddenEnd) {
  const std::string text("[::1\0x]", 7);
  EXPECT_THAT(message_of([&] { (void)parse_hosts(text, "h"); }),
              StartsWith("h: column 1: in brackets"));
}

TEST(HostsTest, MoreThanThereMayBeAreRefused) {
  std::string text;
  for (std::size_t i = 0; i <= kMostHosts; ++i) text += fmt::format("n{}\n", i);
  EXPECT_THAT(message_of([&] { (void)parse_hostfile(text, "f"); }),
              StartsWith("f:65537:1: more than 65536 hosts"));
}

TEST(HostsTest, AreThoseOfASlurmAllocation) {
  EXPECT_EQ(slurm_hosts("n[1-3],m", "2(x3),1"),
            (Hosts{{"n1", "", 2}, {"n2", "", 2}, {"n3", "", 2}, {"m", "", 1}}));
  EXPECT_EQ(slurm_hosts("n1", ""), Hosts{{"n1"}});
  EXPECT_THAT(message_of([] { (void)slurm_hosts("n[1-3]", "2(x2)"); }),
              StartsWith("SLURM_JOB_NODELIST names 3 nodes and "
                         "SLURM_TASKS_PER_NODE counts tasks of 2"));
}

rc::Gen<std::string> any_name() {
  return rc::gen::map(
      rc::gen::nonEmpty(rc::gen::container<std::string>(
          rc::gen::elementOf(std::string("abcXYZ0189._-")))),
      [](std::string name) { return "n" + name.substr(0, 250); });
}

Hosts any_hosts() {
  Hosts hosts;
  const int count = *rc::gen::inRange(1, 9);
  for (int i = 0; i < count; ++i) {
    Host host;
    // The number makes each another one.
    host.name =
        *rc::gen::arbitrary<bool>()
            ? fmt::format("{}{}", i, *any_name())
            : fmt::format("fe80::{:x}:{}", *rc::gen::inRange(0, 65536), i);
    if (*rc::gen::arbitrary<bool>()) host.user = *any_name();
    host.slots = *rc::gen::inRange(0, 65537);
    hosts.push_back(host);
  }
  return hosts;
}

RC_GTEST_PROP(HostsPropertyTest, WhatIsPrintedIsParsed, ()) {
  const Hosts hosts = any_hosts();
  RC_ASSERT(parse_hosts(hosts_text(hosts), "h") == hosts);
  std::string file;
  for (const Host& host : hosts) file += "  " + host_text(host) + " # x\r\n";
  RC_ASSERT(parse_hostfile(file, "f") == hosts);
}

RC_GTEST_PROP(HostsPropertyTest, AnyBytesAreHostsOrRefused,
              (const std::string& text)) {
  try {
    RC_ASSERT(!parse_hostfile(text, "f").empty());
  } catch (const Error& error) {
    RC_ASSERT(error.kind() == ErrorKind::kConfig);
  }
}

}  // namespace
}  // namespace catena::launcher
