# Language level, warnings and sanitizers for every target of this project.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

find_program(MOBILELLM_CCACHE ccache)
if(MOBILELLM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${MOBILELLM_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER "${MOBILELLM_CCACHE}")
endif()

add_library(mobilellm_flags INTERFACE)
# -ffp-contract=off: a product and a sum are fused only where a kernel says so, so results do not depend on the compiler.
target_compile_options(mobilellm_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor> -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports false positives of these inside the standard library's own string, vector and variant code.
  target_compile_options(mobilellm_flags INTERFACE -Wno-restrict -Wno-stringop-overflow -Wno-maybe-uninitialized)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # std::stable_sort of libstdc++ 12 uses a function that it deprecates itself, and gcc alone keeps quiet about it.
  target_compile_options(mobilellm_flags INTERFACE -Wno-deprecated-declarations)
endif()
if(MOBILELLM_WERROR)
  target_compile_options(mobilellm_flags INTERFACE -Werror)
endif()
if(MOBILELLM_SANITIZE)
  add_compile_options(-fsanitize=${MOBILELLM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MOBILELLM_SANITIZE})
endif()
if(MOBILELLM_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
