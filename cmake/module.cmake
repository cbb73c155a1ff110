# mobilellm_module(<name> [DEPENDS module...] [LIBRARIES target...])
# One folder of src/ is one module: every *.cpp below it, except *_test.cpp and *_bench.cpp, becomes the object library
# mobilellm_<name>; its tests become <name>_test, its benchmarks <name>_bench (MOBILELLM_BENCH). Adding a file needs no
# edit here.
# DEPENDS is documentation and order; tools/check_includes.py checks the includes themselves.
set_property(GLOBAL PROPERTY MOBILELLM_MODULES "")
set_property(GLOBAL PROPERTY MOBILELLM_LIBRARIES "")

function(mobilellm_module name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cpp")
  set(all_sources ${sources})
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_(test|bench)\\.cpp$")
  mobilellm_apply_arch_flags(sources)

  add_library(mobilellm_${name} OBJECT ${sources})
  target_include_directories(mobilellm_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
  target_compile_definitions(mobilellm_${name} PRIVATE MOBILELLM_BUILDING)
  target_link_libraries(mobilellm_${name} PRIVATE mobilellm_flags PUBLIC fmt::fmt Threads::Threads ${ARG_LIBRARIES})

  set_property(GLOBAL APPEND PROPERTY MOBILELLM_MODULES mobilellm_${name})
  set_property(GLOBAL APPEND PROPERTY MOBILELLM_LIBRARIES ${ARG_LIBRARIES})

  set(benchmarks ${all_sources})
  list(FILTER benchmarks INCLUDE REGEX "_bench\\.cpp$")
  if(TARGET benchmark::benchmark AND benchmarks)
    add_executable(${name}_bench ${benchmarks})
    target_link_libraries(${name}_bench PRIVATE mobilellm_flags benchmark::benchmark)
    mobilellm_link_modules(${name}_bench ${name} ${ARG_DEPENDS})
  endif()
  if(MOBILELLM_TESTS AND tests)
    mobilellm_test(${name}_test SOURCES ${tests} LABELS unit)
    # All modules below are linked: tests may use anything their module may include.
    mobilellm_link_modules(${name}_test ${name} ${ARG_DEPENDS})
  endif()
endfunction()

# Links the objects of modules into a target.
function(mobilellm_link_modules target)
  foreach(module IN LISTS ARGN)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:mobilellm_${module}>)
    target_link_libraries(${target} PRIVATE mobilellm_${module})
  endforeach()
endfunction()

# mobilellm_test(<name> SOURCES file... [LABELS label...]) adds a GoogleTest program whose cases ctest lists one by one.
function(mobilellm_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE mobilellm_flags GTest::gmock_main)
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
  target_compile_definitions(${name} PRIVATE MOBILELLM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 300 SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endfunction()

# mobilellm_library() makes the library `mobilellm` from every module declared so far; consumers link
# mobilellm::mobilellm, in the build tree and installed alike.
function(mobilellm_library)
  get_property(modules GLOBAL PROPERTY MOBILELLM_MODULES)
  get_property(libraries GLOBAL PROPERTY MOBILELLM_LIBRARIES)
  list(REMOVE_DUPLICATES libraries)
  add_library(mobilellm)
  add_library(mobilellm::mobilellm ALIAS mobilellm)
  foreach(module IN LISTS modules)
    target_sources(mobilellm PRIVATE $<TARGET_OBJECTS:${module}>)
  endforeach()
  target_link_libraries(mobilellm PRIVATE fmt::fmt Threads::Threads ${libraries})
  target_compile_features(mobilellm PUBLIC cxx_std_20)
  target_include_directories(mobilellm PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  set_target_properties(mobilellm PROPERTIES
    LINKER_LANGUAGE CXX VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
endfunction()
