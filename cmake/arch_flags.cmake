# Compiler flags of a kernel source, chosen by the end of its file name (x86_avx2.cpp, x86_avx512.cpp, arm_neon.cpp).
# Only kernels may be built for more than the baseline: see src/kernels/isa/.
set(MOBILELLM_IS_X86 FALSE)
set(MOBILELLM_IS_ARM64 FALSE)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(MOBILELLM_IS_X86 TRUE)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(MOBILELLM_IS_ARM64 TRUE)
endif()

set(MOBILELLM_FLAGS_x86_avx2 -mavx2 -mfma -mf16c)
set(MOBILELLM_FLAGS_x86_avx2_vnni -mavx2 -mfma -mf16c -mavxvnni)
set(MOBILELLM_FLAGS_x86_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c)
set(MOBILELLM_FLAGS_arm_neon -march=armv8-a)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 warns about its own intrinsics headers ('__Y' is used uninitialized, GCC bug 105593).
  list(APPEND MOBILELLM_FLAGS_x86_avx512 -Wno-uninitialized -Wno-maybe-uninitialized)
endif()

# Sets flags on the ISA sources of a list and drops those that another processor family needs.
function(mobilellm_apply_arch_flags sources_variable)
  set(kept)
  foreach(source IN LISTS ${sources_variable})
    get_filename_component(stem "${source}" NAME_WE)
    if((stem MATCHES "^x86_" AND NOT MOBILELLM_IS_X86) OR (stem MATCHES "^arm_" AND NOT MOBILELLM_IS_ARM64))
      continue()
    endif()
    if(DEFINED MOBILELLM_FLAGS_${stem})
      set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "${MOBILELLM_FLAGS_${stem}}")
    endif()
    list(APPEND kept "${source}")
  endforeach()
  set(${sources_variable} "${kept}" PARENT_SCOPE)
endfunction()
