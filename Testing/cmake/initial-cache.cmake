# cmake -C Testing/cmake/initial-cache.cmake -S . -B build/cmake
#
# Slicer's stand-in, and no compilers: nothing here is compiled, and none need be installed.
set(Slicer_DIR "${CMAKE_CURRENT_LIST_DIR}" CACHE PATH "")
foreach(_language C CXX)
  set(CMAKE_${_language}_COMPILER "${CMAKE_COMMAND}" CACHE FILEPATH "")
  set(CMAKE_${_language}_COMPILER_ID_RUN TRUE CACHE BOOL "")
  set(CMAKE_${_language}_COMPILER_FORCED TRUE CACHE BOOL "")
endforeach()
