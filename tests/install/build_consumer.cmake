# Builds and runs one consumer in a fresh folder: cmake -DCONSUMER=... (see CMakeLists.txt) -P build_consumer.cmake
set(work "${BINARY_DIR}/tests/install/${CONSUMER}")
if(CONSUMER STREQUAL "find_package")
  file(REMOVE_RECURSE "${work}/build" "${work}/prefix")
endif()

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "failed: ${ARGV}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

set(options -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${CXX}" "-DCMAKE_C_COMPILER=${CC}"
  "-DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}")
if(SANITIZE)
  list(APPEND options "-DCMAKE_CXX_FLAGS=-fsanitize=${SANITIZE}")
endif()
if(CONSUMER STREQUAL "find_package")
  run("${CMAKE_COMMAND}" --install "${BINARY_DIR}" --prefix "${work}/prefix")
  list(APPEND options "-DCMAKE_PREFIX_PATH=${work}/prefix")
  # The installed program works from its new place, under both names.
  run("${work}/prefix/bin/mobilellm" --version)
  run("${work}/prefix/bin/mobilellm-infer" --help)
else()
  # The whole library is compiled once more: without optimisation, and only what changed since the last run.
  list(APPEND options "-DMOBILELLM_SOURCE_DIR=${SOURCE_DIR}" -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O0")
endif()
run("${CMAKE_COMMAND}" -S "${SOURCE_DIR}/tests/install/${CONSUMER}" -B "${work}/build" ${options})
run("${CMAKE_COMMAND}" --build "${work}/build" --target consumer)
run("${work}/build/consumer" "${SOURCE_DIR}/tests/golden/e2e/r1_chat")
message("${output}")
