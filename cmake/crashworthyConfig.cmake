# find_package(crashworthy): the targets crashworthy::worker (the pool), crashworthy::supervision (the
# tree), and what they are made of; crashworthy::point (fault points for a program of yours).
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(nlohmann_json 3.11)
find_dependency(fmt)
find_dependency(Boost 1.81 COMPONENTS filesystem)
include(${CMAKE_CURRENT_LIST_DIR}/crashworthyTargets.cmake)
