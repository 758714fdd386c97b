#include "launcher/command_line.h"

int main(int argc, char** argv) {
  return catena::launcher::run({argv + (argc > 0 ? 1 : 0), argv + argc});
}
