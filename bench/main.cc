// main() of every measurement.

#include <cstdio>
#include <exception>

#include "bench/program.h"

int main(int argc, char** argv) {
  try {
    return catena::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
