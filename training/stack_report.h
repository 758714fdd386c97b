#pragma once

#include <string_view>

namespace catena::stack_report {

/// From now on SIGUSR2 has this process write, on standard error, the stack of
/// the thread that it finds (the main one, unless that is gone) and the last
/// note; it goes on afterwards.
void install();

/// What it is doing, for people: "section step, step 12". Of it 200 bytes at
/// most are kept. Costs a copy.
/// Thread rule: one thread at a time.
void note(std::string_view text);

}  // namespace catena::stack_report
