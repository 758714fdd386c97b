#include "tests/launcher/monitor/run_files.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "runtime/base/files.h"

namespace catena::launcher {

namespace fs = std::filesystem;

RunFiles::RunFiles() {
  std::string name = (fs::temp_directory_path() / "monitorXXXXXX").string();
  path_ = ::mkdtemp(name.data());
}

RunFiles::~RunFiles() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void RunFiles::append(const std::string& name, const std::string& text) const {
  fs::create_directories((path_ / name).parent_path());
  std::ofstream(path_ / name, std::ios::app | std::ios::binary) << text;
}

void RunFiles::replace(const std::string& name, const std::string& text) const {
  write_file_atomically(path_ / name, text);
}

std::string RunFiles::step(int number, int rank) {
  const double busy = 0.5 * (rank + 1);
  return fmt::format(
             R"({{"catena_step":{0},"catena_loss":{{"train":{1}}},)"
             R"("catena_grad_norm":0.5,"catena_learning_rate":0.001,)"
             R"("catena_step_duration_seconds":{2},"catena_tokens":100,)"
             R"("catena_trained_tokens":90,"catena_tokens_total":{3},)"
             R"("catena_tokens_per_second":200.0,"catena_model_flops":1e9,)"
             R"("catena_mfu_ratio":0.25,"catena_memory_bytes":{{"host":1048576}},)"
             R"("catena_memory_peak_bytes":{{"host":2097152}},"catena_epoch":0.5,)"
             R"("catena_expert_load_max_to_mean_ratio":[[1.5,2.5],[1.25,3.5]],)"
             R"("catena_experts_idle":[[0,1],[2,0]],)",
             number, 8.0 - number, busy + 0.125, 100 * number) +
         R"("catena_router_entropy_nats":[[1.0,2.0],[1.0,2.0]],)"
         R"("catena_auxiliary_loss":[[0,0],[0,0]],)"
         R"("catena_router_z":[[0,0],[0,0]],"catena_exchange_seconds":)"
         R"({"dispatch":{"exposed":0.125,"overlapped":0.25}},)"
         R"("catena_exchange_bytes":{"dispatch":1000},)"
         R"("catena_exchange_across_bytes":{"dispatch":400},)"
         R"("catena_rank_load_max_to_mean_ratio":[[1.0,1.75],[1.5,1.25]],)"
         R"("catena_dispatch_later_rounds":0,"catena_rows_beyond_budget":0})"
         "\n";
}

std::string RunFiles::validation(int step, double loss) {
  return fmt::format(
      "{{\"catena_step\":{},\"catena_loss\":{{\"validation\":{}}},"
      "\"catena_trained_tokens\":10}}\n",
      step, loss);
}

std::string RunFiles::routing(int step) {
  std::string lines;
  for (const int layer : {0, 1}) {
    lines += fmt::format(
        "{{\"step\":{0},\"layer\":{1},\"iteration\":0,\"load\":[3,2,1],"
        "\"transitions\":[1,2,3,4,5,6,7,8,{0}]}}\n"
        "{{\"step\":{0},\"layer\":{1},\"iteration\":1,\"load\":[0,6,{0}]}}\n",
        step, layer);
  }
  return lines;
}

std::string RunFiles::job(const std::string& state) {
  return fmt::format(
      R"j({{"schema":1,"job":"x","host":"h","ranks":2,"state":"{}",)j"
      R"j("generation":2,"exit_code":null,"first_failure":null,"restarts":[)j"
      R"j({{"rank":1,"host":"h","process":7,"code":0,"signal":9,"step":5,)j"
      R"j("text":"was killed by signal 9 (Killed)","last_words":"<b>"}}],)j"
      R"j("rank_states":["running","failed"],"last_step":10,)j"
      R"j("checkpoint_step":4,"seconds":12.5,"control":{{)j"
      R"j("connections_rejected":{{"proof":0,"protocol":3}},)j"
      R"j("stale_messages":2}},"version":"0"}})j"
      "\n",
      state);
}

void RunFiles::write_run() const {
  append("config.toml", "[train]\nsteps = 20\n[checkpoint]\nevery = 5\n");
  append("metrics.jsonl", validation(0, 9.5));
  for (int number = 1; number <= 10; ++number) {
    append("metrics.jsonl", step(number));
    append("ranks/1/metrics.jsonl", step(number, 1));
  }
  append("metrics.jsonl", validation(10, 4.5));
  append("metrics.jsonl",
         "{\"catena_event\":\"checkpoint\",\"catena_step\":10,"
         "\"catena_checkpoint_bytes\":5000,"
         "\"catena_checkpoint_stall_seconds\":0.01,"
         "\"catena_checkpoint_write_seconds\":1.5}\n"
         "{\"catena_event\":\"step_skipped\",\"catena_step\":10,"
         "\"reason\":\"a spike\"}\n");
  append("routing.jsonl", routing(5) + routing(10));
  append("checkpoints/step-000010/MANIFEST.json", "{}");
  append("logs/rank-0.log", "of rank 0\n");
  append("log.txt", "of the trainer\n");
  append("ranks/1/log.txt", "of rank 1\n");
  append("launcher.log", "of the launcher\n");
  for (const char* line :
       {R"({"seconds":0,"generation":0,"state":"NEW"})",
        R"({"seconds":1,"generation":1,"state":"RUNNING"})",
        R"({"seconds":4,"generation":1,"rank":1,"signal":9,"step":6})",
        R"({"seconds":4.5,"generation":1,"state":"STOPPING","step":6})",
        R"({"seconds":6.5,"generation":1,"state":"RESTARTING","step":6,)"
        R"("checkpoint_step":4})",
        R"({"seconds":7.5,"generation":2,"state":"RUNNING"})"}) {
    append("journal.jsonl", std::string(line) + "\n");
  }
  replace("job.json", job("RUNNING"));
}

}  // namespace catena::launcher
