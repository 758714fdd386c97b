# Compiler settings shared by every target, through catena_options.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(catena_options INTERFACE)
target_include_directories(catena_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(catena_options INTERFACE -Wall -Wextra -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # False positives of GCC 12 in inlined library code.
  target_compile_options(catena_options INTERFACE
    -Wno-stringop-overflow -Wno-array-bounds -Wno-restrict
    -Wno-maybe-uninitialized -Wno-dangling-pointer -fcoroutines)
endif()
# A product and the sum it goes into are one rounding where the processor has
# such an instruction.
target_compile_options(catena_options INTERFACE -ffp-contract=fast)

# The x86-64 level of this machine, spelled out so that ccache sees it. A name
# such as x86-64-v4 rather than "native" keeps a build usable on machines of
# the same level.
function(catena_resolve_arch out)
  if(NOT CATENA_ARCH STREQUAL "auto")
    set(${out} "-march=${CATENA_ARCH}" PARENT_SCOPE)
    return()
  endif()
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set(${out} "-mcpu=native" PARENT_SCOPE)
    return()
  endif()
  set(cpu "")
  if(EXISTS /proc/cpuinfo)
    file(STRINGS /proc/cpuinfo cpu REGEX "^flags" LIMIT_COUNT 1)
  endif()
  if(cpu MATCHES "avx512f" AND cpu MATCHES "avx512bw" AND
     cpu MATCHES "avx512cd" AND cpu MATCHES "avx512dq" AND
     cpu MATCHES "avx512vl")
    set(${out} "-march=x86-64-v4;-mprefer-vector-width=512" PARENT_SCOPE)
  elseif(cpu MATCHES "avx2" AND cpu MATCHES "fma" AND cpu MATCHES "bmi2")
    set(${out} "-march=x86-64-v3" PARENT_SCOPE)
  else()
    set(${out} "-march=x86-64-v2" PARENT_SCOPE)
  endif()
endfunction()
catena_resolve_arch(CATENA_ARCH_FLAGS)
message(STATUS "Catena: instruction set ${CATENA_ARCH_FLAGS}")
target_compile_options(catena_options INTERFACE ${CATENA_ARCH_FLAGS})

if(CATENA_SANITIZE)
  target_compile_options(catena_options INTERFACE
    -fsanitize=${CATENA_SANITIZE} -fno-omit-frame-pointer -g1)
  target_link_options(catena_options INTERFACE -fsanitize=${CATENA_SANITIZE})
  if(CATENA_SANITIZE MATCHES "undefined")
    target_compile_options(catena_options INTERFACE
      -fno-sanitize-recover=undefined)
  endif()
endif()
