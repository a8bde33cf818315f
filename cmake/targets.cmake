# Functions that make every target alike: warnings, the include root, tests with labels.
include(GNUInstallDirs)

set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
enable_testing()

add_library(crashworthy_settings INTERFACE)
target_compile_features(crashworthy_settings INTERFACE cxx_std_20)
target_include_directories(crashworthy_settings INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/crashworthy>)
target_compile_options(crashworthy_settings INTERFACE
  $<BUILD_INTERFACE:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror=return-type>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees overlaps in std::string that cannot happen (GCC bug 105651).
  target_compile_options(crashworthy_settings INTERFACE $<BUILD_INTERFACE:-Wno-restrict>)
endif()
if(CRASHWORTHY_BUILD_FUZZERS)
  target_compile_options(crashworthy_settings INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(CRASHWORTHY_SANITIZER)
  target_compile_options(crashworthy_settings INTERFACE
    -fsanitize=${CRASHWORTHY_SANITIZER} -fno-omit-frame-pointer)
  target_link_options(crashworthy_settings INTERFACE -fsanitize=${CRASHWORTHY_SANITIZER})
endif()

set_target_properties(crashworthy_settings PROPERTIES EXPORT_NAME settings)
install(TARGETS crashworthy_settings EXPORT crashworthy)

# crashworthy_library(NAME SOURCES ... [PUBLIC targets...] [PRIVATE targets...] [INSTALL])
# makes the static library crashworthy_NAME with the alias crashworthy::NAME. With INSTALL, it is what
# find_package(crashworthy) offers, with the headers beside it.
function(crashworthy_library name)
  cmake_parse_arguments(arg "INSTALL" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(crashworthy_${name} STATIC ${arg_SOURCES})
  add_library(crashworthy::${name} ALIAS crashworthy_${name})
  set_target_properties(crashworthy_${name} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(crashworthy_${name} PUBLIC crashworthy_settings ${arg_PUBLIC}
                        PRIVATE ${arg_PRIVATE})
  if(arg_INSTALL)
    file(RELATIVE_PATH room ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
    install(TARGETS crashworthy_${name} EXPORT crashworthy ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
    file(GLOB headers CONFIGURE_DEPENDS *.h)
    list(FILTER headers EXCLUDE REGEX "_test_|behaviour|explore|fake_|model|transcript|real_world")
    install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/crashworthy/${room})
  endif()
endfunction()

# crashworthy_program(NAME SOURCES ... LINK targets... [INSTALL bin|libexec])
# makes the executable NAME; `libexec` programs are found by `crashworthy` beside itself.
function(crashworthy_program name)
  cmake_parse_arguments(arg "" "INSTALL" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE crashworthy_settings ${arg_LINK})
  if(arg_INSTALL STREQUAL "bin")
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  elseif(arg_INSTALL STREQUAL "libexec")
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/crashworthy)
  endif()
endfunction()

# crashworthy_test(NAME SOURCES ... LINK targets... LABELS labels... [SERIAL] [TIMEOUT seconds])
# makes the GoogleTest program NAME and registers it with ctest as one test.
# Exit code 77 is a skip: a capability that the machine lacks.
function(crashworthy_test name)
  cmake_parse_arguments(arg "SERIAL" "TIMEOUT" "SOURCES;LINK;LABELS" ${ARGN})
  if(NOT CRASHWORTHY_BUILD_TESTS)
    return()
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE crashworthy_settings ${arg_LINK} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE
    CRASHWORTHY_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
    CRASHWORTHY_PROGRAM_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
    SKIP_RETURN_CODE 77 ENVIRONMENT "${CRASHWORTHY_TEST_ENVIRONMENT}")
  if(arg_SERIAL)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
  endif()
endfunction()

# A sanitizer must not turn an injected death into an exit code of its own.
set(CRASHWORTHY_TEST_ENVIRONMENT
  "ASAN_OPTIONS=handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:detect_leaks=1"
  "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/cmake/tsan.supp:handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0"
  "UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1")

# crashworthy_fuzzer(NAME SOURCES ... LINK targets...)
# makes a libFuzzer program (clang) and registers a short run of it, which starts from an empty corpus and a fixed seed.
function(crashworthy_fuzzer name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  if(NOT CRASHWORTHY_BUILD_FUZZERS)
    return()
  endif()
  add_executable(${name} ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  target_link_libraries(${name} PRIVATE crashworthy_settings ${arg_LINK})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_test(NAME ${name} COMMAND ${name} -seed=1 -runs=200000 -max_total_time=60 -print_final_stats=1)
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT 300)
endfunction()
