# Runs an example as a test: cmake -DPROGRAM=file -DARGUMENTS=list -DSTATUS=n -DOUT=regex -DERR=regex [-DINPUT=text] -P
# this file. OUT and ERR are what its two outputs must match.
get_filename_component(name "${PROGRAM}" NAME)
set(input "${CMAKE_CURRENT_BINARY_DIR}/${name}_input.txt")
file(WRITE "${input}" "${INPUT}")
execute_process(COMMAND "${PROGRAM}" ${ARGUMENTS} INPUT_FILE "${input}"
  RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE err)
foreach(check IN ITEMS status out err)
  string(TOUPPER ${check} expected)
  if(NOT "${${check}}" MATCHES "${${expected}}")
    message(FATAL_ERROR "${check}: expected '${${expected}}', got '${${check}}'\nstandard error: ${err}")
  endif()
endforeach()
