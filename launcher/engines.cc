#include "launcher/engines.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/udp.hpp>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

namespace asio = boost::asio;

bool is_word(std::string_view text, std::string_view more) {
  return !text.empty() && text.front() != '-' &&
         std::all_of(text.begin(), text.end(), [&](char letter) {
           return std::isalnum(static_cast<unsigned char>(letter)) != 0 ||
                  more.find(letter) != std::string_view::npos;
         });
}

std::vector<std::string> by_ssh(const Host& host) {
  const std::string program = own_path();
  if (!is_word(program, "/._-+")) {
    fail(ErrorKind::kUsage,
         "{}: a shell on the other machine would not take this path as it is; "
         "install catena under one of letters, digits and / . _ - +",
         program);
  }
  return {"ssh",
          "-T",
          "-a",
          "-x",
          "-o",
          "BatchMode=yes",
          "-o",
          "ConnectTimeout=10",
          "-o",
          "ServerAliveInterval=10",
          "--",
          host.user.empty() ? host.name : host.user + "@" + host.name,
          program + " " + kAgentCommand};
}

/// What a job, or who submits it, says of each task. An agent's step is of one,
/// and is to have what all of the node's have.
constexpr std::array kOfTasks = {"SLURM_GPUS",           "SLURM_GPUS_PER_TASK",
                                 "SLURM_NTASKS_PER_GPU", "SLURM_TRES_PER_TASK",
                                 "SLURM_GPU_BIND",       "SLURM_CPUS_PER_TASK",
                                 "SRUN_CPUS_PER_TASK",   "SLURM_EXACT"};

/// A step of one task, whatever the job's own flags are (srun takes them from
/// the environment): with all that the job has of the node, beside other steps.
std::vector<std::string> by_srun(const Host& host) {
  std::vector<std::string> command = {"env"};
  for (const char* name : kOfTasks) {
    command.insert(command.end(), {"-u", name});
  }
  command.insert(
      command.end(),
      {"srun", "--nodes=1", "--ntasks=1", "--ntasks-per-node=1",
       "--distribution=block", "--nodelist=" + host.name, "--overlap",
       "--mem=0", "--cpu-bind=none", "--mpi=none", "--export=ALL",
       "--kill-on-bad-exit=0", own_path(), kAgentCommand});
  return command;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

asio::ip::address address_towards(const Host& host) {
  using asio::ip::udp;
  constexpr const char* kAnyPort = "9";
  asio::io_context context;
  boost::system::error_code error;
  const auto found = udp::resolver(context).resolve(host.name, kAnyPort, error);
  for (const auto& entry : found) {
    udp::socket socket(context);
    // Nothing is sent: the kernel chooses a way, and with it an address.
    socket.open(entry.endpoint().protocol(), error);
    if (!error) socket.connect(entry.endpoint(), error);
    if (!error) return socket.local_endpoint().address();
  }
  fail(ErrorKind::kUsage,
       "no way to '{}': {}; or say with --address where agents find "
       "this machine",
       host.name, error.message());
}

}  // namespace

std::string own_path() {
  return std::filesystem::read_symlink("/proc/self/exe").string();
}

const char* name_of(Engine engine) {
  switch (engine) {
    case Engine::kLocal:
      return "local";
    case Engine::kSsh:
      return "ssh";
    case Engine::kSlurm:
      return "slurm";
    case Engine::kMpi:
      return "mpi";
  }
  return "";
}

std::vector<std::string> agent_command(Engine engine, const Host& host) {
  switch (engine) {
    case Engine::kLocal:
      break;
    case Engine::kSsh:
      return by_ssh(host);
    case Engine::kSlurm:
      return by_srun(host);
    case Engine::kMpi:
      return {};
  }
  return {own_path(), kAgentCommand};
}

Allocation slurm_allocation() {
  const std::string nodes = variable("SLURM_JOB_NODELIST");
  if (nodes.empty()) return {};
  return {.nodes = slurm_hosts(nodes, variable("SLURM_TASKS_PER_NODE")),
          .here = variable("SLURMD_NODENAME")};
}

bool is_here(const Allocation& allocation) {
  return allocation.nodes.size() == 1 &&
         allocation.nodes.front().name == allocation.here;
}

bool is_loopback(const std::string& address) {
  boost::system::error_code error;
  const auto parsed = asio::ip::make_address(address, error);
  if (error) return false;
  return parsed.is_v6() && parsed.to_v6().is_v4_mapped()
             ? asio::ip::make_address_v4(asio::ip::v4_mapped, parsed.to_v6())
                   .is_loopback()
             : parsed.is_loopback();
}

std::string address_towards(const std::vector<Host>& hosts) {
  asio::ip::address address;
  for (const Host& host : hosts) {
    address = address_towards(host);
    if (!address.is_loopback()) break;
  }
  return address.to_string();
}

}  // namespace catena::launcher
