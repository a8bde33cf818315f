# Every outside library, in one place; docs/dependencies.md says why each is here.
find_package(Threads REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS filesystem)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 REQUIRED)
find_package(fmt REQUIRED)
if(CRASHWORTHY_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()

# OpenCV, component by component: Debian ships its CMake package only with libopencv-dev, which pulls in every module and
# GDAL, VTK and MPI with them. Headers are SYSTEM: those of 4.6 warn at C++20.
find_path(CRASHWORTHY_OPENCV_INCLUDE opencv2/core.hpp PATH_SUFFIXES opencv4 REQUIRED)
add_library(crashworthy_opencv INTERFACE)
target_include_directories(crashworthy_opencv SYSTEM INTERFACE ${CRASHWORTHY_OPENCV_INCLUDE})
foreach(component core imgproc imgcodecs photo)
  find_library(CRASHWORTHY_OPENCV_${component} opencv_${component} REQUIRED)
  target_link_libraries(crashworthy_opencv INTERFACE ${CRASHWORTHY_OPENCV_${component}})
endforeach()

# Outputs are decoded with them as strictly as can be; OpenCV swallows their warnings.
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)

# Optional: without it, faults at ELF symbols are skipped, each saying so.
find_path(CRASHWORTHY_LIBELF_INCLUDE gelf.h)
find_library(CRASHWORTHY_LIBELF elf)
add_library(crashworthy_libelf INTERFACE)
if(CRASHWORTHY_LIBELF_INCLUDE AND CRASHWORTHY_LIBELF)
  target_include_directories(crashworthy_libelf SYSTEM INTERFACE ${CRASHWORTHY_LIBELF_INCLUDE})
  target_link_libraries(crashworthy_libelf INTERFACE ${CRASHWORTHY_LIBELF})
  target_compile_definitions(crashworthy_libelf INTERFACE CRASHWORTHY_WITH_LIBELF)
else()
  message(STATUS "libelf is missing: faults at ELF symbols will be skipped")
endif()
