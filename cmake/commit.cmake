# Run at every build: writes the commit of SOURCE into the header OUTPUT, which changes only when the commit does.
set(commit "")
find_package(Git QUIET)
if(GIT_FOUND)
  execute_process(COMMAND "${GIT_EXECUTABLE}" -C "${SOURCE}" describe --always --dirty=+ --abbrev=8 --match=none
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" CONTENT "#define MOBILELLM_COMMIT \"${commit}\"\n")
