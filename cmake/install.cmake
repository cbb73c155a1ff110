# Installed: program, library, public headers and a CMake package for find_package(mobilellm). `cpack` makes packages.
option(MOBILELLM_INSTALL "Add install and package rules" ${PROJECT_IS_TOP_LEVEL})
if(NOT MOBILELLM_INSTALL)
  return()
endif()
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/mobilellm")
install(TARGETS mobilellm_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(FILES "${PROJECT_BINARY_DIR}/mobilellm-infer" DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(TARGETS mobilellm EXPORT mobilellm_targets)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/mobilellm" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/README.md" "${PROJECT_SOURCE_DIR}/CHANGELOG.md"
  DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(EXPORT mobilellm_targets FILE mobilellmTargets.cmake NAMESPACE mobilellm:: DESTINATION "${package_dir}")
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/mobilellmConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/mobilellmConfig.cmake" INSTALL_DESTINATION "${package_dir}")
# Until 1.0 a minor version may break the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/mobilellmConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/mobilellmConfig.cmake" "${PROJECT_BINARY_DIR}/mobilellmConfigVersion.cmake"
  DESTINATION "${package_dir}")

set(CPACK_GENERATOR "TGZ;DEB")
set(CPACK_PACKAGE_VENDOR "mobilellm authors")
set(CPACK_PACKAGE_CONTACT "mobilellm authors <noreply@example.org>")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
include(CPack)
