#pragma once

namespace catena::bench {

/// One measurement, which its own source defines; main.cc calls it.
/// Returns the exit code. Throws: what the program then says and exits with 1.
int run(int argc, char** argv);

}  // namespace catena::bench
