# Installed: program, library, public headers and a CMake package for find_package(mobilellm).
