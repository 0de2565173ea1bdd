# A stand-in for a Slicer build tree, so that the extension is configured, installed and tested
# without one:
#
#   cmake -C Testing/cmake/initial-cache.cmake -S . -B build/cmake
#   cmake --install build/cmake --prefix build/installed
#
# It has what CMakeLists.txt of this extension uses and no more. Where things go is as in Slicer
# 5.12. Slicer's own macros drop a script whose path begins with ../ or is absolute without a word;
# so does this one.

set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/GenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/ExtensionCPack.cmake")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.12/qt-scripted-modules")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
set(Slicer_STAND_IN_RUNNER "${CMAKE_CURRENT_LIST_DIR}/../slicer/run_unittest.py")
