# The macros of Slicer that this extension calls.

if(NOT DEFINED EXTENSION_NAME)
  set(EXTENSION_NAME "${PROJECT_NAME}")
endif()
include(CTest)  # defines BUILD_TESTING
find_program(Slicer_STAND_IN_PYTHON NAMES python3 python)

# slicerMacroBuildScriptedModule(NAME name SCRIPTS path... RESOURCES path... [WITH_GENERIC_TESTS])
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(_module "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME"
    "SCRIPTS;RESOURCES" ${ARGN})
  if(_module_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: what is ${_module_UNPARSED_ARGUMENTS}?")
  endif()
  if(NOT _module_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: NAME is missing")
  endif()
  foreach(_path IN LISTS _module_SCRIPTS _module_RESOURCES)
    if(IS_ABSOLUTE "${_path}" OR _path MATCHES "(^|/)\\.\\.(/|$)")
      continue()  # as Slicer does
    endif()
    set(_source "${CMAKE_CURRENT_SOURCE_DIR}/${_path}")
    if(NOT EXISTS "${_source}" AND EXISTS "${_source}.py")
      set(_source "${_source}.py")
    endif()
    if(NOT EXISTS "${_source}")
      message(FATAL_ERROR "slicerMacroBuildScriptedModule: there is no ${_source}")
    endif()
    get_filename_component(_folder "${_path}" DIRECTORY)
    file(COPY "${_source}"
      DESTINATION "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${_folder}")
    install(FILES "${_source}"
      DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${_folder}")
  endforeach()
  if(BUILD_TESTING AND _module_WITH_GENERIC_TESTS)
    add_test(NAME "py_nomainwindow_qSlicer${_module_NAME}ModuleGenericTest"
      COMMAND "${Slicer_STAND_IN_PYTHON}" "${Slicer_STAND_IN_RUNNER}" --generic
        "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${_module_NAME}.py")
  endif()
endmacro()

# slicer_add_python_unittest(SCRIPT name.py): runs the unit tests of the module, by the build tree
macro(slicer_add_python_unittest)
  cmake_parse_arguments(_test "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  get_filename_component(_test_name "${_test_SCRIPT}" NAME_WE)
  add_test(NAME "py_${_test_TESTNAME_PREFIX}${_test_name}"
    COMMAND "${Slicer_STAND_IN_PYTHON}" "${Slicer_STAND_IN_RUNNER}"
      "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${_test_SCRIPT}")
endmacro()
