# Cross build for 64-bit ARM Linux with Debian's cross compiler; tests run under qemu-user. tools/test_arm fetches the
# libraries and does the rest.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

set(mobilellm_arm_packages "${CMAKE_CURRENT_LIST_DIR}/../build/aarch64-packages")
set(CMAKE_FIND_ROOT_PATH "${mobilellm_arm_packages}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} "${mobilellm_arm_packages}/usr/lib/aarch64-linux-gnu/pkgconfig")
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${mobilellm_arm_packages}")

# The processor to imitate is QEMU_CPU, as for qemu itself: max (the default) or cortex-a53, which lacks dot products.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
